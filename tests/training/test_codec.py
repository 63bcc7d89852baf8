"""Training codecs: runs learn, resume, are measured on what was held out, and are refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tables import SMALL_SOUNDS, codec_recipe, make_table

from sensorium.cli import main
from sensorium.codecs import AudioFsq, ImageFsq
from sensorium.codecs.contract import Reconstructed, Signals
from sensorium.core.errors import ConfigError, TrainingError
from sensorium.data.loading.order import Order
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.losses.laplacian import laplacian_pyramid, pyramid_l1, upsample
from sensorium.models.checkpoint import load
from sensorium.training.codec.batches import Sound, audio_batches, image_batches
from sensorium.training.codec.criterion import Reconstruction, image_terms
from sensorium.training.codec.recipe import CodecLoss, CodecRecipe
from sensorium.training.recipe import recipes_dir
from sensorium.training.trainer import train


def to_inline(values: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {value}" for key, value in values.items()) + " }"


def test_a_pyramid_adds_up_and_sees_every_scale() -> None:
    x = torch.rand(2, 3, 24, 40)
    *details, whole = list(laplacian_pyramid(x, 3))
    assert [tuple(part.shape[2:]) for part in details] == [(24, 40), (12, 20), (6, 10)]
    for detail in reversed(details):
        whole = upsample(whole) + detail
    torch.testing.assert_close(whole, x)
    waves = torch.cos(torch.pi * torch.arange(24))[None, None, :, None].expand(1, 1, 24, 40)
    flat = torch.full_like(waves, 0.5)
    assert pyramid_l1(waves, 0 * waves) == pytest.approx(1)  # a detail of the finest scale, and no other
    assert pyramid_l1(flat, 0 * flat) == pytest.approx(0.5)  # no detail, only what is left
    assert pyramid_l1(x, x) == 0


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    pictures = list(np.random.default_rng(1).integers(0, 256, (23, 3, 11, 11), dtype=np.uint8))
    order, options = Order(np.arange(23), 5, seed=3), {"flip": 0.5, "shift_px": 2}
    whole = list(image_batches(pictures, order, **options).epoch(1))
    batches = image_batches(pictures, order, **options)
    tail = list(batches.epoch(1, 2))
    assert len(whole) == len(batches) == 4
    assert batches.state().epoch == 2
    for one, other in zip(whole[2:], tail, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)
    still = next(image_batches(pictures, order, flip=0.0, shift_px=0).epoch(0))
    expected = torch.from_numpy(np.stack([pictures[row] for row in still.rows])) / 127.5 - 1
    torch.testing.assert_close(still.targets, expected)


def test_a_moved_picture_keeps_its_pixels() -> None:
    picture = np.zeros((3, 11, 11), np.uint8)
    picture[:, 5, 5] = 255
    for batch in image_batches([picture] * 9, Order(np.arange(9), 9, seed=1), flip=0.0, shift_px=3).epoch(0):
        where = (batch.inputs[:, 0] == 1).nonzero()
        assert where[:, 0].tolist() == list(range(9))
        assert where[:, 1:].min() >= 2
        assert where[:, 1:].max() <= 8
        assert len(where[:, 1:].unique(dim=0)) > 3


def test_a_stretch_of_a_sound_and_its_frames_are_of_the_same_moment() -> None:
    long = Sound(
        np.repeat(np.arange(37), 10).astype(np.int16) * 100, np.arange(37, dtype=np.float16)[:, None]
    )
    short = Sound(long.samples[:30], long.frames[:3])
    order = Order(np.arange(8), 8, seed=2)
    (batch,) = audio_batches([long, short] * 4, order, num_frames=11, gain_db=2.0).epoch(0)
    assert batch.inputs.shape == (8, 11, 1)
    assert batch.targets.shape == (8, 110)
    starts = set()
    for place, given, wanted in zip(batch.rows.tolist(), batch.inputs[..., 0], batch.targets, strict=True):
        real, start = (11 if place % 2 == 0 else 3), round(float(given[0]))
        gain = 10 ** (float(given[0] - start) / 2)
        expected = gain * 100 / 32767 * torch.arange(start, start + real).repeat_interleave(10)
        torch.testing.assert_close(wanted[: 10 * real], expected, rtol=1e-5, atol=1e-7)
        assert not wanted[10 * real :].any()
        assert (given[real:] == -10).all()
        starts.add((start, round(gain, 6)))
    assert len(starts) == 8


@pytest.mark.slow
def test_it_learns_to_paint_what_it_is_shown(tmp_path: Path) -> None:
    make_table(tmp_path / "t.lance")
    values = codec_recipe(tmp_path / "t.lance", steps=250, batch_size=16, ema=0.9, save_every=0, lr=5e-3)
    depths = {"encoder_depths": [0, 1], "decoder_depths": [1, 0]}
    values["model"]["options"] = {"size_px": 16, "widths": [16, 16], "levels": [5, 5, 5], **depths}
    outcome = train(CodecRecipe.model_validate(values), tmp_path / "run").outcome
    assert outcome.evaluation is not None
    assert outcome.evaluation.metrics["maker-2"]["PSNR"] > 15  # the mean of the training pictures scores 13.9
    assert outcome.evaluation.metrics["all"]["perplexity"] > 2


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    table = make_table(tmp_path / "t.lance")
    table.add([Sample("bad", image=b"not an image", source="maker-2")])
    trained = train(CodecRecipe.model_validate(codec_recipe(tmp_path / "t.lance")), tmp_path / "run")
    assert trained.num_failed == 1
    (line,) = (tmp_path / "run" / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["row"].startswith("24 (")


def test_a_value_that_is_not_finite_names_its_rows() -> None:
    values = torch.zeros(3, 2, 5)
    values[1, 0, 2] = float("nan")
    batch = Signals(torch.tensor([11, 12, 13]), values, values)
    found = Reconstructed(values, torch.zeros(3, 4, dtype=torch.int64))
    assert Reconstruction(CodecLoss(), image_terms).bad_rows(found, batch) == [12]


def test_recipes_and_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_table(tmp_path / "t.lance")
    values = codec_recipe(tmp_path / "t.lance")

    def refused(kind: type[Exception], match: str, **part: Any) -> None:
        shapes = {"table": str(tmp_path / "t.lance"), "test": 0.5, **part}
        changed = {**values, "data": {"parts": {"shapes": shapes}}}
        with pytest.raises(kind, match=match):
            train(CodecRecipe.model_validate(changed), tmp_path / "run")

    refused(ConfigError, "no row has source 'nowhere'", sources=["nowhere"])
    refused(ConfigError, "'speech' of .* does not fit an image codec", field="speech")
    refused(TrainingError, "0 media train", test={"source": ["maker-0", "maker-1", "maker-2"]})
    bpe = CodecRecipe.model_validate({**values, "model": {"codec": "bpe"}})
    with pytest.raises(ConfigError, match="codec 'bpe' is not trained by a recipe"):
        train(bpe, tmp_path / "run")


@pytest.mark.parametrize(
    ("modality", "options", "measured"),
    [
        ("image", "{ size_px = 16, widths = [5, 7] }", "PSNR"),
        ("audio", to_inline(SMALL_SOUNDS), "mel distance"),
    ],
)
def test_recipes_run_in_miniature(
    modality: str, options: str, measured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(tmp_path / "t.lance")
    field = "image" if modality == "image" else "speech"
    part = f'{{ table = "{tmp_path / "t.lance"}", field = "{field}", test = {{ source = "maker-2" }} }}'
    changes = {
        "data.parts": f"{{ shapes = {part} }}",
        "model.options": options,
        "train.batch_size": "8",
        "train.steps": "2",
        "train.tensorboard": "false",
    }
    arguments = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    assert (recipes_dir() / f"codec-{modality}.toml").is_file()
    assert main(["train", f"codec-{modality}", "-o", str(tmp_path / "run"), *arguments]) == 0, (
        capsys.readouterr()
    )
    assert "maker-2" in capsys.readouterr().out
    model = load(tmp_path / "run")
    assert isinstance(model, ImageFsq | AudioFsq)
    assert measured in (tmp_path / "run" / "card.md").read_text()
    assert len(Table.open(tmp_path / "t.lance")) == 24
