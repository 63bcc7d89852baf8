"""Models on disk: what is saved loads equal, and what is damaged is named in one line."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import create_model
from small_models import build, config

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.checkpoint import load, read_tensors, save, write_tensors
from sensorium.models.joint_embedding import JointEmbeddingConfig


def test_a_saved_model_loads_equal(model, pictures, sounds, tmp_path: Path) -> None:
    items = [*pictures, "a frog", *sounds]
    loaded = load(save(model, tmp_path / "run", card="# A card\n"))
    assert np.array_equal(loaded.embed(items).vectors, model.embed(items).vectors)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.config == model.config
    assert not loaded.training
    assert (tmp_path / "run" / "card.md").read_text() == "# A card\n"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("model.safetensors", "config.toml", "card.md", "text.tokenizer_json.txt")
    }


def test_locks_survive(tmp_path: Path) -> None:
    loaded = load(save(build(config(frozen=True, unlock=1)), tmp_path))
    assert sum(parameter.requires_grad for parameter in loaded.tower("image").encoder.parameters()) > 0
    assert not all(parameter.requires_grad for parameter in loaded.tower("image").encoder.parameters())


def test_saving_again_replaces_the_model(model, tmp_path: Path) -> None:
    save(model, tmp_path)
    with torch.no_grad():
        model.logit_bias.add_(3)
    assert load(save(model, tmp_path)).fingerprint == model.fingerprint


def test_no_folder_and_no_model_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("place", [40, -5])
def test_a_flipped_byte_is_found(model, tmp_path: Path, place: int) -> None:
    path = save(model, tmp_path) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_short_file_is_found(model, tmp_path: Path) -> None:
    path = save(model, tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(tmp_path)


def test_a_configuration_of_another_model_is_found(model, tmp_path: Path) -> None:
    path = save(model, tmp_path) / "config.toml"
    path.write_text(path.read_text().replace("dim = 13", "dim = 14", 1))
    with pytest.raises(CheckpointError, match="is not the one that"):
        load(tmp_path)
    path.write_text("dim = 13\nnonsense = 1\n")
    with pytest.raises(CheckpointError, match="unknown key 'nonsense'"):
        load(tmp_path)


def test_a_lost_tokenizer_is_named(model, tmp_path: Path) -> None:
    (save(model, tmp_path) / "text.tokenizer_json.txt").unlink()
    with pytest.raises(CheckpointError, match=r"text\.tokenizer_json\.txt"):
        load(tmp_path)


def test_packed_texts_are_compressed_and_what_is_wrong_with_one_is_told(
    model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(model, tmp_path, is_int8=True) / "text.tokenizer_json.txt.gz"
    whole = path.read_bytes()
    assert load(tmp_path).config == model.config
    save(model, tmp_path, is_int8=True)
    assert path.read_bytes() == whole
    wrong = whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]
    for damaged in (whole[:-9], wrong, b"no archive", gzip.compress(b"\xff\xfe")):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load(tmp_path)
    path.write_bytes(gzip.compress(b"another text"))
    with pytest.raises(CheckpointError, match="is not the one that"):
        load(tmp_path)
    path.write_bytes(whole)
    monkeypatch.setattr("sensorium.models.checkpoint._MOST_TEXT", 100)
    with pytest.raises(CheckpointError, match=r"json\.txt\.gz is longer than 100 bytes"):
        load(tmp_path)


def test_tensors_of_another_kind_are_refused(model, tmp_path: Path) -> None:
    save(model, tmp_path)
    write_tensors(tmp_path / "model.safetensors", {"a": torch.ones(3)}, {"format": "something else"})
    with pytest.raises(CheckpointError, match="something else"):
        load(tmp_path)


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5), "b": torch.randn(2, 3, dtype=torch.float64), "c": torch.tensor(2.5)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"say": "hello"})
    found, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"say": "hello"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_an_option_that_came_later_does_not_lock_old_models(
    model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(model, tmp_path)
    later = create_model("Later", __base__=JointEmbeddingConfig, more=(int, 3))
    monkeypatch.setattr("sensorium.models.joint_embedding.JointEmbeddingConfig", later)
    assert load(tmp_path).config.more == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(model, tmp_path: Path, value: float) -> None:
    tensors, metadata = read_tensors(save(model, tmp_path) / "model.safetensors")
    tensors["towers.audio.encoder.norm.weight"][1] = value
    write_tensors(tmp_path / "model.safetensors", tensors, metadata)
    with pytest.raises(
        CheckpointError, match=r"'towers\.audio\.encoder\.norm\.weight' holds NaN or infinity"
    ):
        load(tmp_path)


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_tensors_of_another_type_are_refused(model, tmp_path: Path, kind: torch.dtype) -> None:
    tensors, metadata = read_tensors(save(model, tmp_path) / "model.safetensors")
    other = {name: value.to(kind) if value.ndim > 1 else value for name, value in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", other, metadata)
    with pytest.raises(CheckpointError, match="expected float32, float16, bfloat16 or float64"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 3000 + "]" * 3000,
        "a." * 3000 + "a = 1",
        'a = "file:\\u0000"',
        'a = "file:."',
        "dim = 1979-05-27",
        "dim = nan",
        "dim = 10000000000000000000000",
        "\x00",
    ],
)
def test_an_odd_configuration_is_one_line(model, tmp_path: Path, text: str) -> None:
    path = save(model, tmp_path) / "config.toml"
    path.write_text(text + "\n" + path.read_text().replace("dim = 13", "", 1))
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
