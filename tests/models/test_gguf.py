"""GGUF files: written by the package `gguf`, read as it reads them; damaged ones are refused."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import (
    CONTEXT,
    DIM,
    HEAD_DIM,
    described,
    named_by_llama_cpp,
    random_model,
    sizes,
    some_tokenizer,
    write,
    write_model,
)
from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Message, ids_of
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained import gguf_llama
from sensorium.models.pretrained.gguf import read_gguf
from sensorium.models.pretrained.gguf_tokenizer import tokenizer_json
from sensorium.models.pretrained.llama import rename
from sensorium.models.pretrained.rope import read_rope
from sensorium.models.pretrained.text_model import load_gguf
from sensorium.nn.position import Rotary

KINDS = {
    "F32": 0.0, "F16": 0.001, "BF16": 0.01, "Q8_0": 0.01, "Q5_0": 0.06, "Q5_1": 0.06, "Q4_0": 0.12,
    "Q4_1": 0.12, "MXFP4": 0.12, "TQ1_0": 1.0, "TQ2_0": 1.0,
}  # fmt: skip
"""Types that the package `gguf` also writes, with the largest mean error of normal values."""


def values_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_decode_as_the_reference_decodes_them(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"x": values_of(7, 768), "y": values_of(5)}, kind)
    ours = read_gguf(path)
    for tensor in gguf.GGUFReader(path).tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.tensors[tensor.name].decode(), expected)
    assert ours.tensors["x"].kind.name == kind
    error = np.abs(ours.tensors["x"].decode() - values_of(7, 768))
    assert error.mean() <= KINDS[kind]


def write_raw(path: Path, raw: np.ndarray, kind: str) -> Path:
    """Write a file of one tensor whose blocks are given."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
    "IQ3_S", "IQ4_NL", "IQ4_XS",
])  # fmt: skip
def test_blocks_that_are_only_read_decode_as_the_reference_decodes_them(kind: str, tmp_path: Path) -> None:
    one = gguf.GGMLQuantizationType[kind]
    num_bytes = 2 * gguf.GGML_QUANT_SIZES[one][1]
    raw = np.random.default_rng(1).integers(0, 256, size=(3, num_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, one)
    read = read_gguf(write_raw(tmp_path / "a.gguf", raw, kind)).tensors["x"].decode()
    np.testing.assert_array_equal(read, expected)
    assert read.shape == (3, 2 * gguf.GGML_QUANT_SIZES[one][0])


def test_k_blocks_are_what_the_formulas_of_llama_cpp_say(tmp_path: Path) -> None:
    """Closed forms: constant scales and quants, worked out by hand from ggml-quants.c."""
    half = np.float16([0.5]).view(np.uint8).tolist()
    cases = {
        "Q4_K": ([*half, *half] + [1] * 12 + [0x53] * 128, (0.5 * 1 * 3 - 0.5, 0.5 * 1 * 5 - 0.5)),
        "Q6_K": ([0x21] * 128 + [0] * 64 + [2] * 16 + half, (0.5 * 2 * (1 - 32), 0.5 * 2 * (2 - 32))),
        "Q2_K": (
            [0x13] * 16 + [0b11_10_01_00] * 64 + [*half, *half],
            (0 - 0.5, 1.5 - 0.5, 3 - 0.5, 4.5 - 0.5),
        ),
    }
    for kind, (block, expected) in cases.items():
        raw = np.array([block], np.uint8)
        read = read_gguf(write_raw(tmp_path / f"{kind}.gguf", raw, kind)).tensors["x"].decode()
        found = read[0, : 128 if kind != "Q4_K" else 64]
        assert set(found.tolist()) == set(expected), kind


def test_decoded_values_may_be_changed_and_the_file_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"x": values_of(3, 32)}, "F32")
    whole = path.read_bytes()
    values = read_gguf(path).tensors["x"].decode()
    values[:] = 0
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(read_gguf(path).tensors["x"].decode(), values_of(3, 32))


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
    write_raw(path, np.zeros((3, 292), np.uint8), "Q8_K")
    with pytest.raises(
        CheckpointError, match=r"'x' is of quantisation type 15 \(Q8_K\); supported: F32, F16"
    ):
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
        (
            {"llama__rope__scaling__type": "longrope"},
            "rope.scaling.type='longrope'; expected none, linear or yarn",
        ),
        ({"llama__rope__scaling__type": 3}, "rope.scaling.type=3"),
        ({"llama__rope__scaling__factor": -2.0}, "rope.scaling.factor=-2.0; expected a number from"),
        ({"llama__rope__scaling__factor": "4"}, "rope.scaling.factor='4'"),
        ({"llama__rope__scale_linear": float("nan")}, "rope.scale_linear=nan"),
        (
            {"llama__rope__scaling__yarn_beta_fast": 16.0},
            "rope.scaling.yarn_beta_fast=16.0, which is not supported",
        ),
        ({"llama__rope__dimension_sections": [4, 4]}, "rope.dimension_sections=.4, 4."),
        ({"llama__rope__dimension_count": 8}, "rope.dimension_count=8 where heads are 16 wide"),
        ({"llama__rope__freq_base": 0.0}, "rope.freq_base=0.0"),
        ({"llama__attention__sliding_window": 7}, "attention.sliding_window=7, which is not supported"),
        ({"llama__attention__value_length": 8}, "attention.value_length=8 where heads are 16 wide"),
        ({"llama__attention__key_length": 8}, "attention.value_length=16 where heads are 8 wide"),
        ({"llama__attention__causal": False}, "attention.causal=False"),
        ({"llama__attention__head_count": [6, 4]}, "attention.head_count=.6, 4.; expected 2 equal values"),
        ({"llama__attention__head_count": [6, 6, 6]}, "expected 2 equal values"),
        ({"llama__attention__head_count_kv": [2, 0]}, "attention.head_count_kv=.2, 0."),
        ({"llama__attention__head_count_kv": 4}, "num_key_value_heads=4; expected a divisor of"),
        (
            {"llama__attention__head_count": 5},
            "attention.head_count=5; expected a divisor of embedding_length=96",
        ),
        ({"llama__attention__head_count": True}, "attention.head_count=True"),
        ({"llama__attention__layer_norm_rms_epsilon": float("inf")}, "layer_norm_rms_epsilon=inf"),
        ({"llama__feed_forward_length": [64, 32]}, "feed_forward_length=.64, 32."),
        ({"llama__embedding_length": 0}, "embedding_length=0; expected a whole number from 1"),
        ({"llama__embedding_length": 2**31 - 1}, "a divisor of embedding_length=2147483647"),
        ({"llama__embedding_length": "96"}, "embedding_length='96'"),
        ({"llama__block_count": 0}, "block_count=0"),
        ({"llama__block_count": 10**9}, "block_count. is 1000000000, but the weights have 0 layers"),
        ({"llama__context_length": -1}, "context_length=-1"),
        ({"llama__vocab_size": 9}, "vocab_size=9; expected 280"),
        ({"llama__expert_count": 4}, "expert_count=4, which is not supported"),
        ({"llama__logit_scale": 0.5}, "logit_scale=0.5"),
        ({"llama__residual_scale": 0.5}, "residual_scale=0.5"),
        ({"llama__embedding_scale": 12.0}, "embedding_scale=12.0"),
        ({"llama__attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ({"llama__final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ({"split__count": 3}, "split.count=3"),
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


SCALINGS = {
    "factor": ({"factor": 4.0}, {"type": "linear", "factor": 4.0}),
    "old key": ({"rope__scale_linear": 4.0}, {"type": "linear", "factor": 4.0}),
    "new key goes first": ({"rope__scale_linear": 9.0, "factor": 2.0}, {"type": "linear", "factor": 2.0}),
    "linear": ({"type": "linear", "factor": 3.0, "finetuned": True}, {"type": "linear", "factor": 3.0}),
    "none": ({"type": "none", "factor": 4.0}, None),
    "zero is none": ({"factor": 0.0}, None),
    "yarn": ({"type": "yarn", "factor": 4.0}, {"type": "yarn", "factor": 4.0}),
    "yarn of a context": (
        {"type": "yarn", "factor": 4.0, "original_context_length": 31, "attn_factor": 1.5},
        {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 31,
            "attention_factor": 1.5 * (0.1 * np.log(4) + 1),
        },
    ),
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_rotary_scaling_is_that_of_the_same_model_in_a_folder(arch: str, name: str, tmp_path: Path) -> None:
    given, scaling = SCALINGS[name]
    keys = {f"rope__scaling__{key}" if "rope" not in key else key: value for key, value in given.items()}
    model = write_model(tmp_path / "a.gguf", arch, **{f"{arch}__{key}": value for key, value in keys.items()})
    expected = read_rope({"rope_scaling": scaling, "rope_theta": 3_000.0}, HEAD_DIM, CONTEXT)
    for block in model.stack.blocks:
        block.attention.rotary = Rotary(HEAD_DIM, expected.base, factors=expected.factors, gain=expected.gain)
    ids = torch.arange(3, 60)[None]
    torch.testing.assert_close(load_gguf(tmp_path / "a.gguf").model.score(ids), model.score(ids))


def test_rotary_factors_among_the_tensors_are_applied(tmp_path: Path) -> None:
    given = np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)
    plain = write_model(tmp_path / "plain.gguf")
    tensors = {**named_by_llama_cpp(plain, "llama"), "rope_freqs.weight": given}
    metadata = {**sizes("llama"), **described(some_tokenizer()), "llama__rope__scaling__factor": 2.0}
    write(tmp_path / "a.gguf", tensors, **metadata)
    for block in plain.stack.blocks:
        block.attention.rotary = Rotary(HEAD_DIM, 3_000.0, factors=(2 * given).tolist())
    ids = torch.arange(3, 60)[None]
    torch.testing.assert_close(load_gguf(tmp_path / "a.gguf").model.score(ids), plain.score(ids))
    for wrong, said in (
        (given[:-1], r"shape \(7,\); expected \(8,\)"),
        (-given, "above 0"),
        (given * np.float32("inf"), "NaN or infinity"),
    ):
        write(tmp_path / "a.gguf", {**tensors, "rope_freqs.weight": wrong}, **metadata)
        with pytest.raises(CheckpointError, match=said):
            load_gguf(tmp_path / "a.gguf")


def test_sizes_given_for_each_layer_may_be_equal(tmp_path: Path) -> None:
    per_layer = {
        "attention__head_count": [6, 6],
        "attention__head_count_kv": [2, 2],
        "feed_forward_length": [64, 64],
    }
    model = write_model(tmp_path / "a.gguf", **{f"llama__{key}": value for key, value in per_layer.items()})
    ids = torch.arange(3, 60)[None]
    torch.testing.assert_close(load_gguf(tmp_path / "a.gguf").model.score(ids), model.score(ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_weights_that_are_not_finite_are_refused(kind: str, value: float, tmp_path: Path) -> None:
    tensors = named_by_llama_cpp(write_model(tmp_path / "a.gguf"), "llama")
    broken = tensors["blk.1.ffn_up.weight"].copy()
    tensors["blk.1.ffn_up.weight"] = broken
    metadata = {**sizes("llama"), **described(some_tokenizer())}
    broken[3, 5] = 1.0 if kind == "Q8_0" else value
    path = write(tmp_path / "a.gguf", tensors, kind, **metadata)
    if kind == "Q8_0":  # its scale is what is not finite
        block = read_gguf(path).tensors["blk.1.ffn_up.weight"].blocks[3, :34].tobytes()
        path.write_bytes(path.read_bytes().replace(block, np.float16(value).tobytes() + block[2:]))
    with pytest.raises(CheckpointError, match=r"'stack\.blocks\.1\.mlp\.up\.weight' holds NaN or infinity"):
        load_gguf(path)


@pytest.mark.parametrize("without", ["ffn_up", "attn_norm", "attn_k", "output_norm", "token_embd"])
def test_a_lost_tensor_is_named(without: str, tmp_path: Path) -> None:
    tensors = named_by_llama_cpp(write_model(tmp_path / "a.gguf"), "llama")
    some = {name: value for name, value in tensors.items() if not (without in name and "blk.1" not in name)}
    write(tmp_path / "a.gguf", some, **sizes("llama"), **described(some_tokenizer()))
    with pytest.raises(CheckpointError, match=r"lack '|has no tensor '"):
        load_gguf(tmp_path / "a.gguf")


def test_biases_are_used_or_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.gguf")
    tensors = named_by_llama_cpp(model, "llama")
    plain = load_gguf(tmp_path / "a.gguf").model.score(torch.arange(3, 9)[None])
    metadata = {**sizes("llama"), **described(some_tokenizer())}
    for name, size in (("attn_k", 32), ("attn_output", DIM), ("ffn_down", DIM)):
        write(tmp_path / "a.gguf", {**tensors, f"blk.1.{name}.bias": values_of(size)}, **metadata)
        found = load_gguf(tmp_path / "a.gguf").model.score(torch.arange(3, 9)[None])
        assert (found - plain).norm() > 1e-2 * plain.norm()
    write(tmp_path / "a.gguf", {**tensors, "blk.1.attn_norm.bias": values_of(DIM)}, **metadata)
    with pytest.raises(CheckpointError, match=r"have 'stack\.blocks\.1\.attention_norm\.bias', which"):
        load_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": None}, "lacks tokenizer.ggml.tokens; expected a list of texts"),
        ({"tokens": [3, 4]}, r"tokenizer.ggml.tokens=\[3, 4\]; expected a list of texts"),
        ({"tokens": "abc"}, "tokenizer.ggml.tokens='abc'"),
        ({"tokens": ["a", "b", "a"]}, "the token 'a' twice"),
        ({"merges": None}, "lacks tokenizer.ggml.merges"),
        ({"merges": [1]}, r"tokenizer.ggml.merges=\[1\]"),
        ({"merges": ["ab"]}, "the merge 'ab' in tokenizer.ggml.merges; expected two of the tokens"),
        ({"merges": ["a zzz"]}, "the merge 'a zzz'"),
        ({"token_type": [1, 1]}, r"tokenizer.ggml.token_type=\[1, 1\]; expected \d+ whole numbers"),
        ({"token_type": "x"}, "tokenizer.ggml.token_type='x'"),
        ({"eos_token_id": 280}, "tokenizer.ggml.eos_token_id=280; expected an id from 0 to"),
        ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id=-1"),
        ({"eot_token_id": "2"}, "tokenizer.ggml.eot_token_id='2'"),
        ({"add_bos_token": 1, "bos_token_id": 1}, "tokenizer.ggml.add_bos_token=1; expected true or false"),
        ({"pre": 3}, "with rule 3 is not supported"),
        ({"model": ["gpt2"]}, r"tokenizer \['gpt2'\] with rule"),
    ],
)
def test_what_does_not_fit_of_a_tokenizer_is_named(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    metadata = {
        **described(some_tokenizer()),
        **{f"tokenizer__ggml__{key}": value for key, value in changes.items()},
    }
    given = {key: value for key, value in {**sizes("llama"), **metadata}.items() if value is not None}
    tensors = named_by_llama_cpp(random_model("llama", some_tokenizer().vocab_size), "llama")
    write(tmp_path / "a.gguf", tensors, **given)
    with pytest.raises(CheckpointError, match=said):
        load_gguf(tmp_path / "a.gguf")


def test_without_kinds_all_tokens_but_the_named_end_are_ordinary(tmp_path: Path) -> None:
    metadata = {**sizes("llama"), **described(some_tokenizer())}
    del metadata["tokenizer__ggml__token_type"]
    write(tmp_path / "a.gguf", named_by_llama_cpp(random_model("llama", 300), "llama"), **metadata)
    assert load_gguf(tmp_path / "a.gguf").tokenizer.special_ids == {"<end>": 2}


def a_file(
    *entries: bytes, num_tensors: int = 0, num_values: int = 0, start: bytes = b"GGUF\x03\0\0\0"
) -> bytes:
    return start + struct.pack("<QQ", num_tensors, num_values) + b"".join(entries)


def a_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def a_tensor(name: str, *shape: int, kind: int = 0, offset: int = 0) -> bytes:
    return a_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


NUMBER = a_text("n") + struct.pack("<II", 4, 7)
HEADERS = {
    "big-endian": a_file(start=b"GGUF\0\0\0\x03"),
    "version 4": a_file(start=b"GGUF\x04\0\0\0"),
    "no magic": a_file(start=b"GGML\x03\0\0\0"),
    "values without end": a_file(num_values=2**63),
    "tensors without end": a_file(num_tensors=2**64 - 1),
    "a key twice": a_file(NUMBER, NUMBER, num_values=2),
    "an unknown type": a_file(a_text("n") + struct.pack("<II", 13, 7), num_values=1),
    "an endless text": a_file(a_text("n") + struct.pack("<IQ", 8, 2**60), num_values=1),
    "an endless array": a_file(a_text("n") + struct.pack("<IIQ", 9, 10, 2**62), num_values=1),
    "an endless array of texts": a_file(a_text("n") + struct.pack("<IIQ", 9, 8, 60), num_values=1),
    "arrays in arrays": a_file(
        a_text("n") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000, num_values=1
    ),
    "not UTF-8": a_file(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<II", 4, 7), num_values=1),
    "an alignment of 3": a_file(a_text("general.alignment") + struct.pack("<II", 4, 3), num_values=1),
    "an alignment of a text": a_file(
        a_text("general.alignment") + struct.pack("<I", 8) + a_text("32"), num_values=1
    ),
    "an alignment of 32.0": a_file(a_text("general.alignment") + struct.pack("<If", 6, 32), num_values=1),
    "no axes": a_file(a_tensor("x"), num_tensors=1),
    "five axes": a_file(a_tensor("x", 1, 1, 1, 1, 1), bytes(64), num_tensors=1),
    "an axis of zero": a_file(a_tensor("x", 0, 2**63), bytes(64), num_tensors=1),
    "huge axes": a_file(a_tensor("x", 2**63, 2**63), bytes(64), num_tensors=1),
    "an unknown quantisation": a_file(a_tensor("x", 32, kind=999), bytes(256), num_tensors=1),
    "no whole blocks": a_file(a_tensor("x", 33, kind=8), bytes(256), num_tensors=1),
    "a tensor beyond the end": a_file(a_tensor("x", 4, offset=2**40), bytes(256), num_tensors=1),
    "a tensor twice": a_file(a_tensor("x", 8), a_tensor("x", 8, offset=32), bytes(256), num_tensors=2),
    "tensors that overlap": a_file(a_tensor("x", 8), a_tensor("y", 8), bytes(256), num_tensors=2),
    "a gap": a_file(a_tensor("x", 8), a_tensor("y", 8, offset=64), bytes(256), num_tensors=2),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_header_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(HEADERS[name])
    with pytest.raises(CheckpointError) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_gguf(tmp_path)
