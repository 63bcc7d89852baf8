"""A run that was stopped anywhere and goes on ends as the one that was never stopped, bit for bit."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_tasks
from small_jobs import digests, model, run
from small_tables import codec_recipe, locked_recipe, make_table, scratch_recipe
from small_tasks import task_table

from effort import NUM_KILLS
from region_world import recipe_values as grounding_values
from region_world import square_table
from sensorium.core.config import to_toml
from sensorium.core.errors import CheckpointError, TrainingError
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.log import read_log
from sensorium.training.task import Evaluation
from sensorium.training.trainer import train


class Stopped(Exception):
    """Stands in for a kill: nothing after it runs."""


def stop_after(step: int):
    def progress(done: int, total: int | None, message: str) -> None:
        if message.startswith("training") and done == step:
            raise Stopped

    return progress


def evaluate(model: JointEmbedding) -> Evaluation:
    return Evaluation(float(model.logit_scale.detach()))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("whole")
    run(folder, evaluate=evaluate, eval_every=6, keep="best")
    return digests(folder)


@pytest.mark.parametrize("cuts", [(0,), (1,), (4, 4, 5), (3, 9), (11,), (16, 17), (2, 3, 5, 7, 13)])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, uninterrupted: tuple[str, str], cuts: tuple[int, ...]
) -> None:
    options = {"evaluate": evaluate, "eval_every": 6, "keep": "best"}
    for cut in cuts:
        with pytest.raises(Stopped):
            run(tmp_path, progress=stop_after(cut), **options, resume=True)
    run(tmp_path, **options, resume=True)
    assert digests(tmp_path) == uninterrupted
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl") if "loss" in line]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 17]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    before, log = digests(tmp_path), (tmp_path / "log.jsonl").read_bytes()
    assert run(tmp_path, resume=True).steps == 17
    assert digests(tmp_path) == before
    assert (tmp_path / "log.jsonl").read_bytes() == log


def test_another_recipe_or_table_is_refused_by_key(tmp_path: Path) -> None:
    run(tmp_path, identity={"table": {"0.t": "abc"}})
    for lr, digest, key in ((4e-3, "abc", r"train\.lr"), (3e-3, "abd", r"table\.0\.t")):
        with pytest.raises(TrainingError, match=f"begun with another {key};"):
            run(tmp_path, lr=lr, identity={"table": {"0.t": digest}}, resume=True)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "last" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.safetensors is damaged"):
        run(tmp_path, resume=True)


def test_a_state_of_another_model_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit the recipe's model"):
        run(tmp_path, model=model(dim=11), resume=True)


def embedding(make: Callable[..., dict[str, Any]], memory: int = 0) -> Callable[[Path], dict[str, Any]]:
    def values(folder: Path) -> dict[str, Any]:
        make_table(folder / "t.lance")
        recipe = make(folder / "t.lance", steps=7, eval_every=4)
        recipe["loss"]["memory"] = memory
        return recipe

    return values


def codec(modality: str) -> Callable[[Path], dict[str, Any]]:
    def values(folder: Path) -> dict[str, Any]:
        make_table(folder / "t.lance")
        return codec_recipe(folder / "t.lance", modality, steps=7, save_every=2)

    return values


def grounding(depth: int) -> Callable[[Path], dict[str, Any]]:
    def values(folder: Path) -> dict[str, Any]:
        square_table(folder / "t.lance")
        return grounding_values(folder / "t.lance", depth, steps=7, save_every=2)

    return values


def generative(pack: int) -> Callable[[Path], dict[str, Any]]:
    def values(folder: Path) -> dict[str, Any]:
        table = task_table(folder / "t.lance").path
        names = ("ask", "translate", "transcribe")
        tasks = [small_tasks.task(table, name, languages=["fr", "en"]) for name in names]
        recipe = small_tasks.recipe_values(tasks, steps=7, save_every=2)
        recipe["data"]["pack"] = pack
        return recipe

    return values


KINDS = {
    "from scratch": embedding(scratch_recipe),
    "locked": embedding(locked_recipe),
    "with a memory": embedding(scratch_recipe, memory=17),
    "image codec": codec("image"),
    "audio codec": codec("audio"),
    "grounding with boxes": grounding(1),
    "grounding by captions": grounding(0),
    "generative": generative(0),
    "packed": generative(24),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::sensorium.core.errors.SensoriumWarning")  # of few captions
def test_every_kind_of_training_resumes_exactly(tmp_path: Path, kind: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(KINDS[kind](tmp_path)))
    whole = train(recipe, tmp_path / "whole")
    for cut in (1, 5):
        with pytest.raises(Stopped):
            train(recipe, tmp_path / "cut", resume=True, progress=stop_after(cut))
    assert train(recipe, tmp_path / "cut", resume=True).outcome.steps == whole.outcome.steps == 7
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert "## Figures on" in (tmp_path / "whole" / "card.md").read_text()


@pytest.mark.slow
def test_kills_change_nothing(tmp_path: Path) -> None:
    """Kill -9 at random moments, from start-up to the last write; the end must be the uninterrupted one."""
    make_table(tmp_path / "table.lance")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(locked_recipe(tmp_path / "table.lance", steps=60, save_every=2, eval_every=20)))
    started = time.monotonic()
    assert run_process(recipe, tmp_path / "whole", timeout_s=None)
    took_s = time.monotonic() - started
    kills, chance = 0, random.Random(20)
    while kills < NUM_KILLS:
        if run_process(recipe, tmp_path / "cut", timeout_s=chance.uniform(0.05, 0.95) * took_s):
            (tmp_path / "cut").rename(tmp_path / f"done-{len(list(tmp_path.glob('done-*')))}")
        else:
            kills += 1
    assert run_process(recipe, tmp_path / "cut", timeout_s=None)
    for folder in (tmp_path / "cut", *tmp_path.glob("done-*")):
        assert digests(folder) == digests(tmp_path / "whole")
        steps = [line["step"] for line in read_log(folder / "log.jsonl") if "loss" in line]
        assert steps == list(range(2, 61, 2))
        assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"] == 60


def run_process(recipe: Path, out: Path, timeout_s: float | None) -> bool:
    """Train in a process of its own and kill it after `timeout_s`; whether it came to its end."""
    command = [sys.executable, "-m", "sensorium", "train", str(recipe), "--resume", "-o", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return False
    assert process.returncode == 0, said
    return True
