"""The training loop: batches in, a folder with the best model, the last state and the log out.

A run that was killed goes on from its last state and ends with the same parameters, bit for bit on a CPU.
What is evaluated, and kept, is the moving average of the weights. How to evaluate comes from outside, as a
callback, and what is minimised as a criterion: training knows no kind of model, no evaluation, no table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.errors import TrainingError, UsageError
from sensorium.core.runtime import Progress, autocast, pick_device, quiet
from sensorium.data.loading.order import LoaderState
from sensorium.models import checkpoint
from sensorium.training.log import CURVE, Figures, RunLog, draw_curve, read_log
from sensorium.training.embedding.criterion import Batch, Criterion, Objective, Remembering
from sensorium.training.optim import MovingAverage, build_optimizer, trained
from sensorium.training.recipe import TrainConfig
from sensorium.training.optim import learning_rate
from sensorium.training.state import STATE, Identity, load_state, save_state

SECONDS_BETWEEN_CURVES = 60.0
SECONDS_BETWEEN_STATES = 30.0


@runtime_checkable
class Batches(Protocol):
    """What gives batches: an order that depends on seed and epoch alone, entered at any place."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the one numbered `offset` on."""

    def state(self) -> LoaderState:
        """The place after the last batch that was given."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        score: The number by which the best model is chosen; higher is better.
        score_name: What it measures.
        metrics: By kind, as {"image->text": {"R@1": 0.5}}.
    """

    score: float
    score_name: str = "score"
    metrics: Mapping[str, Figures] = field(default_factory=dict)


Evaluate = Callable[[Any], Evaluation]
"""Given the averaged model, of whatever class the job's model is."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs.

    Attributes:
        model: Trained in place; `models.checkpoint` must know its class.
        batches: What it is trained on.
        loss: What is minimised.
        train: How.
        seed: Names the random streams.
        folder: Where the run is written.
        identity: Recipe and data as plain values; a resumed run must have the same.
        evaluate: Called with the averaged model; None keeps the last model.
        name_rows: Turns row numbers of a batch into names for messages.
        card: Writes the model's card from the best evaluation.
        progress: Told after each step.
        brought: Names of parameters that another run trained before.
    """

    model: nn.Module
    batches: Batches
    loss: Criterion
    train: TrainConfig
    seed: int
    folder: Path
    identity: Identity = field(default_factory=dict)
    evaluate: Evaluate | None = None
    name_rows: Callable[[Sequence[int]], list[str]] = lambda rows: [str(row) for row in rows]
    card: Callable[[Evaluation | None, int], str] = lambda evaluation, step: ""
    progress: Progress = quiet
    brought: Collection[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: Where it stands.
        steps: Steps taken in all.
        best: Best score, or None where nothing was evaluated.
        best_step: Its step.
        loss: Mean loss of the last logged stretch.
        evaluation: Of the model that was kept; None where nothing was evaluated in this process.
    """

    folder: Path
    steps: int
    best: float | None
    best_step: int
    loss: float
    evaluation: Evaluation | None


def fit(job: Job, *, resume: bool = False) -> Outcome:
    """Train, from the beginning or from where a killed run left its state.

    Args:
        job: What to train, on what and how.
        resume: Go on with the run in `job.folder`.

    Raises:
        UsageError: If the folder holds a run already and `resume` is not set.
        TrainingError: If the loss is not finite, or the run in the folder is of another recipe or other data.
    """
    if not resume and (job.folder / STATE).exists():
        raise UsageError(f"{job.folder} holds a run already; go on with --resume, or choose another folder")
    if job.train.start_share and not job.brought:
        raise UsageError("train.start_share is of a run that was gone on with; name it in `start`")
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        return _Run(job).go()


class _Run:
    """One run while it goes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = pick_device(job.train.device)
        self.model = job.model.to(self.device)
        self.optimizer = build_optimizer(self.model, job.train, job.brought)
        self.average = MovingAverage(self.model, job.train.ema, job.train.start_share, job.brought)
        self.total = num_steps(job.train, len(job.batches))
        warmup = job.train.warmup
        self.warmup = round(warmup * self.total) if warmup < 1 else int(warmup)
        self.memory = job.loss.memory if isinstance(job.loss, Remembering) else {}
        parts = (self.model, self.optimizer, self.average, self.memory)
        self.standing = load_state(job.folder, job.identity, *parts)
        self.meter = _Meter()
        self.evaluation: Evaluation | None = None
        self.saved_at = time.monotonic()

    def go(self) -> Outcome:
        standing = self.standing
        self.job.progress(standing.step, self.total, "training")
        with RunLog(
            self.job.folder,
            num_bytes=standing.log_bytes,
            step=standing.step,
            tensorboard=self.job.train.tensorboard,
        ) as self.log:
            if standing.step == 0:
                self._save()
            while self.standing.step < self.total:
                self._run_epoch()
        self._draw()
        done = self.standing
        return Outcome(
            self.job.folder, done.step, done.best, done.best_step, self.meter.last, self.evaluation
        )

    def _run_epoch(self) -> None:
        start = self.standing
        for batch in self.job.batches.epoch(start.epoch, start.offset):
            self._step(batch)
            place, done = self.job.batches.state(), self.standing
            self.standing = replace(
                done,
                step=done.step + 1,
                seen=done.seen + len(batch.rows),
                epoch=place.epoch,
                offset=place.offset,
            )
            self._after_step()
            if self.standing.step >= self.total:
                return
        if self.standing.step == start.step and start.offset == 0:
            raise TrainingError("no row of an epoch could be read; see why with `sensorium data show`")
        self.standing = replace(self.standing, epoch=start.epoch + 1, offset=0)

    def _step(self, batch: Batch) -> None:
        step, train = self.standing.step, self.job.train
        torch.manual_seed(_stream(self.job.seed, step))
        rate = learning_rate(step, peak=train.lr, warmup=self.warmup, total=self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        moved = batch.to(self.device)
        with autocast(self.device, train.precision):
            outputs = self.model(moved)
        found = self.job.loss(self.model, outputs, moved)
        self._check(found.total, batch, outputs, "loss")
        found.total.backward()
        norm = self._clip()
        self._check(norm, batch, outputs, "norm of the gradient")
        self.optimizer.step()
        self.average.update(step)
        self.meter.add(found, float(norm), rate, len(batch.rows))

    def _clip(self) -> Float[Tensor, ""]:
        parameters = list(trained(self.model).values())
        limit = self.job.train.clip_norm
        return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf)

    def _after_step(self) -> None:
        train, step = self.job.train, self.standing.step
        is_last = step == self.total
        if step % train.log_every == 0 or is_last:
            record = self.meter.take() | {"epoch": self.standing.epoch}
            self.log.write(step, {**record, **self.job.loss.figures(self.model)})
        self.job.progress(step, self.total, self.meter.message())
        is_evaluated = is_last or (train.eval_every > 0 and step % train.eval_every == 0)
        if is_evaluated:
            self._evaluate()
        if is_last or self._is_save_due(is_evaluated):
            self._save()

    def _is_save_due(self, is_evaluated: bool) -> bool:
        every = self.job.train.save_every
        if every > 0:
            return self.standing.step % every == 0
        return is_evaluated or time.monotonic() - self.saved_at > SECONDS_BETWEEN_STATES

    def _evaluate(self) -> None:
        """Measure the averaged model and keep it if it is the best so far."""
        step, evaluation, kept = self.standing.step, None, self.average.kept()
        if self.job.evaluate is not None:
            evaluation = self.job.evaluate(kept)
            self.log.write(step, {"score": evaluation.score, **evaluation.metrics})
            best = self.standing.best
            is_best = best is None or evaluation.score > best
            if is_best:
                self.standing = replace(self.standing, best=evaluation.score, best_step=step)
            if not is_best and self.job.train.keep == "best":
                return
        self.evaluation = evaluation
        checkpoint.save(kept, self.job.folder, card=self.job.card(evaluation, step))
        self._draw(at_most_every_s=SECONDS_BETWEEN_CURVES)
        self.meter.restart_clock()

    def _save(self) -> None:
        self.standing = replace(self.standing, log_bytes=self.log.num_bytes())
        state = (self.model, self.optimizer, self.average, self.memory)
        save_state(self.job.folder, self.standing, self.job.identity, *state)
        self.saved_at = time.monotonic()
        self.meter.restart_clock()

    def _draw(self, at_most_every_s: float = 0.0) -> None:
        path = self.job.folder / CURVE
        if at_most_every_s > 0 and path.exists() and time.time() - path.stat().st_mtime < at_most_every_s:
            return
        draw_curve(path, read_log(self.log.path))

    def _check(self, value: Float[Tensor, ""], batch: Batch, outputs: object, what: str) -> None:
        """Stop before a number that is not finite reaches the weights."""
        if bool(torch.isfinite(value.detach())):
            return
        wrong = self.job.loss.broken(outputs, batch)
        rows = list(dict.fromkeys(wrong)) or batch.rows.tolist()
        names = ", ".join(self.job.name_rows(rows))
        whose = "rows without a finite vector" if wrong else "rows of the batch"
        raise TrainingError(
            f"{what} is {value.item()} at step {self.standing.step}; {whose}: {names}; "
            "lower train.lr, or take these rows out"
        )


class _Meter:
    """Means of what happened since the last line of the log."""

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
        """Return the means and begin anew."""
        names = dict.fromkeys(name for record in self._records for name in record)
        means = {name: float(np.mean([r[name] for r in self._records if name in r])) for name in names}
        self.last = means["loss"]
        result = means | {"samples_per_s": round(self._rate, 1)}
        self._records = []
        self.restart_clock()
        return result

    def restart_clock(self) -> None:
        """Do not count what has passed since the last batch."""
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
