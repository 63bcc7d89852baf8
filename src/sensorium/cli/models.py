"""`sensorium models`: lists presets, runs, recipes and encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.output import JsonOption, emit_json, emit_pairs, emit_table, emit_text, note


def models(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Show the card of this run.")] = None,
    runs_in: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Folder that contains runs.")
    ] = Path("runs"),
    pack: Annotated[
        Path | None,
        typer.Option(
            "--pack",
            metavar="FOLDER",
            help="Copy RUN there to share it: a quarter of the size, without local paths.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List presets, runs, recipes and encoders; show a run's card, or pack a run for others."""
    from sensorium.training.runs import find_runs, read_card

    if pack is not None:
        from sensorium.core.errors import UsageError
        from sensorium.training.export import pack as pack_run

        if run is None:
            raise UsageError("--pack needs a run: sensorium models RUN --pack FOLDER")
        num_bytes = pack_run(run, pack)
        shown = {"path": str(pack), "bytes": num_bytes}
        emit_json(shown) if json else emit_pairs({"packed": pack, "MB": f"{num_bytes / 1e6:.1f}"})
        return
    if run is not None:
        card = read_card(run)
        emit_json({"path": str(run), "card": card}) if json else emit_text(card)
        return
    from sensorium.assistants.load import PRESETS
    from sensorium.encoders import ENCODERS
    from sensorium.training.recipe import recipes_dir

    found = find_runs(runs_in)
    recipes = {path.stem: _first_comment(path) for path in sorted(recipes_dir().glob("*.toml"))}
    if json:
        listed = [{"path": str(one.path), "bytes": one.num_bytes, "title": one.title} for one in found]
        presets = {name: one.summary for name, one in PRESETS.items()}
        emit_json({"presets": presets, "runs": listed, "recipes": recipes, "encoders": list(ENCODERS)})
        return
    emit_table(["preset", "summary"], [(name, one.summary) for name, one in PRESETS.items()], "Presets")
    emit_table(
        ["run", "MB", "title"],
        [(str(one.path), one.num_bytes // 1_000_000, one.title) for one in found],
        "Runs",
    )
    emit_table(["recipe", "summary"], recipes.items(), "Recipes")
    emit_pairs({"encoders": ", ".join(ENCODERS)})
    if not found:
        note(f"no runs in {runs_in} yet; next: sensorium quickstart, or sensorium train RECIPE")


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
