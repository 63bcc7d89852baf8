"""GGUF files: written by the package `gguf`, read as it reads them; damaged ones are refused."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import CONTEXT, DIM, described, sizes, some_tokenizer, write, write_model
from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Message
from sensorium.codecs.pieces import ids_of
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained import gguf_llama
from sensorium.models.pretrained.gguf import read_gguf
from sensorium.models.pretrained.gguf_tokenizer import tokenizer_json
from sensorium.models.pretrained.llama import rename
from sensorium.models.pretrained.text_model import load_gguf

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


def values_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_decode_as_the_reference_decodes_them(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"x": values_of(7, 96), "y": values_of(5)}, kind)
    ours = read_gguf(path)
    for tensor in gguf.GGUFReader(path).tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.tensors[tensor.name].decode(), expected)
    assert ours.tensors["x"].kind.name == kind


def test_q6_k_decodes_as_the_reference_decodes_it(tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 256, size=(3, 420), dtype=np.uint8)
    for block in (0, 210):
        raw[:, block + 208 : block + 210] = np.float16([0.37]).view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("x", raw, raw_dtype=gguf.GGMLQuantizationType.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q6_K)
    np.testing.assert_array_equal(read_gguf(tmp_path / "a.gguf").tensors["x"].decode(), expected)


def test_metadata_of_every_type_are_read(tmp_path: Path) -> None:
    given = {
        "a": 7,
        "b": -3,
        "c": 0.5,
        "d": True,
        "e": "naïve 中",
        "f": [3, 1, 2],
        "g": ["x", ""],
        "h": [0.25],
    }
    read = read_gguf(write(tmp_path / "a.gguf", {"x": values_of(3)}, **given)).metadata
    assert {key: read[key] for key in given} == given


def file_bytes(tmp_path: Path) -> bytes:
    tensors = {"x": values_of(3, 32), "y": values_of(5)}
    return write(tmp_path / "whole.gguf", tensors, "Q8_0", words=["a", "bc"], number=3).read_bytes()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole, path = file_bytes(tmp_path), tmp_path / "cut.gguf"
    for length in range(0, len(whole) - 31, 7):  # the last bytes are padding
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_gguf(path)


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 300), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(file_bytes(folder))
    content[place % len(content)] = value
    path = folder / "changed.gguf"
    path.write_bytes(content)
    try:
        for tensor in read_gguf(path).tensors.values():
            tensor.decode()
    except CheckpointError:
        pass


def test_refusals_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file .*none\.gguf"):
        read_gguf(tmp_path / "none.gguf")
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(CheckpointError, match="version 1, expected one of"):
        read_gguf(path)
    writer_kind = gguf.GGMLQuantizationType.Q5_0
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", gguf.quants.quantize(values_of(3, 32), writer_kind), raw_dtype=writer_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"x is of quantisation type 6 \(Q5_0\); supported: F32, F16"):
        read_gguf(path)


@pytest.fixture(scope="module")
def tokenizer() -> Bpe:
    return some_tokenizer()


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_a_model_comes_back_from_a_file(arch: str, tokenizer: Bpe, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.gguf", arch)
    loaded = load_gguf(tmp_path / "a.gguf")
    ids = torch.tensor([tokenizer.encode("the lowest of the new")])
    torch.testing.assert_close(loaded.model(loaded.model.embed(ids)), model(model.embed(ids)))
    assert (loaded.end_ids, loaded.num_positions) == ({2}, CONTEXT)
    assert loaded.chat is not None
    said = [Message("user", "low"), Message("assistant", "newest")]
    assert ids_of(loaded.chat.encode(said)) == [
        *tokenizer.encode("low", with_special=False), 2, *tokenizer.encode("newest", with_special=False), 2
    ]  # fmt: skip
    text = "lowest <end> 12"
    assert loaded.tokenizer.encode(text, with_special=False) == tokenizer.encode(text, with_special=False)


def test_rows_of_quantised_blocks_are_put_in_order_before_they_are_decoded(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path / "a.gguf", {"x": values_of(2 * 8, 32)}, "Q4_0"))
    plain = file.tensors["x"].decode().reshape(2, 4, 2, 32).swapaxes(1, 2).reshape(16, 32)
    np.testing.assert_array_equal(gguf_llama.unpair(file.tensors["x"], 2).decode(), plain)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "mamba"}, "model_type 'mamba' is not supported; supported: llama, qwen2, qwen3"),
        ({"llama__rope__scaling__type": "yarn"}, "rotary scaling 'yarn'"),
        ({"llama__attention__sliding_window": 7}, "a sliding window"),
        ({"llama__rope__dimension_count": 8}, "partial_rotary_factor=0.5"),
        ({"llama__block_count": 0}, "num_hidden_layers=0"),
        ({"llama__expert_count": 4}, "mixture of experts"),
    ],
)
def test_what_would_change_the_result_is_refused(
    changes: dict[str, object], said: str, tokenizer: Bpe, tmp_path: Path
) -> None:
    metadata = {**sizes("llama"), **described(tokenizer), **changes}
    path = write(tmp_path / "a.gguf", {"token_embd.weight": values_of(280, DIM)}, **metadata)
    with pytest.raises(CheckpointError, match=said):
        load_gguf(path)


def test_another_tokenizer_is_refused() -> None:
    for kind, rule in (("llama", "default"), ("gpt2", "deepseek-llm")):
        with pytest.raises(CheckpointError, match=f"tokenizer '{kind}' with rule '{rule}' is not supported"):
            tokenizer_json({"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": rule})


def test_names_of_other_architectures_are_refused() -> None:
    for translate in (gguf_llama.rename, rename):
        with pytest.raises(CheckpointError, match="is this another architecture"):
            translate("blk.0.ssm_in.weight")
