"""A tiny table for every task, and recipes over it: squares that are asked about, named and spoken."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from small_tables import sound

from region_world import SIDE, square_sample
from sensorium.data.questions import KEY, Question, to_meta
from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.data.table.table import Table

FRENCH = {"red": "rouge", "green": "vert", "blue": "bleu"}


def task_sample(number: int, source: str, seed: int = 0) -> Sample:
    """Two squares: what colour stands left and right, a caption in two languages, and a clip for most."""
    plain = square_sample(number, source, seed)
    left, right = (region.text.split()[1] for region in plain.regions[:2])
    asked = [
        Question("What is left?", left, "relation"),
        Question("What is right?", right, "relation"),
        Question(f"Is there a {left} square?", "yes", "presence"),
    ]
    return replace(
        plain,
        texts=[
            Caption("en", f"a {left} and a {right} square"),
            Caption("fr", f"un {FRENCH[left]} et un {FRENCH[right]}"),
        ],
        speech=[Clip("en", sound(150 + 50 * number, 0.2))] if number % 3 else [],
        meta={KEY: to_meta(asked), "sounds": f"a# {left} and a# {right} skwe@", "voice": "en-us+m1"},
        regions=(),
        group=f"{source}-{number}",
    )


def task_table(path: Path, num_train: int = 24, num_test: int = 6) -> Table:
    table = Table.create(path, licence="CC0-1.0")
    table.add(task_sample(number, "squares") for number in range(num_train))
    table.add(task_sample(number, "squares-test", seed=1) for number in range(num_test))
    return table


def task(table: Path, name: str, **options: Any) -> dict[str, Any]:
    return {"task": name, "table": str(table), "test": {"source": "squares-test"}, **options}


def recipe_values(tasks: list[dict[str, Any]], **train: Any) -> dict[str, Any]:
    cnn = {"width": 8, "depths": [1, 1]}
    return {
        "task": "generate",
        "data": {"tasks": tasks, "vocab_size": 300, "max_measured": 6},
        "model": {
            "dim": 32,
            "fusion_options": {"depth": 1},
            "sources": {
                "image": {"encoder": "image-cnn", "options": {**cnn, "size_px": SIDE}},
                "text": {"encoder": "text-gru", "options": {"width": 32}},
                "audio": {"encoder": "audio-cnn", "options": {**cnn, "dim": 16, "num_mels": 40}},
            },
            "decoders": {"text": {"width": 32, "depth": 1}},
        },
        "train": {
            "steps": 5, "batch_size": 7, "lr": 3e-3, "tensorboard": False, "log_every": 1, **train,
        },
    }  # fmt: skip
