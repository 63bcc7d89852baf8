"""GGUF files: written by the package `gguf`, read as it reads them; damaged ones are refused."""

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import gguf_llama
from sensorium.models.pretrained.gguf import read_gguf
from sensorium.models.pretrained.gguf_tokenizer import tokenizer_json
from sensorium.models.pretrained.llama import read_config, rename
from sensorium.models.pretrained.text_model import load_gguf

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
DIM, HEADS, KV_HEADS, HEAD_DIM, MLP_DIM, DEPTH = 96, 6, 2, 16, 64, 2


def values_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(path: Path, tensors: dict[str, np.ndarray], kind: str = "F32", **metadata: object) -> Path:
    """Write a file by the reference package; matrices are of `kind`, vectors of F32."""
    writer = gguf.GGUFWriter(path, str(metadata.pop("arch", "llama")))
    for key, value in metadata.items():
        writer.add_key_value(key.replace("__", "."), value, gguf.GGUFValueType.get_type(value))
    for name, value in tensors.items():
        one = gguf.GGMLQuantizationType[kind if value.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(value, one), raw_dtype=one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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
    return Bpe(train_bpe(["low lower lowest newer newest"] * 3, 280))


def described(tokenizer: Bpe) -> dict[str, object]:
    """The metadata by which a GGUF file describes a tokenizer."""
    model = json.loads(tokenizer.json)["model"]
    return {
        "tokenizer__ggml__model": "gpt2",
        "tokenizer__ggml__pre": "gpt-2",
        "tokenizer__ggml__tokens": list(model["vocab"]),
        "tokenizer__ggml__token_type": [
            3 if name.startswith("<") and len(name) > 1 else 1 for name in model["vocab"]
        ],
        "tokenizer__ggml__merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer__ggml__eos_token_id": 2,
        "tokenizer__chat_template": "{{ messages }}",
    }


def sizes(arch: str) -> dict[str, object]:
    values = {
        "context_length": 61, "embedding_length": DIM, "block_count": DEPTH, "feed_forward_length": MLP_DIM,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "rope.freq_base": 3_000.0,
        "attention.layer_norm_rms_epsilon": 0.01,
    }  # fmt: skip
    values |= {"attention.key_length": HEAD_DIM} if arch == "qwen3" else {}
    return {f"{arch}__{key.replace('.', '__')}": value for key, value in values.items()}


def named_by_llama_cpp(model: LanguageModel, arch: str) -> dict[str, np.ndarray]:
    """Our parameters as `convert_hf_to_gguf.py` would write them, with its own formula for rotary pairs."""
    theirs = {}
    for name in gguf_names():
        value = model.state_dict()[gguf_llama.rename(name)].numpy() if known(model, name) else None
        if value is None:
            continue
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[-2] if "." in name else "")
        if arch == "llama" and heads:
            split = value.reshape(heads, 2, len(value) // heads // 2, *value.shape[1:])
            value = split.swapaxes(1, 2).reshape(value.shape)
        theirs[name] = value
    return theirs


def gguf_names() -> list[str]:
    parts = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm"]
    parts += ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    names = [f"blk.{n}.{part}.{leaf}" for n in range(DEPTH) for part in parts for leaf in ("weight", "bias")]
    return ["token_embd.weight", "output_norm.weight", "output.weight", *names]


def known(model: LanguageModel, name: str) -> bool:
    return gguf_llama.rename(name) in model.state_dict()


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_a_model_comes_back_from_a_file(arch: str, tokenizer: Bpe, tmp_path: Path) -> None:
    config = {
        "model_type": arch, "vocab_size": tokenizer.vocab_size, "hidden_size": DIM, "head_dim": HEAD_DIM,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": MLP_DIM,
        "num_hidden_layers": DEPTH, "rms_norm_eps": 0.01, "rope_theta": 3_000.0,
        "tie_word_embeddings": arch == "qwen2",
    }  # fmt: skip
    torch.manual_seed(7)
    model = LanguageModel(read_config(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = named_by_llama_cpp(model, arch)
    loaded = load_gguf(write(tmp_path / "a.gguf", tensors, arch=arch, **sizes(arch), **described(tokenizer)))
    ids = torch.tensor([tokenizer.encode("the lowest of the new")])
    torch.testing.assert_close(loaded.model(loaded.model.embed(ids)), model(model.embed(ids)))
    assert (loaded.end_ids, loaded.num_positions, loaded.chat_template) == ({2}, 61, "{{ messages }}")
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
