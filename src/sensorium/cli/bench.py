"""`sensorium bench`: lists and runs the benchmark scripts of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli.output import JsonOption, emit_json, emit_table, note
from sensorium.cli.parameters import check_unused

app = typer.Typer(add_completion=False)


@app.command(context_settings={"ignore_unknown_options": True})
def bench(
    name: Annotated[str, typer.Argument(help="Script to run; by default all are listed.")] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="Arguments of the script.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List and run the benchmarks of a checkout.

    Results are written to benchmarks/results/*.json.
    """
    scripts = find_scripts()
    if not name:
        listed = {path.stem: summary(path) for path in scripts.values()}
        emit_json(listed) if json else emit_table(["benchmark", "what it measures"], listed.items())
        if not scripts:
            note(
                "no benchmarks here: they come with a checkout of the source, not with the installed package"
            )
        return
    from sensorium.core.errors import NotFoundError

    check_unused({"--json": json}, "is for the list; scripts write benchmarks/results/*.json")
    if name not in scripts:
        known = ", ".join(scripts) or "none; benchmarks come with a checkout of the source"
        raise NotFoundError(f"no benchmark '{name}'; known: {known}")
    command = [sys.executable, str(scripts[name]), *(arguments or [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def find_scripts() -> dict[str, Path]:
    """Benchmark scripts of the checkout by name."""
    folder = Path(__file__).parents[3] / "benchmarks"
    paths = sorted(folder.glob("*.py")) if (folder.parent / "pyproject.toml").is_file() else []
    return {path.stem: path for path in paths if "__main__" in path.read_text(encoding="utf-8")}


def summary(path: Path) -> str:
    """First line of a script's docstring."""
    import ast

    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
