"""Fusions at equal size: accuracy with every subset of modalities, and as they go missing; cost.

    sensorium bench fusion [--seeds 5] [--tasks xor redundancy unique stamps]

The protocol of MultiBench (arXiv:2107.07502) and MMSA, with numbers of parameters made equal (within 10 %),
several seeds with intervals, every subset of modalities at test time, the area under accuracy over missing
rate, specialists of one modality, their late average and the majority class beside. One thread. Fails if the
joint Transformer does not solve XOR across modalities, or if late averaging does. Writes
`results/fusion.json` and `docs/images/fusion-*.png`; `--draw` draws the images of the last results again.
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion_figures import draw_missing, draw_subsets
from fusion_tasks import MADE, Rows, Subset, Task, batches, made_task, stamps_task, subsets
from machine import RESULTS, machine, write
from sensorium.core.types import Tokens
from sensorium.fusion import FUSIONS, build

OUT_DIM = 32
BATCH, LR, WEIGHT_DECAY = 64, 3e-3, 0.05
STEPS = {"xor": 300, "redundancy": 120, "unique": 200, "stamps": 150}
MODALITY_DROPOUT = 0.2
TARGET = {"made": 32_000, "stamps": 110_000}
WITHIN = 0.1
MIN_SIZE, MAX_SIZE = 2, 512
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
LATE, MAJORITY = "late average", "majority class"
SOLVED, UNSOLVED = 0.98, 0.60
IMAGES = Path(__file__).parents[1] / "docs" / "images"
CLAIM = "Fusions at equal size, beside late averaging and specialists: accuracy with all modalities; cost."
NOTES = [
    "xor, redundancy, unique: made, three modalities, best score known; rows are seen once",
    "stamps: top folder (12 classes) from picture, English caption and what is heard; a quarter of the "
    "captions, with all their rows, held out",
    "area: under accuracy over the rate at which each modality is missing, from all 2^M subsets, exactly",
    f"fusions and late average: {TARGET['made']:,} parameters (made tasks) or {TARGET['stamps']:,} (stamps) "
    f"within {WITHIN:.0%}; {', '.join(f'{steps} steps ({task})' for task, steps in STEPS.items())} "
    f"of {BATCH} rows; modality dropout {MODALITY_DROPOUT}",
    "only ...: one of the specialists that late average averages; parameters, kFLOPs (forward, one row) and "
    "CPU seconds are those of the last task",
]


class Classifier(nn.Module):
    """A fusion and a linear reading of its vector."""

    def __init__(self, name: str, dims: Mapping[str, int], num_classes: int, options: dict[str, int]) -> None:
        super().__init__()
        dropout = MODALITY_DROPOUT if len(dims) > 1 else 0.0
        self.fusion = build(name, dims, OUT_DIM, modality_dropout=dropout, **options)
        self.head = nn.Linear(OUT_DIM, num_classes)

    def forward(self, features: Mapping[str, Tokens], present: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return self.head(self.fusion(features, present).pooled)

    @property
    def num_parameters(self) -> int:
        """The reading's too."""
        return sum(parameter.numel() for parameter in self.parameters())


def blocks(size: int) -> dict[str, int]:
    """Four heads; between two widths the MLPs grow from 2 to 3.5 times the width."""
    width = 4 * (size // 4 + 1)
    return {"width": width, "num_heads": 4, "mlp_dim": 2 * width + size % 4 * width // 2}


OPTIONS: dict[str, Callable[[int], dict[str, int]]] = {
    "concat": lambda size: {"width": 2 * size},
    "weighted": lambda size: {"width": 2 * size},
    "gated": lambda size: {"width": 2 * size},
    "tensor": lambda size: {"width": size, "factor_dim": 7},
    "lowrank": lambda size: {"width": size},
    "cross_attention": blocks,
    "mult": blocks,
    "bottleneck": blocks,
    "transformer": blocks,
}
"""How each fusion grows with one whole number."""


def of_size(name: str, dims: Mapping[str, int], num_classes: int, target: int) -> Classifier:
    """The classifier whose number of parameters is nearest to `target`."""

    def excess(size: int) -> int:
        with torch.device("meta"):
            model = Classifier(name, dims, num_classes, OPTIONS[name](size))
        return model.num_parameters - target

    above = bisect.bisect_left(range(MAX_SIZE), 0, lo=MIN_SIZE + 1, key=excess)
    nearest = min((above - 1, above), key=lambda size: abs(excess(size)))
    return Classifier(name, dims, num_classes, OPTIONS[name](nearest))


@dataclass(frozen=True)
class Measured:
    """One model, one task, one seed."""

    accuracy: dict[Subset, float]
    num_parameters: int
    flops: int
    train_cpu_s: float

    @property
    def area(self) -> float:
        """Area under accuracy over the rate r at which each modality is missing, independently.

        A subset of k of M modalities has the chance (1 - r)^k r^(M - k), whose integral over r is
        k! (M - k)! / (M + 1)!: the mean over k of the mean over subsets of that size. No sampling.
        """
        most = max(len(subset) for subset in self.accuracy)
        by_size = [
            [value for subset, value in self.accuracy.items() if len(subset) == k] for k in range(most + 1)
        ]
        return statistics.mean(statistics.mean(values) for values in by_size)


def train(model: Classifier, rows: Rows, num_steps: int, seed: int) -> float:
    """AdamW on a cosine; returns CPU seconds."""
    columns = [list(rows.features).index(name) for name in model.fusion.modalities]
    usable = rows.present[:, columns].any(dim=1).nonzero()[:, 0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    started = time.process_time()
    model.train()
    for numbers in batches(len(usable), BATCH, num_steps, torch.Generator().manual_seed(seed)):
        batch = rows.take(usable[numbers])
        features = {name: batch.features[name] for name in model.fusion.modalities}
        loss = functional.cross_entropy(model(features, batch.present[:, columns]), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    return time.process_time() - started


@torch.no_grad()
def score(predict: Callable[[Tensor], Tensor], test: Rows) -> dict[Subset, float]:
    """Accuracy with each subset of the modalities, the others hidden; `predict` takes who is present."""
    names = list(test.features)
    found = {}
    for subset in subsets(names):
        kept = torch.tensor([name in subset for name in names])
        found[subset] = float((predict(test.present & kept) == test.labels).float().mean())
    return found


def measure_fusion(name: str, task: Task, target: int, seed: int) -> Measured:
    torch.manual_seed(seed)
    model = of_size(name, task.dims, task.num_classes, target)
    torch.manual_seed(seed)
    seconds = train(model, task.train, STEPS[task.name], seed)
    accuracy = score(lambda here: model(task.test.features, here).argmax(dim=1), task.test)
    return Measured(accuracy, model.num_parameters, model.fusion.flops(task.lengths), seconds)


def measure_apart(task: Task, target: int, seed: int) -> tuple[Measured, dict[str, Measured]]:
    """Specialists of one modality, a share of the parameters each, and the average of what they say."""
    prior = torch.bincount(task.train.labels, minlength=task.num_classes) / len(task.train)
    said, alone = [], {}
    for column, (name, dim) in enumerate(task.dims.items()):
        torch.manual_seed(seed)
        model = of_size("concat", {name: dim}, task.num_classes, target // len(task.dims))
        seconds = train(model, task.train, STEPS[task.name], seed)
        here = task.test.present[:, column : column + 1]
        with torch.no_grad():
            said.append(model({name: task.test.features[name]}, here).softmax(dim=1))
        right = torch.where(here[:, 0], said[-1].argmax(dim=1), prior.argmax()) == task.test.labels
        accuracy = {(name,): float(right.float().mean())}
        flops = model.fusion.flops({name: task.lengths[name]})
        alone[f"only {name}"] = Measured(accuracy, model.num_parameters, flops, seconds)
    together = torch.stack(said, dim=1)

    def predict(here: Tensor) -> Tensor:
        mean = (together * here[..., None]).sum(dim=1) / here.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.where(here.any(dim=1, keepdim=True), mean, prior).argmax(dim=1)

    parts = alone.values()
    late = Measured(
        score(predict, task.test),
        sum(one.num_parameters for one in parts),
        sum(one.flops for one in parts),
        sum(one.train_cpu_s for one in parts),
    )
    return late, alone


def measure_task(name: str, seeds: Sequence[int]) -> tuple[dict[str, list[Measured]], Task]:
    """All contenders, all seeds."""
    found: dict[str, list[Measured]] = {}
    for seed in seeds:
        task = stamps_task(seed) if name == "stamps" else made_task(name, seed, BATCH * STEPS[name])
        target = TARGET.get(name, TARGET["made"])
        for fusion in FUSIONS:
            found.setdefault(fusion, []).append(measure_fusion(fusion, task, target, seed))
        late, alone = measure_apart(task, target, seed)
        for contender, measured in {LATE: late, **alone}.items():
            found.setdefault(contender, []).append(measured)
        most = torch.bincount(task.train.labels).argmax()
        always = score(lambda here, most=most: most.expand(len(here)), task.test)
        found.setdefault(MAJORITY, []).append(Measured(always, 0, 0, 0.0))
        _report(name, seed, found)
    return found, task


def _report(name: str, seed: int, found: Mapping[str, list[Measured]]) -> None:
    whole = {key: one[-1].accuracy[max(one[-1].accuracy, key=len)] for key, one in found.items()}
    shown = ", ".join(f"{key} {value:.3f}" for key, value in whole.items())
    print(f"{name}, seed {seed}: {shown}", file=sys.stderr, flush=True)


def interval(values: Sequence[float]) -> list[float]:
    """Mean over seeds, and half of its 95 % interval (Student's t)."""
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return [round(statistics.mean(values), 4), round(half, 4)]


def summary(found: Mapping[str, list[Measured]], task: Task) -> dict[str, object]:
    """What one task gave: for each contender its accuracies, area and cost."""
    contenders = {
        name: {
            "accuracy": {
                "+".join(subset): interval([one.accuracy[subset] for one in measured])
                for subset in measured[0].accuracy
            },
            "area": interval([one.area for one in measured]) if len(measured[0].accuracy) > 1 else None,
            "parameters": measured[0].num_parameters,
            "flops": measured[-1].flops,
            "train_cpu_s": round(statistics.mean(one.train_cpu_s for one in measured), 2),
        }
        for name, measured in found.items()
    }
    best = None if task.best is None else {"+".join(one): value for one, value in task.best.items()}
    return {"modalities": list(task.dims), "lengths": task.lengths, "best": best, "contenders": contenders}


def table(tasks: Mapping[str, dict]) -> list[dict[str, object]]:
    """One row a contender: accuracy with all modalities for each task, area and cost."""
    last = list(tasks)[-1]
    rows = []
    for name, cost in tasks[last]["contenders"].items():
        row: dict[str, object] = {"what": name}
        for task, found in tasks.items():
            one = found["contenders"].get(name)
            if one is not None:
                row[task], row[f"± {task}"] = one["accuracy"][max(one["accuracy"], key=len)]
        if cost["area"] is not None:
            row[f"{last} area"], row[f"± {last} area"] = cost["area"]
        row |= {"parameters": cost["parameters"], "kFLOPs": round(cost["flops"] / 1000)}
        rows.append({**row, "train CPU s": cost["train_cpu_s"]})
    known = {name: found["best"] for name, found in tasks.items() if found["best"] is not None}
    return [
        *rows,
        {"what": "best possible", **{name: best[max(best, key=len)] for name, best in known.items()}},
    ]


def check(tasks: Mapping[str, dict]) -> None:
    """Sizes are matched, and XOR is solved by what can and not by what cannot.

    Raises:
        SystemExit: Otherwise.
    """
    for task, found in tasks.items():
        target = TARGET.get(task, TARGET["made"])
        for name in (*FUSIONS, LATE):
            size = found["contenders"][name]["parameters"]
            if abs(size / target - 1) > WITHIN:
                sys.exit(f"{task}: {name} has {size:,} parameters, not {target:,} within {WITHIN:.0%}")
    if "xor" in tasks:
        got = {
            name: one["accuracy"]["sight+sound+words"][0]
            for name, one in tasks["xor"]["contenders"].items()
            if name in FUSIONS or name == LATE
        }
        if got["transformer"] < SOLVED or max(got["weighted"], got[LATE]) > UNSOLVED:
            sys.exit(f"xor: expected transformer >= {SOLVED}, weighted and {LATE} <= {UNSOLVED}; got {got}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, choices=range(2, 11), metavar="2..10", default=5)
    parser.add_argument("--tasks", nargs="+", choices=[*MADE, "stamps"], default=[*MADE, "stamps"])
    parser.add_argument("--draw", action="store_true", help="draw the figures of the last results again")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(json.loads((RESULTS / "fusion.json").read_text())["tasks"])
        return
    torch.set_num_threads(1)
    started = time.process_time()
    tasks = {name: summary(*measure_task(name, range(arguments.seeds))) for name in arguments.tasks}
    check(tasks)
    here = machine(("torch", "numpy", "sensorium"))
    figures = {
        "claim": CLAIM,
        "date": here["date"],
        "machine": here,
        "rows": table(tasks),
        "notes": [
            f"mean of {arguments.seeds} seeds; ± is a 95 % interval of that mean (Student's t)",
            *NOTES,
            f"command: sensorium bench fusion --seeds {arguments.seeds} --tasks {' '.join(arguments.tasks)}; "
            f"{time.process_time() - started:.0f} CPU seconds, one thread",
        ],
        "tasks": tasks,
    }
    print(write("fusion", figures))
    draw(tasks)


def draw(tasks: Mapping[str, dict]) -> None:
    """Both figures, for the last of the tasks and those whose best is known."""
    draw_missing(tasks, IMAGES / "fusion-missing.png")
    draw_subsets(tasks, IMAGES / "fusion-subsets.png")


if __name__ == "__main__":
    main()
