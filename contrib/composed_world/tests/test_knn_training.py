"""Training lets a model remember captions of its training images."""

from pathlib import Path

import pytest
import torch
from small_tasks import recipe_values, task, task_table

from sensorium.core.errors import ConfigError
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import write_answers
from sensorium.training.trainer import train


def test_training_pictures_are_remembered_and_held_out_ones_are_not(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    first, second = task(tmp_path / "t.lance", "caption"), task(tmp_path / "t.lance", "ask")
    values = recipe_values([first | {"extensions": ["knn_captions"]}, second], steps=2)
    values["model"]["sources"]["image"]["frozen"] = True
    with pytest.raises(ValueError, match=r"there is no \[model.extensions.knn_captions\]"):
        GenerativeRecipe.model_validate(values)
    values["model"]["extensions"] = {"knn_captions": {"share": 0.999}}
    train(GenerativeRecipe.model_validate(values), tmp_path / "run")
    model = load(tmp_path / "run", MultimodalLM)
    (data, _) = [open_task(one, 0) for one in GenerativeRecipe.model_validate(values).data.tasks]
    trained = [str(one.answer) for row in data.read(data.train) for one in data.examples(row)]
    known = model.extensions["knn_captions"]
    assert known.texts == trained
    assert known.keys.shape == (len(trained), 16)
    norms = known.keys.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    answers = write_answers(model, data, data.train[:6])
    assert [one.text for one in answers] == [str(one.example.answer) for one in answers]
    values["data"]["tasks"][0]["extensions"] = []
    with pytest.raises(
        ConfigError,
        match="has no captions to store; set extensions = ",
    ):
        train(GenerativeRecipe.model_validate(values), tmp_path / "other")
    values["data"]["tasks"][1]["extensions"] = ["knn_captions"]
    with pytest.raises(ValueError, match="leave it out of task 'ask'"):
        GenerativeRecipe.model_validate(values)
