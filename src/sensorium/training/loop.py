"""The training loop: from batches to a folder with the best model, the last state and the log.

A run that was killed resumes from its last state and ends with the same parameters, bit for bit on a CPU. The
moving average of the weights is evaluated and kept. Model, batches, criterion and evaluation come as a
`Task`: the loop knows no kind of model and no table.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.config import to_toml
from sensorium.core.errors import TrainingError, UsageError
from sensorium.core.runtime import Progress, autocast, pick_device, quiet
from sensorium.models import checkpoint
from sensorium.training.card import to_markdown
from sensorium.training.criterion import Batch, HasMemory, Objective
from sensorium.training.log import CURVE, RunLog, draw_curve, read_log
from sensorium.training.optim import MovingAverage, build_optimizer, learning_rate, trained
from sensorium.training.recipe import TrainConfig
from sensorium.training.state import STATE, load_state, save_state
from sensorium.training.task import Evaluation, Task

SECONDS_BETWEEN_CURVES = 60.0
SECONDS_BETWEEN_STATES = 30.0


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        folder: The run's folder.
        steps: Steps taken in total.
        best: Best score; None if nothing was evaluated.
        best_step: Its step.
        loss: Mean loss since the last line of the log.
        evaluation: Of the model that was kept; None if nothing was evaluated in this process.
    """

    folder: Path
    steps: int
    best: float | None
    best_step: int
    loss: float
    evaluation: Evaluation | None


def fit(task: Task, folder: Path, *, resume: bool = False, progress: Progress = quiet) -> Outcome:
    """Train, from the beginning or from the last saved state.

    Args:
        task: What to train, on what and how.
        folder: Where the run is written.
        resume: Go on with the run in `folder`.
        progress: Told after each step.

    Raises:
        UsageError: If the folder holds a run already and `resume` is not set.
        TrainingError: If the loss is not finite, or the run in the folder is of another recipe or other data.
    """
    if not resume and (folder / STATE).exists():
        raise UsageError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    if task.recipe.train.start_share and not task.pretrained:
        raise UsageError("train.start_share needs a run to start from; name it in `start`, or leave it out")
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        return _Run(task, folder, progress).go()


class _Run:
    """One run in progress."""

    def __init__(self, task: Task, folder: Path, progress: Progress) -> None:
        self.task, self.folder, self.progress = task, folder, progress
        self.config = train = task.recipe.train
        self.device = pick_device(train.device)
        self.model = task.model.to(self.device)
        self.optimizer = build_optimizer(self.model, train, task.pretrained)
        self.average = MovingAverage(self.model, train.ema, train.start_share, task.pretrained)
        self.total = num_steps(train, len(task.batches))
        self.warmup = round(train.warmup * self.total) if train.warmup < 1 else int(train.warmup)
        self.memory = task.criterion.memory if isinstance(task.criterion, HasMemory) else {}
        self.recipe = task.recipe.model_dump(mode="json", exclude_none=True)
        self.identity = {**task.recipe.model_dump(mode="json"), **task.data}
        parts = (self.model, self.optimizer, self.average, self.memory)
        self.state = load_state(folder, self.identity, *parts)
        self.meter = _Meter()
        self.evaluation: Evaluation | None = None
        self.saved_at = time.monotonic()

    def go(self) -> Outcome:
        state = self.state
        self.progress(state.step, self.total, "training")
        with RunLog(
            self.folder,
            num_bytes=state.log_bytes,
            step=state.step,
            tensorboard=self.config.tensorboard,
        ) as self.log:
            if state.step == 0:
                self._save()
            while self.state.step < self.total:
                self._run_epoch()
        self._draw()
        done = self.state
        return Outcome(self.folder, done.step, done.best, done.best_step, self.meter.last, self.evaluation)

    def _run_epoch(self) -> None:
        start = self.state
        for batch in self.task.batches.epoch(start.epoch, start.offset):
            self._step(batch)
            place, done = self.task.batches.state(), self.state
            self.state = replace(
                done,
                step=done.step + 1,
                seen=done.seen + len(batch.rows),
                epoch=place.epoch,
                offset=place.offset,
            )
            self._after_step()
            if self.state.step >= self.total:
                return
        if self.state.step == start.step and start.offset == 0:
            raise TrainingError("no row of an epoch could be read; see why with `sensorium data show`")
        self.state = replace(self.state, epoch=start.epoch + 1, offset=0)

    def _step(self, batch: Batch) -> None:
        step, train = self.state.step, self.config
        torch.manual_seed(_stream(self.task.recipe.seed, step))
        rate = learning_rate(step, peak=train.lr, warmup=self.warmup, total=self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        moved = batch.to(self.device)
        with autocast(self.device, train.precision):
            outputs = self.model(moved)
        found = self.task.criterion(self.model, outputs, moved)
        self._check(found.total, batch, outputs, "loss")
        found.total.backward()
        norm = self._clip()
        self._check(norm, batch, outputs, "norm of the gradient")
        self.optimizer.step()
        self.average.update(step)
        self.meter.add(found, float(norm), rate, len(batch.rows))

    def _clip(self) -> Float[Tensor, ""]:
        parameters = list(trained(self.model).values())
        limit = self.config.clip_norm
        return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf)

    def _after_step(self) -> None:
        train, step = self.config, self.state.step
        is_last = step == self.total
        if step % train.log_every == 0 or is_last:
            record = self.meter.take() | {"epoch": self.state.epoch}
            self.log.write(step, {**record, **self.task.criterion.log_values(self.model)})
        self.progress(step, self.total, self.meter.message())
        is_evaluated = is_last or (train.eval_every > 0 and step % train.eval_every == 0)
        if is_evaluated:
            self._evaluate()
        if is_last or self._is_save_due(is_evaluated):
            self._save()

    def _is_save_due(self, is_evaluated: bool) -> bool:
        every = self.config.save_every
        if every > 0:
            return self.state.step % every == 0
        return is_evaluated or time.monotonic() - self.saved_at > SECONDS_BETWEEN_STATES

    def _evaluate(self) -> None:
        """Measure the averaged model and keep it if it is the best so far."""
        step, evaluation, kept = self.state.step, None, self.average.kept()
        if self.task.evaluate is not None:
            evaluation = self.task.evaluate(kept)
            self.log.write(step, {"score": evaluation.score, **evaluation.metrics})
            best = self.state.best
            is_best = best is None or evaluation.score > best
            if is_best:
                self.state = replace(self.state, best=evaluation.score, best_step=step)
            if not is_best and self.config.keep == "best":
                return
        self.evaluation = evaluation
        card = to_markdown(self.task.describe(evaluation), to_toml(self.recipe), step)
        checkpoint.save(kept, self.folder, card=card)
        self._draw(at_most_every_s=SECONDS_BETWEEN_CURVES)
        self.meter.restart_clock()

    def _save(self) -> None:
        self.state = replace(self.state, log_bytes=self.log.num_bytes())
        state = (self.model, self.optimizer, self.average, self.memory)
        save_state(self.folder, self.state, self.identity, *state)
        self.saved_at = time.monotonic()
        self.meter.restart_clock()

    def _draw(self, at_most_every_s: float = 0.0) -> None:
        path = self.folder / CURVE
        if at_most_every_s > 0 and path.exists() and time.time() - path.stat().st_mtime < at_most_every_s:
            return
        draw_curve(path, read_log(self.log.path))

    def _check(self, value: Float[Tensor, ""], batch: Batch, outputs: object, what: str) -> None:
        """Stop before a value that is not finite reaches the weights."""
        if bool(torch.isfinite(value.detach())):
            return
        bad = self.task.criterion.bad_rows(outputs, batch)
        rows = list(dict.fromkeys(bad)) or batch.rows.tolist()
        names = ", ".join(self.task.name_rows(rows))
        whose = "rows without a finite vector" if bad else "rows of the batch"
        raise TrainingError(
            f"{what} is {value.item()} at step {self.state.step}; {whose}: {names}; "
            "lower train.lr, or take these rows out"
        )


class _Meter:
    """Mean losses and throughput since the last line of the log."""

    def __init__(self) -> None:
        self.last = math.nan
        self._records: list[dict[str, float]] = []
        self._seen = 0
        self._since = time.monotonic()
        self._rate = 0.0

    def add(self, found: Objective, norm: float, rate: float, num_rows: int) -> None:
        terms = {f"loss/{name}": float(term.detach()) for name, term in found.terms.items()}
        self._records.append({"loss": float(found.total.detach()), **terms, "grad_norm": norm, "lr": rate})
        self._seen += num_rows
        elapsed = time.monotonic() - self._since
        self._rate = self._seen / elapsed if elapsed > 0 else 0.0

    def take(self) -> dict[str, float]:
        """Return the means and start again."""
        names = dict.fromkeys(name for record in self._records for name in record)
        means = {name: float(np.mean([r[name] for r in self._records if name in r])) for name in names}
        self.last = means["loss"]
        result = means | {"samples_per_s": round(self._rate, 1)}
        self._records = []
        self.restart_clock()
        return result

    def restart_clock(self) -> None:
        """Leave the time since the last batch out of the throughput."""
        self._seen, self._since = 0, time.monotonic()

    def message(self) -> str:
        loss = self._records[-1]["loss"] if self._records else self.last
        return f"training · loss {loss:.3f} · {self._rate:,.0f} samples/s"


def num_steps(train: TrainConfig, batches_per_epoch: int) -> int:
    """Steps of a run.

    Raises:
        TrainingError: If there is not one batch.
    """
    if batches_per_epoch < 1:
        raise TrainingError(f"fewer training rows than batch_size={train.batch_size}; lower train.batch_size")
    if train.steps is not None:
        return train.steps
    assert train.epochs is not None
    return max(1, math.ceil(train.epochs * batches_per_epoch))


def _stream(seed: int, step: int) -> int:
    """Seed of one step's random numbers."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, dtype=np.uint64)[0] >> np.uint64(1))
