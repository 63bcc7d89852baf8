"""Llama, SmolLM2, Qwen2 and Qwen3: configurations and parameter names of one decoder.

Input: `config.json` and parameters of a Hugging Face checkpoint. Output: our configuration and our names. All
families are blocks of RMS norm, rotary grouped-query attention and a SiLU-gated MLP. Qwen2 has biases on
queries, keys and values; Qwen3 normalises queries and keys. Settings that would change the result and are not
supported (sliding windows, other activations, multipliers, softcaps) are refused by name. Values of the wrong
type or range, and sizes that differ from the weights, are refused too. Does not read files.

Reference: `modeling_llama.py`, `modeling_qwen2.py` and `modeling_qwen3.py` of transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sensorium.core.errors import CheckpointError
from sensorium.encoders.pretrained import names
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.pretrained.rope import Rope, read_rope
from sensorium.models.pretrained.settings import Settings, short_repr
from sensorium.models.weights import check_finite, check_floating
from sensorium.nn.block import BlockConfig

FAMILIES = ("llama", "qwen2", "qwen3")

_DEFAULT_NORM_EPS = 1e-6
_LEAST_EPS = 1e-30
"""Smallest epsilon that prevents division by zero in float32."""
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": {"max_position_embeddings": 2048},
    "qwen2": {"max_position_embeddings": 32_768, "num_key_value_heads": 32},
    "qwen3": {"max_position_embeddings": 32_768, "num_key_value_heads": 32, "head_dim": 128},
}
"""Defaults of transformers for absent keys."""
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "use_sliding_window": (False,),
    "quantization_config": (),
    "compression_config": (),
    "num_experts": (0,),
    "num_local_experts": (0,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "attention_multiplier": (),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "scale_emb": (1,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "clip_qkv": (),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "alibi": (False,),
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
}
"""Keys that would change the result, with their neutral values."""


def read_config(values: Mapping[str, Any], rope: Rope | None = None) -> LanguageModelConfig:
    """Translate a `config.json`.

    Args:
        values: Content of the file.
        rope: Rotary positions, if they do not come from the file.

    Raises:
        CheckpointError: If a setting is not supported, or a value is missing or of the wrong type or range.

    Example:
        >>> sizes = {"vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 29}
        >>> read_config({"model_type": "llama", "num_attention_heads": 6, **sizes}).block.mlp_dim
        29
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise CheckpointError(
            f"model_type {short_repr(family)} is not supported; supported: {', '.join(FAMILIES)}"
        )
    settings = Settings({**_DEFAULTS[family], **values}, "config.json")
    _refuse_unsupported(settings, family)
    dim, num_heads = settings.size("hidden_size"), settings.size("num_attention_heads")
    num_kv_heads = settings.optional_size("num_key_value_heads")
    head_dim = _head_dim(settings, dim, num_heads)
    if num_kv_heads is not None and num_heads % num_kv_heads:
        raise settings.error("num_key_value_heads", f"a divisor of num_attention_heads={num_heads}")
    rope = read_rope(values, head_dim, num_positions(values)) if rope is None else rope
    has_bias = family != "qwen2" and settings.flag("attention_bias")
    block = BlockConfig(
        dim=dim,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        mlp_dim=settings.size("intermediate_size"),
        mlp="swiglu",
        norm="rms",
        norm_eps=settings.number("rms_norm_eps", _DEFAULT_NORM_EPS, least=_LEAST_EPS, most=1.0),
        qkv_bias=has_bias or family == "qwen2",
        out_bias=has_bias or (family == "llama" and settings.flag("mlp_bias")),
        query_norm=family == "qwen3",
        is_causal=True,
        rotary_axes=1,
        rotary_base=rope.base,
        rotary_factors=rope.factors,
        rotary_gain=rope.gain,
    )
    return LanguageModelConfig(
        vocab_size=settings.size("vocab_size"),
        block=block,
        depth=settings.size("num_hidden_layers"),
        is_tied=settings.flag("tie_word_embeddings"),
    )


def num_positions(values: Mapping[str, Any]) -> int:
    """Return the maximum sequence length of a supported family from its `config.json`."""
    defaults = _DEFAULTS[values["model_type"]]
    return Settings(values, "config.json").size(
        "max_position_embeddings", defaults["max_position_embeddings"]
    )


def build(config: LanguageModelConfig, state: Mapping[str, Tensor]) -> LanguageModel:
    """Build the decoder from its parameters, without random initialisation.

    Missing biases are 0 (a Llama may have them in half of its layers). Raises `CheckpointError` if a
    parameter is missing, unknown, of the wrong shape, or not finite.
    """
    check_shapes(config, {name: tuple(value.shape) for name, value in state.items()})
    check_finite(state)
    with _SkipInit():
        model = LanguageModel(config)
    dtype = next(iter(state.values())).dtype
    zeros = {
        name: torch.zeros(parameter.shape, dtype=dtype)
        for name, parameter in model.named_parameters()
        if name.endswith(".bias")
    }
    model.load_state_dict({**zeros, **state}, assign=True)
    return model.eval()


def check_shapes(config: LanguageModelConfig, found: Mapping[str, tuple[int, ...]]) -> None:
    """Check names and shapes of weights before memory is allocated; raises `CheckpointError`."""
    blocks = {int(name.split(".")[2]) for name in found if name.startswith("stack.blocks.")}
    depth = max(blocks, default=-1) + 1
    if depth != config.depth:
        raise CheckpointError(
            f"num_hidden_layers (block_count) is {config.depth}, but the weights have {depth} layers"
        )
    expected = dict(_shapes(config))
    for name, shape in expected.items():
        if name not in found and not name.endswith(".bias"):
            raise CheckpointError(f"the weights lack '{name}'; expected one of shape {shape}")
        if found.get(name, shape) != shape:
            raise CheckpointError(f"'{name}' is of shape {found[name]}; the configuration asks for {shape}")
    for name in found:
        if name not in expected:
            raise CheckpointError(f"the weights have '{name}', which this configuration does not use")


def _shapes(config: LanguageModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all parameters."""
    block, vocab, dim = config.block, config.vocab_size, config.block.dim
    head_dim = dim // block.num_heads if block.head_dim is None else block.head_dim
    num_kv_heads = block.num_heads if block.num_kv_heads is None else block.num_kv_heads
    mlp_dim = 4 * dim if block.mlp_dim is None else block.mlp_dim
    wide, narrow = block.num_heads * head_dim, num_kv_heads * head_dim
    linear = {
        "attention.query": (wide, dim, block.qkv_bias),
        "attention.key": (narrow, dim, block.qkv_bias),
        "attention.value": (narrow, dim, block.qkv_bias),
        "attention.out": (dim, wide, block.out_bias),
        "mlp.gate": (mlp_dim, dim, block.out_bias),
        "mlp.up": (mlp_dim, dim, block.out_bias),
        "mlp.down": (dim, mlp_dim, block.out_bias),
    }
    norms = {"attention_norm": dim, "mlp_norm": dim}
    if block.query_norm:
        norms |= {"attention.query_norm": head_dim, "attention.key_norm": head_dim}
    yield "embedding.weight", (vocab, dim)
    yield "stack.norm.weight", (dim,)
    if not config.is_tied:
        yield "head.weight", (vocab, dim)
    for number in range(config.depth):
        prefix = f"stack.blocks.{number}."
        yield from ((f"{prefix}{name}.weight", (size,)) for name, size in norms.items())
        for name, (rows, columns, has_bias) in linear.items():
            yield f"{prefix}{name}.weight", (rows, columns)
            if has_bias:
                yield f"{prefix}{name}.bias", (rows,)


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename parameters; raises `CheckpointError` for unknown names and types that are not floating."""
    ours = {rename(name): value for name, value in state.items() if not _UNUSED.fullmatch(name)}
    check_floating(ours)
    return ours


def resolve_tying(
    config: LanguageModelConfig, state: dict[str, Tensor]
) -> tuple[LanguageModelConfig, dict[str, Tensor]]:
    """Drop an output matrix that equals a tied embedding; untie it if it differs, as transformers 5 does."""
    head = state.get("head.weight")
    if not config.is_tied or head is None:
        return config, state
    if torch.equal(head, state.get("embedding.weight", head)):
        return config, {name: value for name, value in state.items() if name != "head.weight"}
    return config.model_copy(update={"is_tied": False}), state


def rename(name: str) -> str:
    """Return our name of one parameter."""
    ours = names.rename(name, _NAMES, f"{', '.join(FAMILIES)}; is this another architecture?")
    return _PARTS.sub(lambda found: _OURS[found[0]], ours)


_UNUSED = re.compile(r".*\.rotary_emb\.inv_freq")  # redundant entry of old checkpoints
_NAMES = (
    (r"model\.embed_tokens\.weight", "embedding.weight"),
    (r"model\.norm\.weight", "stack.norm.weight"),
    (r"lm_head\.weight", "head.weight"),
    (r"model\.layers\.(\d{1,6})\.input_layernorm\.weight", r"stack.blocks.\1.attention_norm.weight"),
    (r"model\.layers\.(\d{1,6})\.post_attention_layernorm\.weight", r"stack.blocks.\1.mlp_norm.weight"),
    (
        r"model\.layers\.(\d{1,6})\.self_attn\.([qkvo]_proj)\.(weight|bias)",
        r"stack.blocks.\1.attention.\2.\3",
    ),
    (r"model\.layers\.(\d{1,6})\.self_attn\.([qk]_norm)\.weight", r"stack.blocks.\1.attention.\2.weight"),
    (r"model\.layers\.(\d{1,6})\.mlp\.(gate|up|down)_proj\.(weight|bias)", r"stack.blocks.\1.mlp.\2.\3"),
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


class _SkipInit(TorchFunctionMode):
    """Skips the initialisation of parameters that are replaced at once.

    The meta device would do the same, but it imports torch's compiler and sympy (3 s).
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


def _head_dim(settings: Settings, dim: int, num_heads: int) -> int:
    """Width of a head; even, since rotary positions rotate pairs."""
    head_dim = settings.optional_size("head_dim")
    if head_dim is None and dim % num_heads:
        raise settings.error("num_attention_heads", f"a divisor of hidden_size={dim}, or a head_dim")
    head_dim = dim // num_heads if head_dim is None else head_dim
    if head_dim % 2:
        raise CheckpointError(f"config.json has heads {head_dim} wide; expected an even head_dim")
    return head_dim


def _refuse_unsupported(settings: Settings, family: str) -> None:
    for key, neutral in _NEUTRAL.items():
        settings.refuse_unless(key, *neutral)
    classes = settings.get("architectures")
    if classes is not None:
        is_list = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if not is_list or (classes and f"{family}forcausallm" not in [name.lower() for name in classes]):
            raise settings.error(
                "architectures", f"['{family.capitalize()}ForCausalLM'], as of model_type '{family}'"
            )
    own = settings.get("auto_map")
    if own is not None and not (isinstance(own, Mapping) and not any("Model" in str(key) for key in own)):
        raise settings.error("auto_map", "no custom model code, which is not supported")
    kinds = settings.get("layer_types")
    if kinds is not None:
        depth = settings.size("num_hidden_layers")
        is_full = isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)
        if not is_full or len(kinds) != depth:
            raise settings.error("layer_types", f"{depth} times 'full_attention'; others are not supported")
