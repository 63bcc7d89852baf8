"""Rotary positions as configurations ask for them, against transformers: equal logits, or a refusal."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from sensorium.codecs.bpe import train_bpe
from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.text_model import load_folder

SIZES = {
    "vocab_size": 307, "hidden_size": 60, "intermediate_size": 53, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 211,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 53}
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
SCALINGS = {
    "none": {"rope_scaling": None, "rope_theta": 3_000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "linear, old key": {"rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 500.0},
    "linear, both keys": {"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 3.0}},
    "linear, new place": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 700.0}},
    "beside": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": PLAIN},
    "empty beside": {"rope_scaling": {}, "rope_parameters": {"rope_type": "default", "rope_theta": 900.0}},
    "two bases": {"rope_parameters": {"rope_type": "default", "rope_theta": 900.0}, "rope_theta": 20.0},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500_000.0},
    "llama3, longer": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 200}},
    "llama3, top level": {"rope_scaling": LLAMA3, "original_max_position_embeddings": 100},
    "yarn": {"rope_scaling": YARN, "rope_theta": 1_000_000.0},
    "yarn, no context": {"rope_scaling": {"type": "yarn", "factor": 4.0}},
    "yarn, null factor": {"rope_scaling": {**YARN, "factor": None}},
    "yarn, gain": {"rope_scaling": {**YARN, "attention_factor": 1.7}},
    "yarn, betas": {"rope_scaling": {**YARN, "beta_fast": 8, "beta_slow": 2, "truncate": False}},
    "yarn, mscale": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}},
}


@pytest.fixture(scope="module", params=[LlamaForCausalLM, Qwen2ForCausalLM])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = request.param
    config = (LlamaConfig if kind is LlamaForCausalLM else Qwen2Config)(**SIZES, initializer_range=0.3)
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("saved")
    kind(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(train_bpe(["low lower lowest"], 300))
    return folder


_OTHERS = ("original_max_position_embeddings", "partial_rotary_factor")


def rewrite(saved: Path, changes: dict[str, object]) -> Path:
    path = saved / "config.json"
    values = json.loads(path.read_text())
    kept = {key: value for key, value in values.items() if "rope" not in key and key not in _OTHERS}
    path.write_text(json.dumps(kept | changes))
    return saved


@pytest.mark.parametrize("name", SCALINGS)
def test_logits_are_equal(saved: Path, name: str) -> None:
    folder = rewrite(saved, SCALINGS[name])
    ids = torch.randint(3, 300, (2, 203), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
    found = load_folder(folder).model
    error = (found.score(ids) - expected).norm() / expected.norm()
    assert error <= 2e-5
    plain = load_folder(rewrite(saved, {})).model
    if name not in ("none", "two bases", "empty beside"):
        assert (plain.score(ids) - expected).norm() / expected.norm() > 1e-2  # what is not read would be seen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            "rope_type='dynamic', which is not supported",
        ),
        ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "rope_type='ntk'"),
        ({"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}}, "rope_type='su'"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_type='longrope'"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 4, 4]}}, "rope_type='mrope'"),
        ({"rope_scaling": {"type": 3}}, "rope_type=3"),
        (
            {"rope_scaling": {"factor": 4.0}},
            "rope_scaling of config.json has factor=4.0, which is not supported",
        ),
        ({"rope_scaling": "linear"}, "rope_scaling='linear'; expected a JSON object"),
        ({"rope_parameters": [1]}, "rope_parameters=\\[1\\]; expected a JSON object"),
        ({"rope_scaling": {"type": "linear"}}, "lacks factor; expected a number"),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, "factor='4'; expected a number"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor=0; expected a number"),
        ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor=nan"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "high_freq_factor=4; expected more than"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": None}}, "lacks low_freq_factor"),
        (
            {"rope_scaling": {**YARN, "original_max_position_embeddings": 0}},
            "original_max_position_embeddings=0",
        ),
        ({"rope_scaling": {**YARN, "truncate": 1}}, "truncate=1; expected true or false"),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 2}}, "yarn of a context of 2"),
        ({"rope_scaling": YARN, "rope_theta": 1}, "a base of rotary positions above 1"),
        ({"rope_theta": "abc"}, "rope_theta='abc'; expected a number from 1"),
        ({"rope_theta": -1}, "rope_theta=-1"),
        ({"rope_theta": float("inf")}, "rope_theta=inf"),
        ({"rope_parameters": {"rope_theta": True}}, "rope_theta=True"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {**PLAIN, "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {"full_attention": PLAIN}}, "by kind of layer"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 500.0}},
            "rope_scaling without rope_theta beside rope_parameters with rope_theta=500.0",
        ),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(saved: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_folder(rewrite(saved, changes))
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
