"""The loop: it learns, it stops at what is not a number, it keeps what it should."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_jobs import digests, features, run, task

from sensorium.core.errors import TrainingError, UsageError
from sensorium.data.table.vectors import Ragged
from sensorium.models.checkpoint import load
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.log import read_log
from sensorium.training.loop import fit, num_steps
from sensorium.training.recipe import TrainConfig
from sensorium.training.task import Evaluation


def eight_pairs() -> dict[str, Ragged]:
    rng = np.random.default_rng(4)
    one_each = np.arange(9)
    return {
        "image": Ragged(rng.standard_normal((8, 32)).astype(np.float32), one_each),
        "audio": Ragged(rng.standard_normal((8, 12)).astype(np.float32), one_each),
    }


def similarity(model: JointEmbedding, data: dict[str, Ragged]) -> torch.Tensor:
    with torch.no_grad():
        a, b = (model.tower(name).project(torch.from_numpy(data[name].values)) for name in data)
    return a @ b.T


@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_it_learns_eight_pairs(tmp_path: Path, kind: str) -> None:
    data = eight_pairs()
    outcome = run(tmp_path, data=data, loss=kind, steps=50, batch_size=8, ema=0.5, lr=1e-2, save_every=50)
    cosines = similarity(load(tmp_path), data)
    assert (cosines.argmax(dim=1) == torch.arange(8)).all()
    assert (cosines.argmax(dim=0) == torch.arange(8)).all()
    assert outcome.steps == 50
    assert outcome.loss < 0.5


def test_half_precision_learns_them_too(tmp_path: Path) -> None:
    data = eight_pairs()
    run(tmp_path, data=data, steps=50, batch_size=8, ema=0.5, lr=1e-2, save_every=50, precision="bf16")
    assert (similarity(load(tmp_path), data).argmax(dim=1) == torch.arange(8)).all()


def test_training_touches_nothing_outside_the_run(tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    work = task()
    locked = {name: p.clone() for name, p in work.model.named_parameters() if not p.requires_grad}
    fit(work, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert locked
    assert all(torch.equal(dict(work.model.named_parameters())[name], p) for name, p in locked.items())


def test_equal_jobs_give_equal_models(tmp_path: Path) -> None:
    run(tmp_path / "a")
    torch.rand(5)
    run(tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_loss_that_is_not_a_number_stops_with_step_and_rows(tmp_path: Path) -> None:
    data = features()
    data["audio"].values[3] = np.nan  # row 4 is the fourth that has audio
    with pytest.raises(
        TrainingError, match=r"loss is nan at step \d+; rows without a finite vector: 4;"
    ) as caught:
        run(tmp_path, data=data)
    assert "\n" not in str(caught.value)


def test_a_loss_that_overflows_names_all_rows_of_the_batch(tmp_path: Path) -> None:
    work = task(data=eight_pairs(), batch_size=8)
    with torch.no_grad():
        work.model.scale.log_scale.fill_(math.nan)
    with pytest.raises(TrainingError, match="loss is nan at step 0; rows of the batch:") as caught:
        fit(work, tmp_path)
    assert all(f"{row}" in str(caught.value) for row in range(8))


def scores(*values: float):
    given = iter(values)
    return lambda model: Evaluation(next(given), "made up", {"image->audio": {"R@1": 0.5}})


@pytest.mark.parametrize(("keep", "kept_step"), [("best", 10), ("last", 17)])
def test_the_best_or_the_last_average_is_kept(tmp_path: Path, keep: str, kept_step: int) -> None:
    seen: dict[int, str] = {}
    given = iter([0.1, 0.7, 0.2, 0.3])
    steps = iter([5, 10, 15, 17])

    def evaluate(model: JointEmbedding) -> Evaluation:
        seen[next(steps)] = model.fingerprint
        return Evaluation(next(given))

    outcome = run(tmp_path, evaluate=evaluate, eval_every=5, keep=keep)
    assert list(seen) == [5, 10, 15, 17]
    assert (outcome.best, outcome.best_step) == (0.7, 10)
    assert load(tmp_path).fingerprint == seen[kept_step]


def test_the_log_holds_losses_and_scores_once_a_step(tmp_path: Path) -> None:
    run(tmp_path, evaluate=scores(0.1, 0.2), eval_every=10, tensorboard=True, steps=17)
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12, 14, 16, 17]
    assert [(line["step"], line["score"]) for line in lines if "score" in line] == [(10, 0.1), (17, 0.2)]
    first = lines[0]
    assert {
        "loss",
        "loss/image-audio",
        "lr",
        "grad_norm",
        "samples_per_s",
        "logit_scale",
        "epoch",
    } <= first.keys()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_progress_says_loss_and_throughput(tmp_path: Path) -> None:
    said: list[tuple[int, int | None, str]] = []
    run(tmp_path, progress=lambda done, total, message: said.append((done, total, message)))
    assert [done for done, _, _ in said] == list(range(18))
    assert all(total == 17 for _, total, _ in said)
    assert "loss" in said[-1][2]
    assert "samples/s" in said[-1][2]


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(UsageError, match="holds a run already; go on with --resume"):
        run(tmp_path)


def test_clipping_bounds_the_gradient_and_leaves_its_norm_in_the_log(tmp_path: Path) -> None:
    work = task(clip_norm=1e-3, steps=2, log_every=1)
    fit(work, tmp_path)
    squares = [p.grad.square().sum() for p in work.model.parameters() if p.grad is not None]
    assert torch.stack(squares).sum().sqrt() <= 1.001e-3
    assert read_log(tmp_path / "log.jsonl")[0]["grad_norm"] > 1e-2


def test_steps_of_a_run() -> None:
    assert num_steps(TrainConfig(epochs=2.5), 3) == 8
    assert num_steps(TrainConfig(steps=5), 3) == 5
    with pytest.raises(TrainingError, match="fewer training rows than batch_size=256"):
        num_steps(TrainConfig(epochs=1), 0)


def test_no_number_of_the_log_is_lost_in_json(tmp_path: Path) -> None:
    run(tmp_path)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert json.loads(line)
