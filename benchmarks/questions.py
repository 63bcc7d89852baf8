"""Questions about composed scenes: how many are answered exactly, beside readers who see no picture.

    sensorium bench questions
    sensorium bench questions --table scenes.lance --run runs/questions --limit 500

Composes the scenes, and trains what was not trained yet (`runs/`): recipe `grounding` with names, from it
`questions`, from that `questions-further`, with a short run between the two, as it was measured. An answer is
exact if greedy decoding writes it and nothing else. The readers see the questions alone: the commonest answer
of a question's form, and a linear classifier over its words and word pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from composed_world.question_bias import ALL, question_bias
from machine import machine, write
from sensorium.core.config import parse, read_toml
from sensorium.core.errors import ConfigError
from sensorium.data.table.table import Table
from sensorium.evals.vqa import by_type
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.generative.batches import all_batches
from sensorium.training.generative.evaluate import marks
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import written_measures

ROOT = Path(__file__).parents[1]
PARTS = {
    "seen combinations": "scenes-seen",
    "unseen combinations": "scenes-combinations",
    "unseen kinds": "scenes-objects",
}
CAPTIONS = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, default=ROOT / "runs" / "scenes.lance")
    parser.add_argument("--few", type=Path, default=ROOT / "runs" / "scenes-few.lance")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "questions")
    parser.add_argument("--limit", type=int, default=500, help="held-out scenes of each part")
    arguments = parser.parse_args()
    if not arguments.table.exists():
        sensorium("data", "scenes", "-o", str(arguments.table), "-n", "20000", "--seed", "0")
    if not (arguments.run / "model.safetensors").exists():
        train_in_stages(arguments.table, arguments.few, arguments.run)
    model = load(arguments.run, MultimodalLM)
    recipe = parse(GenerativeRecipe, read_toml(arguments.run / "recipe.toml"), "recipe.toml")
    rows = measure(model, recipe, arguments.limit)
    rows += blind(Table.open(arguments.table), arguments.limit)
    num = sum(parameter.numel() for parameter in model.parameters())
    scenes = ", ".join(
        f"{len(open_task(one, 0).train):,} to {' '.join([one.task, *one.types])}" for one in recipe.data.tasks
    )
    figures = {
        "claim": "Composed scenes: questions answered exactly, by a model of our own from random weights.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": rows,
        "notes": [
            "± is half of a 95 % bootstrap interval over scenes; one seed",
            f"{num / 1e6:.1f} M parameters, its last run over scenes ({scenes}), begun "
            "with what recipe `questions` has learned, and that with what a grounder has",
            " ".join(["command: sensorium bench questions", *sys.argv[1:]]),
        ],
    }
    print(write("questions", figures))


def blind(table: Table, limit: int) -> list[dict[str, object]]:
    """Readers without the picture, on the very questions that the model answers."""
    bias = question_bias(table, num_rows=limit)
    rows: list[dict[str, object]] = []
    for part, source in PARTS.items():
        one = next(one for one in bias if one.source == source and one.type == ALL)
        for reader, found in (("commonest", one.commonest), ("words", one.bag_of_words)):
            what = f"no picture, {reader}: {part}"
            rows.append({"what": what, "exact": round(found.mean, 3), "questions": one.num_questions})
    return rows


def train_in_stages(table: Path, few: Path, run: Path) -> None:
    """What the headers of the recipes say, run after run."""
    if not few.exists():
        make = ["data", "scenes", "-o", str(few), "-n", "12000", "--seed", "1"]
        sensorium(*make, "--things", "2-3", "--questions", "6")
    grounding, first, second = (
        run.parent / name for name in ("grounding-names", "questions-1", "questions-2")
    )
    named = ["model.names=true", "model.image.options.width=24", "train.precision=bf16"]
    train("grounding", grounding, *options(f"data.table={table}", *named))
    train("questions", first, *options(f"start={grounding}", tasks("questions", table)))
    going_on = ["train.unlocked_rate=0.4", "train.lr=1.5e-3", "train.steps=1500"]
    train("questions", second, *options(f"start={first}", tasks("questions", table), *going_on))
    train("questions-further", run, *options(f"start={second}", tasks("questions-further", table, few)))


def options(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def tasks(recipe: str, *tables: Path, weights: Sequence[float] = ()) -> str:
    """The recipe's tasks, over these tables in the order in which it names others."""
    found = read_toml(ROOT / "recipes" / f"{recipe}.toml")["data"]["tasks"]
    known = dict(zip(dict.fromkeys(one["table"] for one in found), map(str, tables), strict=True))
    placed = [one | {"table": known[one["table"]]} for one in found]
    weighed = [one | {"weight": weight} for one, weight in zip(placed, weights, strict=False) if weight]
    return f"data.tasks={inline(weighed or placed)}"


def inline(value: object) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {inline(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def train(recipe: str, run: Path, *more: str) -> None:
    """Train where there is no model yet, or go on."""
    if not (run / "model.safetensors").exists():
        resume = ["--resume"] if (run / "last").exists() else []
        sensorium("train", recipe, "-o", str(run), *more, *resume)


def sensorium(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sensorium", *words], check=True, stdout=subprocess.DEVNULL)


def measure(model: MultimodalLM, recipe: GenerativeRecipe, limit: int) -> list[dict[str, object]]:
    """A row for each part, then one for each type of question among seen combinations."""
    whole = [
        one for one in recipe.data.tasks if not one.types
    ]  # what some types alone were practised on is easier
    tasks = {one.task: open_task(one, recipe.seed) for one in whole}
    if "ask" not in tasks:
        raise ConfigError("the run was not taught to answer; give one of recipe `questions`")
    made: list[dict[str, object]] = []
    kinds: list[dict[str, object]] = []
    for part, source in PARTS.items():
        right: list[bool] = []
        types: list[str] = []
        scenes: list[int] = []
        data = tasks["ask"]
        for lesson, asked in all_batches(model, data, data.test[source][:limit]):
            right += marks(model, lesson)[0]
            types += [one.type for one in asked]
            scenes += lesson.rows.tolist()
        found = by_type(np.array(right), types, groups=np.array(scenes))
        overall = found.overall
        row = {"what": f"model: {part}", "exact": round(overall.mean, 3), "questions": len(right)}
        row["± exact"] = round((overall.high - overall.low) / 2, 3)
        if "caption" in tasks:
            told = written_measures(model, tasks["caption"], tasks["caption"].test[source][:CAPTIONS])
            row |= {name: round(float(value), 3) for name, value in told.items()}
        made.append(row)
        if source == "scenes-seen":
            kinds = [
                {"what": f"model, seen, by type: {name}", "exact": round(one.mean, 3)}
                for name, one in found.by_type.items()
            ]
    return made + kinds


if __name__ == "__main__":
    main()
