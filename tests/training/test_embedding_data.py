"""Training data: features, class vectors, mixed batches, and held-out vectors that equal `embed`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import locked_recipe, make_table, samples, scratch_recipe, tokenizer_json

from sensorium import media
from sensorium.core.errors import ConfigError, TrainingError
from sensorium.data.table.sample import Caption
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.training.embedding.corpus import Corpus, open_corpus
from sensorium.training.embedding.data import (
    TrainingData,
    build_batches,
    build_model,
    joined,
    load_data,
    used_fields,
    with_class_vectors,
)
from sensorium.training.embedding.validation import validation_vectors
from sensorium.training.recipe import Recipe
from sensorium.training.trainer import train


def prepared(folder: Path, values: dict) -> tuple[Recipe, JointEmbedding, Corpus, TrainingData]:
    if not (folder / "t.lance").exists():
        make_table(folder / "t.lance")
    recipe = Recipe.model_validate(values)
    corpus = open_corpus(recipe.data, used_fields(recipe, ["image", "text", "speech"]), recipe.seed)
    model = build_model(recipe, corpus).eval()
    return recipe, model, corpus, load_data(recipe, model, corpus)


def both_locked(folder: Path) -> dict:
    values = locked_recipe(folder / "t.lance")
    options = {"tokenizer_json": tokenizer_json(), "width": 16}
    values["model"]["towers"]["text"] |= {"frozen": True, "options": options}
    return values


@pytest.mark.parametrize("make", [scratch_recipe, locked_recipe])
def test_held_out_vectors_are_those_of_embed(tmp_path: Path, make) -> None:
    _, model, corpus, material = prepared(tmp_path, make(tmp_path / "t.lance"))
    found = validation_vectors(model, material)
    samples = corpus.rows(corpus.test)
    assert found["image"].rows.tolist() == corpus.test.tolist() == list(range(16, 24))
    images = model.embed([media.open(sample.image) for sample in samples]).vectors
    texts = model.embed([sample.texts[0].text for sample in samples]).vectors
    assert np.abs(found["image"].vectors - images).max() < 1e-5
    assert np.abs(found["text"].vectors - texts).max() < 1e-5
    if "speech" in found:
        speech = model.embed([media.open(sample.speech[0].data) for sample in samples]).vectors
        assert np.abs(found["speech"].vectors - speech).max() < 1e-5


def test_the_tokenizer_comes_from_training_texts_in_the_languages(tmp_path: Path) -> None:
    _, model, corpus, _ = prepared(tmp_path, scratch_recipe(tmp_path / "t.lance"))
    tokenizer = model.config.towers["text"].options["tokenizer_json"]
    assert "green" in tokenizer
    assert '"in"' not in tokenizer  # only the German captions say it
    assert (
        model.fingerprint
        == build_model(prepared(tmp_path, scratch_recipe(tmp_path / "t.lance"))[0], corpus).fingerprint
    )


def test_locked_and_decoded_fields_meet_in_one_batch(tmp_path: Path) -> None:
    recipe, model, _, material = prepared(tmp_path, locked_recipe(tmp_path / "t.lance"))
    assert material.cached.keys() == {"image", "speech"}
    assert material.cached["image"].counts.tolist() == [3] * 24
    batches = build_batches(recipe, model, material)
    first = list(batches.epoch(4))
    for batch in first:
        assert batch.inputs.keys() == {"text"}
        assert batch.features.keys() == {"image", "speech"}
        for place, vector in zip(batch.present["speech"], batch.features["speech"], strict=True):
            assert torch.equal(vector, torch.from_numpy(material.cached["speech"][int(batch.rows[place])][0]))
        for place, vector in zip(batch.present["image"], batch.features["image"], strict=True):
            views = material.cached["image"][int(batch.rows[place])]
            assert (views == vector.numpy()).all(axis=1).any()
    again = list(batches.epoch(4, 1))
    assert torch.equal(again[0].features["image"], first[1].features["image"])
    assert not torch.equal(next(iter(batches.epoch(5))).features["image"], first[0].features["image"])


def test_class_vectors_become_rows_but_for_held_out_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path / "cache"))
    recipe, model, corpus, material = prepared(tmp_path, both_locked(tmp_path))
    encoder = model.tower("image").encoder
    encoder.class_vectors = torch.randn(3, encoder.dim)
    encoder.class_names = ("disc, box", "A red DISC, thing", "box")
    more = with_class_vectors(material, model)
    assert more.train.tolist() == [*range(16), 24, 25]
    assert more.cached["image"].counts[24:].tolist() == [1, 1]
    assert more.cached["text"].counts[24:].tolist() == [2, 1]
    assert more.cached["speech"].counts[24:].tolist() == [0, 0]
    assert np.array_equal(more.cached["image"][25][0], encoder.class_vectors[2].numpy())
    text = model.tower("text")
    from sensorium.models.feature_cache import encode_items

    assert np.allclose(
        more.cached["text"][24], encode_items(text, [text.prepare("disc"), text.prepare("box")]), atol=1e-6
    )
    batch = next(
        iter(
            build_batches(
                recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch_size": 18})}),
                model,
                more,
            ).epoch(0)
        )
    )
    assert sorted(batch.rows.tolist()) == more.train.tolist()
    assert len(corpus) == 24


def test_class_vectors_are_refused_where_there_are_none(tmp_path: Path) -> None:
    values = both_locked(tmp_path)
    values["data"]["class_vectors"] = True
    with pytest.raises(ConfigError, match="'image-cnn' over image, text, speech is not"):
        prepared(tmp_path, values)


def test_decoding_from_several_tables_is_refused(tmp_path: Path) -> None:
    make_table(tmp_path / "extra.lance", 1)
    values = scratch_recipe(tmp_path / "t.lance")
    values["data"]["extra"] = [str(tmp_path / "extra.lance")]
    recipe, model, _, material = prepared(tmp_path, values)
    with pytest.raises(
        ConfigError, match=r"data\.extra needs locked towers, but image, text must be decoded"
    ):
        build_batches(recipe, model, material)


def test_fields_are_those_of_the_loss_and_those_asked_for() -> None:
    values = scratch_recipe(Path("t"))
    assert used_fields(Recipe.model_validate(values), ["image", "text", "speech"]) == ["image", "text"]
    values["model"]["towers"]["audio"] = {"encoder": "audio-cnn"}
    values["data"]["fields"] = ["image", "text", "speech", "video"]
    assert used_fields(Recipe.model_validate(values), ["image", "text", "speech"]) == [
        "image",
        "text",
        "speech",
    ]
    with pytest.raises(ConfigError, match="names 'text', but t holds image"):
        used_fields(Recipe.model_validate(values), ["image"])


def test_joined_features_lie_one_after_another() -> None:
    a = Ragged(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 2, 3]))
    b = Ragged(np.arange(2, dtype=np.float32).reshape(1, 2) + 9, np.array([0, 0, 1]))
    both = joined([a, b])
    assert both.counts.tolist() == [2, 1, 0, 1]
    assert both[3].tolist() == [[9, 10]]


def test_captions_of_unknown_language_train(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    table.add(replace(sample, texts=[Caption("", sample.texts[0].text)]) for sample in samples())
    values = both_locked(tmp_path) | {"loss": {"pairs": [{"a": "image", "b": "text"}]}}
    values["data"] |= {"languages": ["en"]}
    _, _, corpus, material = prepared(tmp_path, values)
    assert material.cached["text"].counts[corpus.train].tolist() == [1] * len(corpus.train)


def test_a_pair_that_no_training_row_holds_is_refused(tmp_path: Path) -> None:
    values = both_locked(tmp_path) | {"loss": {"pairs": [{"a": "image", "b": "text"}]}}
    values["data"] |= {"languages": ["fi"]}
    with pytest.raises(TrainingError, match="holds both image and text in the languages fi"):
        prepared(tmp_path, values)


def test_pictures_are_blended_where_they_are_decoded_and_nowhere_else(tmp_path: Path):
    recipe, model, _, material = prepared(tmp_path, scratch_recipe(tmp_path / "t.lance"))
    plain = next(build_batches(recipe, model, material).epoch(0))
    mixing = recipe.model_copy(update={"data": recipe.data.model_copy(update={"blend": 1.0})})
    blended = next(build_batches(mixing, model, material).epoch(0))
    assert blended.rows.tolist() == plain.rows.tolist()
    assert not torch.equal(blended.inputs["image"].values, plain.inputs["image"].values)
    assert torch.equal(blended.inputs["text"].values, plain.inputs["text"].values)
    locked, model, _, material = prepared(tmp_path, both_locked(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.blend"):
        build_batches(
            locked.model_copy(update={"data": locked.data.model_copy(update={"blend": 1.0})}), model, material
        )


@pytest.mark.filterwarnings("ignore::sensorium.core.errors.SensoriumWarning")  # of few captions
def test_rows_that_cannot_be_read_are_named_by_every_run(tmp_path: Path) -> None:
    made = samples(3)
    made[3] = replace(made[3], image=b"\x89PNG\r\n\x1a\nbroken")
    Table.create(tmp_path / "t.lance", licence="CC0-1.0").add(made)
    recipe = Recipe.model_validate(locked_recipe(tmp_path / "t.lance", steps=2))
    for folder in ("first", "second"):  # the second finds the features in the cache
        assert train(recipe, tmp_path / folder).num_failed == 1
        (line,) = (tmp_path / folder / "errors.jsonl").read_text().splitlines()
        assert json.loads(line)["row"].startswith("3 (")
