"""What frozen encoders and codecs give is computed once and kept beside the rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import recipe_values, task, task_table

from sensorium import media
from sensorium.codecs import ImageFsq, ImageFsqConfig
from sensorium.core.errors import CheckpointError
from sensorium.models.checkpoint import save
from sensorium.training.generative.batches import Collator, mixed_batches
from sensorium.training.generative.build import build_multimodal
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_codecs, open_task, with_caches
from sensorium.training.generative.token_cache import cached_codes
from sensorium.training.trainer import train


def tiny_codec(folder: Path) -> ImageFsq:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        codec = ImageFsq(ImageFsqConfig(size_px=16, widths=(4, 8), levels=(3, 5))).eval()
    save(codec, folder)
    return codec


def drawing(folder: Path, codec: str, **train_options: object) -> GenerativeRecipe:
    values = recipe_values([task(folder / "t.lance", "draw")], **train_options)
    values["model"]["decoders"] = {"image": {"codec": codec, "width": 32, "depth": 1}}
    return GenerativeRecipe.model_validate(values)


def test_codes_are_those_of_the_codec_and_made_once(tmp_path: Path) -> None:
    table, codec = task_table(tmp_path / "t.lance", 5, 2), tiny_codec(tmp_path / "codec")
    codes, failed = cached_codes(table, "image", codec)
    assert failed == []
    for row, sample in enumerate(table.rows(range(7))):
        assert np.array_equal(codes[row][:, 0].astype(np.int64), codec.encode(media.open(sample.image)))
    seen: list[int] = []
    again, _ = cached_codes(table, "image", codec, progress=lambda done, total, what: seen.append(done))
    assert np.array_equal(again.values, codes.values)
    assert seen == []
    with torch.no_grad():
        codec.inward.bias += 1
    other, _ = cached_codes(table, "image", codec)
    assert not np.array_equal(other.values, codes.values)  # other weights never meet these codes


def test_a_drawing_lesson_asks_for_the_codes(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance", 9, 3)
    codec = tiny_codec(tmp_path / "codec")
    recipe = drawing(tmp_path, str(tmp_path / "codec"))
    codecs = open_codecs(recipe.model)
    data = open_task(recipe.data.tasks[0], 0)
    model, _ = build_multimodal(recipe, [data], codecs)
    data = with_caches(data, model, codecs, {})
    batch = next(mixed_batches([data], Collator(model), batch_size=3, seed=0).epoch(0))
    assert set(batch.media.inputs) == {"text"}  # the picture is the answer, not a source
    for row, number in enumerate(batch.rows.tolist()):
        expected = codec.encode(media.open(data.table.rows([number])[0].image)).tolist()
        assert batch.sequences.targets[row].tolist() == [*expected, codec.vocab_size + 1]
    collator, own = Collator(model), data.examples(data.read([0])[0])
    assert collator.batch(data, [0], [[replace(one, key=1) for one in own]]) == (None, [])
    assert collator.failures == {}  # further clips have no codes, and that is no failure
    train(drawing(tmp_path, str(tmp_path / "codec"), steps=2), tmp_path / "run")


@pytest.mark.parametrize("name", ["ask", "transcribe"])
def test_tokens_of_a_frozen_encoder_change_nothing(tmp_path: Path, name: str) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", name)])
    source = "image" if name == "ask" else "audio"
    values["model"]["sources"][source]["frozen"] = True
    recipe = GenerativeRecipe.model_validate(values)
    plain = open_task(recipe.data.tasks[0], 0)
    model = build_multimodal(recipe, [plain])[0].eval()
    cached = with_caches(plain, model, {}, {})
    assert set(cached.tokens) == {source}
    one, other = (
        next(mixed_batches([data], Collator(model), batch_size=5, seed=0).epoch(0))
        for data in (plain, cached)
    )
    assert source in other.media.tokens
    assert source not in other.media.inputs
    with torch.no_grad():
        torch.testing.assert_close(model(one).hidden, model(other).hidden, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    with pytest.raises(ValueError, match=r"needs model.decoders.image.codec"):
        drawing(tmp_path, "")
    values = recipe_values([task(tmp_path / "t.lance", "ask")], steps=1)
    train(GenerativeRecipe.model_validate(values), tmp_path / "other")
    with pytest.raises(CheckpointError, match="holds no codec of image"):
        train(drawing(tmp_path, str(tmp_path / "other")), tmp_path / "run")
