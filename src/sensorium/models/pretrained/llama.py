"""Llama, SmolLM2, Qwen2 and Qwen3: one decoder, four spellings.

In: the `config.json` and the parameters of a Hugging Face checkpoint. Out: our configuration and our names.
All four are blocks of RMS norm, rotary grouped-query attention and a SiLU-gated MLP; Qwen2 has biases on
queries, keys and values, Qwen3 normalises queries and keys. What would change the result and is not built
here (scaled rotary positions, sliding windows, other activations) is refused by its name. Knows no files.

Reference: `modeling_llama.py`, `modeling_qwen2.py` and `modeling_qwen3.py` of transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sensorium.core.errors import CheckpointError
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig

FAMILIES = ("llama", "qwen2", "qwen3")

_DEFAULT_ROPE_THETA, _DEFAULT_NORM_EPS = 10_000.0, 1e-6


def read_config(values: Mapping[str, Any]) -> LanguageModelConfig:
    """Translate a `config.json`.

    Args:
        values: Its content.

    Raises:
        CheckpointError: If it asks for something that is not supported, or lacks a size.

    Example:
        >>> sizes = {"vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 29}
        >>> read_config({"model_type": "llama", "num_attention_heads": 6, **sizes}).block.mlp_dim
        29
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise CheckpointError(f"model_type '{family}' is not supported; supported: {', '.join(FAMILIES)}")
    _refuse_unsupported(values)
    has_bias = bool(values.get("attention_bias"))
    block = BlockConfig(
        dim=_size(values, "hidden_size"),
        num_heads=_size(values, "num_attention_heads"),
        num_kv_heads=values.get("num_key_value_heads"),
        head_dim=values.get("head_dim") or (128 if family == "qwen3" else None),
        mlp_dim=_size(values, "intermediate_size"),
        mlp="swiglu",
        norm="rms",
        norm_eps=values.get("rms_norm_eps", _DEFAULT_NORM_EPS),
        qkv_bias=has_bias or family == "qwen2",
        out_bias=has_bias or bool(values.get("mlp_bias")),
        query_norm=family == "qwen3",
        is_causal=True,
        rotary_axes=1,
        rotary_base=_rope(values).get("rope_theta", values.get("rope_theta")) or _DEFAULT_ROPE_THETA,
    )
    return LanguageModelConfig(
        vocab_size=_size(values, "vocab_size"),
        block=block,
        depth=_size(values, "num_hidden_layers"),
        is_tied=bool(values.get("tie_word_embeddings", False)),
    )


def build(config: LanguageModelConfig, state: Mapping[str, Tensor]) -> LanguageModel:
    """Make the decoder and give it its parameters, without drawing any at random first.

    Args:
        config: From `read_config`.
        state: Under our names; biases that are missing are 0 (a Llama may have them in half of its layers).

    Raises:
        CheckpointError: If a parameter is missing, unknown or of another shape.
    """
    with _Unset():
        model = LanguageModel(config)
    dtype = next(iter(state.values())).dtype
    zeros = {
        name: torch.zeros(parameter.shape, dtype=dtype)
        for name, parameter in model.named_parameters()
        if name.endswith(".bias")
    }
    try:
        model.load_state_dict({**zeros, **state}, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the configuration: {_one_line(error)}") from error
    return model.eval()


def translate(state: Mapping[str, Tensor], *, is_tied: bool) -> dict[str, Tensor]:
    """Rename the parameters of a checkpoint as they are called here.

    Raises:
        CheckpointError: If a name is not of this family.
    """
    ours = {rename(name): value for name, value in state.items() if not _UNUSED.fullmatch(name)}
    if is_tied:
        ours.pop("head.weight", None)
    return ours


def rename(name: str) -> str:
    """Return our name of one parameter."""
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return _PARTS.sub(lambda found: _OURS[found[0]], match.expand(ours))
    raise CheckpointError(f"'{name}' is no parameter of {', '.join(FAMILIES)}; is this another architecture?")


_UNUSED = re.compile(r".*\.rotary_emb\.inv_freq")  # old checkpoints keep the angles that config.json implies
_NAMES = (
    (r"model\.embed_tokens\.weight", "embedding.weight"),
    (r"model\.norm\.weight", "stack.norm.weight"),
    (r"lm_head\.weight", "head.weight"),
    (r"model\.layers\.(\d+)\.input_layernorm\.weight", r"stack.blocks.\1.attention_norm.weight"),
    (r"model\.layers\.(\d+)\.post_attention_layernorm\.weight", r"stack.blocks.\1.mlp_norm.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.([qkvo]_proj)\.(weight|bias)", r"stack.blocks.\1.attention.\2.\3"),
    (r"model\.layers\.(\d+)\.self_attn\.([qk]_norm)\.weight", r"stack.blocks.\1.attention.\2.weight"),
    (r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(weight|bias)", r"stack.blocks.\1.mlp.\2.\3"),
)
_OURS = {
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "out",
    "q_norm": "query_norm",
    "k_norm": "key_norm",
}
_PARTS = re.compile("|".join(_OURS))


_SETTERS = ("normal_", "uniform_", "kaiming_uniform_", "div_")


class _Unset(TorchFunctionMode):
    """Parameters are neither drawn nor scaled: memory that is replaced at once is never touched.

    The meta device would do the same, but imports torch's compiler and sympy for it (3 s).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in _SETTERS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary settings: `rope_parameters` since transformers 5, `rope_scaling` before."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return found if isinstance(found, Mapping) else {}


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    rope = _rope(values)
    scaling = rope.get("rope_type", rope.get("type", "default"))
    share = rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0))
    kinds = set(values.get("layer_types") or ()) - {"full_attention"}
    refusals = {
        f"rotary scaling '{scaling}'": scaling != "default",
        f"partial_rotary_factor={share}": share not in (None, 1, 1.0),
        "a sliding window": bool(values.get("use_sliding_window")),
        f"layers of kind {', '.join(sorted(kinds))}": bool(kinds),
        f"hidden_act '{values.get('hidden_act')}'": values.get("hidden_act", "silu") != "silu",
        "a mixture of experts": bool(values.get("num_experts")),
        "quantised safetensors": values.get("quantization_config") is not None,
    }
    for what, is_asked in refusals.items():
        if is_asked:
            raise CheckpointError(f"{what} is not supported; use a checkpoint without it")


def _size(values: Mapping[str, Any], key: str) -> int:
    size = values.get(key)
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(f"config.json has {key}={size}; expected a whole number above 0")
    return size


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
