"""Folders as Hugging Face lays them out: odd values, shards, lost and broken tensors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gguf_files import random_model
from sensorium.codecs.bpe import train_bpe
from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained.llama import read_config, rename
from sensorium.models.pretrained.text_model import load_folder

IDS = torch.arange(3, 40)[None]
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj")
PARTS += ("mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")
NAMES = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
NAMES += [f"model.layers.{layer}.{part}.weight" for layer in (0, 1) for part in PARTS]
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 277, "hidden_size": 96,
    "head_dim": 16, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "intermediate_size": 64, "rms_norm_eps": 0.01, "rope_theta": 3_000.0, "max_position_embeddings": 61,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = random_model("llama", 277)
    state = model.state_dict()
    save_file({name: state[rename(name)] for name in NAMES}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text(train_bpe(["low lower lowest"], 270))
    assert torch.equal(load_folder(tmp_path).model.score(IDS), model.score(IDS))
    return tmp_path


def refused(folder: Path, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_folder(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model_type": ["llama"]},
            r"model_type \['llama'\] is not supported; supported: llama, qwen2, qwen3",
        ),
        ({"architectures": ["MixtralForCausalLM"]}, r"architectures=\['MixtralForCausalLM'\]; expected"),
        ({"architectures": "LlamaForCausalLM"}, "architectures='LlamaForCausalLM'"),
        ({"auto_map": {"AutoModelForCausalLM": "own.Model"}}, "auto_map"),
        ({"hidden_size": 96.0}, "hidden_size=96.0; expected a whole number from 1"),
        ({"hidden_size": True}, "hidden_size=True"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"vocab_size": 10**400}, "vocab_size=a number of 400 digits"),
        (
            {"vocab_size": 278},
            r"'embedding.weight' is of shape \(277, 96\); the configuration asks for \(278, 96\)",
        ),
        ({"num_hidden_layers": 10**9}, "is 1000000000, but the weights have 2 layers"),
        ({"num_hidden_layers": 1}, "is 1, but the weights have 2 layers"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"num_key_value_heads": 4}, "num_key_value_heads=4; expected a divisor of num_attention_heads=6"),
        ({"head_dim": 15}, "heads 15 wide; expected an even head_dim"),
        ({"head_dim": [16]}, r"head_dim=\[16\]"),
        ({"head_dim": None, "num_attention_heads": 7}, "a divisor of hidden_size=96"),
        ({"intermediate_size": 65}, r"'stack.blocks.0.mlp.gate.weight' is of shape \(64, 96\)"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps='small'"),
        ({"rms_norm_eps": 0}, "rms_norm_eps=0; expected a number from 1e-30 to 1"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings='long'"),
        ({"max_position_embeddings": 0}, "max_position_embeddings=0"),
        ({"layer_types": 3}, "layer_types=3; expected 2 times 'full_attention'"),
        ({"layer_types": ["full_attention"]}, "expected 2 times 'full_attention'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu', which is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"attention_bias": "false"}, "attention_bias='false'; expected true or false"),
        ({"mlp_bias": 1}, "mlp_bias=1"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings='no'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"residual_multiplier": 0.2}, "residual_multiplier=0.2, which is not supported"),
        ({"embedding_multiplier": 12}, "embedding_multiplier=12"),
        ({"logits_scaling": 8.0}, "logits_scaling=8.0"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ({"attn_logit_softcapping": 50}, "attn_logit_softcapping=50"),
        ({"num_local_experts": 8}, "num_local_experts=8"),
        ({"eos_token_id": "2"}, "eos_token_id='2'"),
    ],
)
def test_an_odd_value_is_one_line(folder: Path, changes: dict[str, object], said: str) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    refused(folder, said)


def test_null_is_what_is_absent(folder: Path) -> None:
    changes = {"max_position_embeddings": None, "num_experts": None, "rope_scaling": None, "auto_map": None}
    (folder / "config.json").write_text(json.dumps(CONFIG | changes | {"hidden_act": "silu"}))
    assert load_folder(folder).num_positions == 2048
    sizes = {"vocab_size": 31, "hidden_size": 64, "num_hidden_layers": 1, "intermediate_size": 29}
    qwen = {"model_type": "qwen2", "num_attention_heads": 32, **sizes}
    assert read_config(qwen).block.num_kv_heads == 32  # as transformers has it for Qwen
    assert read_config(qwen | {"num_key_value_heads": None}).block.num_kv_heads is None


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ', b"null", b'{"a": 1e}']
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_what_is_no_json_object_is_one_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(folder, name)


def rewrite(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    state = load_file(folder / "model.safetensors") | changes
    save_file(
        {name: value for name, value in state.items() if value is not None}, folder / "model.safetensors"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.norm.weight": None}, "the weights lack 'stack.norm.weight'; expected one of shape"),
        ({"lm_head.weight": None}, "the weights lack 'head.weight'"),
        ({"model.norm.weight": torch.ones(95)}, r"'stack.norm.weight' is of shape \(95,\)"),
        ({"model.norm.weight": torch.full((96,), torch.nan)}, "'stack.norm.weight' holds NaN or infinity"),
        (
            {"model.norm.weight": torch.full((96,), 1e300, dtype=torch.float64)},
            "'stack.norm.weight' holds NaN",
        ),
        ({"model.norm.weight": torch.ones(96, dtype=torch.int8)}, "'stack.norm.weight' has type int8"),
        ({"model.norm.weight": torch.ones(96).to(torch.float8_e4m3fn)}, "has type float8_e4m3fn"),
        ({"model.layers.1.self_attn.q_proj.bias": torch.ones(96)}, "query.bias', which this configuration"),
        ({"model.layers.1.self_attn.q_norm.weight": torch.ones(16)}, "query_norm.weight', which this"),
        ({"score.weight": torch.ones(3)}, "'score.weight' is no parameter of llama"),
    ],
)
def test_a_wrong_tensor_is_named(folder: Path, changes: dict[str, torch.Tensor | None], said: str) -> None:
    rewrite(folder, changes)
    refused(folder, said)


def test_an_output_matrix_of_its_own_counts_though_the_configuration_ties_it(folder: Path) -> None:
    expected = load_folder(folder).model.score(IDS)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    assert torch.equal(load_folder(folder).model.score(IDS), expected)  # transformers 5 unties them too
    rewrite(
        folder,
        {"lm_head.weight": load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()},
    )
    tied = load_folder(folder).model
    assert tied.head is None
    rewrite(folder, {"lm_head.weight": None})
    assert torch.equal(load_folder(folder).model.score(IDS), tied.score(IDS))


def shard(folder: Path, listed: object) -> None:
    state = load_file(folder / "model.safetensors")
    half = len(NAMES) // 2
    for name, names in (("a.safetensors", NAMES[:half]), ("b.safetensors", NAMES[half:])):
        save_file({one: state[one] for one in names}, folder / name)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))


WHOLE = {name: "a.safetensors" if at < len(NAMES) // 2 else "b.safetensors" for at, name in enumerate(NAMES)}


def test_shards_are_one_model(folder: Path) -> None:
    expected = load_folder(folder).model.score(IDS)
    shard(folder, WHOLE)
    assert torch.equal(load_folder(folder).model.score(IDS), expected)


def test_one_file_goes_before_an_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "none.safetensors"}}')
    load_folder(folder)


@pytest.mark.parametrize(
    "listed",
    [
        None,
        [],
        {},
        3,
        {"x": 3},
        {"x": "../a.safetensors"},
        {"x": "/etc/a.safetensors"},
        {"x": "a.bin"},
        {"x": ""},
    ],
)
def test_an_odd_index_is_one_line(folder: Path, listed: object) -> None:
    shard(folder, listed)
    refused(folder, "index.json")


def test_a_lost_shard_is_named(folder: Path) -> None:
    shard(folder, WHOLE | {"x": "c.safetensors"})
    with pytest.raises(NotFoundError, match=r"no file .*c\.safetensors"):
        load_folder(folder)
    shard_b = folder / "b.safetensors"
    shard_b.write_bytes(shard_b.read_bytes()[:-5])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": WHOLE}))
    refused(folder, r"b\.safetensors is not a whole safetensors file")


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(
        train_bpe(["many other words stand here, each of them twice and more"] * 9, 400)
    )
    refused(folder, "expected files of one model")
