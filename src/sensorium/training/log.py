"""Log of a run: `log.jsonl`, TensorBoard events and a plot of the loss.

A resumed run truncates the log to its length at the saved state, so that no step occurs twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from sensorium.core.files import replace_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
CURVE = "curve.png"
Figures = Mapping[str, float | Sequence[float]]
Record = Mapping[str, float | str | Figures]


class RunLog:
    """The log of one run, open for appending; use as a context manager.

    Args:
        folder: The run's folder.
        num_bytes: Length to which an existing log is truncated.
        step: TensorBoard events from this step on are discarded.
        tensorboard: Write TensorBoard events too.
    """

    def __init__(self, folder: Path, *, num_bytes: int, step: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        self._file = self.path.open("ab")
        self._file.truncate(num_bytes)
        self._file.seek(0, os.SEEK_END)
        self._board = _open_board(folder / "tensorboard", step) if tensorboard else None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, step: int, record: Record) -> None:
        """Append a line, and its numbers to TensorBoard.

        Args:
            step: The step it speaks of.
            record: Numbers, words, and numbers by name under a heading.
        """
        line = json.dumps({"step": step, **record}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _numbers(record).items():
                self._board.add_scalar(name, value, step)

    def num_bytes(self) -> int:
        """Length of the log after syncing it to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


def read_log(path: Path) -> list[dict[str, object]]:
    """Read a log's lines, without an incomplete last line."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def draw_curve(path: Path, records: Sequence[Mapping[str, object]], score_name: str = "score") -> None:
    """Plot loss and validation score over the steps as a PNG.

    Args:
        path: File to write.
        records: Lines of a log; `loss` and `score` are plotted.
        score_name: Label of the score.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    scores = _points(records, "score")
    axes.plot(*_points(records, "loss"), color="tab:blue")
    axes.set(xlabel="step", ylabel="loss")
    if len(scores[0]):
        right = axes.twinx()
        right.plot(*scores, color="tab:orange", marker=".")
        right.set_ylabel(score_name, color="tab:orange")
    replace_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def _points(
    records: Sequence[Mapping[str, object]], name: str
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    found = [line for line in records if name in line]
    return np.array([line["step"] for line in found], float), np.array([line[name] for line in found], float)


def _numbers(record: Record) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {
                f"{name}/{key}": number for key, number in value.items() if isinstance(number, int | float)
            }
        elif isinstance(value, int | float):
            flat[name] = value
    return flat


def _open_board(folder: Path, step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step)
