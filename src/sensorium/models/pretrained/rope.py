"""Rotary position settings of published models: base, and scaling for long contexts.

Input: `rope_parameters` or `rope_scaling` of a `config.json`, or `rope.*` metadata of a GGUF file. Output:
the base, a factor on the wavelength of each coordinate pair, and a gain on queries and keys.

    linear   every factor is s
    llama3   s for wavelengths over L / low, 1 for those under L / high, in between a blend of 1 / s and 1
    yarn     1 / (m + (1 - m) / s), with m falling from 1 to 0 from the pairs that turn fast to the slow ones

L is the context of pre-training. Scalings that depend on the length of the text (dynamic, longrope) and
positions with several axes (mrope) are refused by name.

Reference: `modeling_rope_utils.py` of transformers 5; `llama-context.cpp` and `ggml_rope_ext` of llama.cpp;
arXiv:2309.00071, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.settings import Settings, short_repr

DEFAULT_BASE = 10_000.0
_LEAST_BASE, _MOST_BASE = 1.0, 1e30
_LEAST_FACTOR, _MOST_FACTOR = 1e-6, 1e6
_SINGULAR = 0.001
"""Width of YaRN's ramp if both ends are equal."""


@dataclass(frozen=True)
class Rope:
    """Arguments of `nn.position.Rotary`.

    Attributes:
        base: Base of the wavelengths.
        factors: Factor on the wavelength of each coordinate pair; empty: all are 1.
        gain: Factor on rotated queries and keys.
    """

    base: float
    factors: tuple[float, ...] = ()
    gain: float = 1.0


def read_base(settings: Settings, key: str, default: float = DEFAULT_BASE) -> float:
    """Return a base for which float32 angles are finite."""
    return settings.number(key, default, least=_LEAST_BASE, most=_MOST_BASE)


def read_factor(settings: Settings, key: str, default: float | None = None) -> float:
    """Return a scaling factor."""
    return settings.number(key, default, least=_LEAST_FACTOR, most=_MOST_FACTOR)


def read_rope(values: Mapping[str, Any], head_dim: int, context: int) -> Rope:
    """Read the rotary positions of a `config.json`, as transformers does, for heads of width `head_dim`.

    Raises:
        CheckpointError: If a value is missing or out of range, or the scaling is not supported.
    """
    config = Settings(values, "config.json")
    config.refuse_unless("partial_rotary_factor", 1)
    rope = _chosen(values)
    rope.refuse_unless("partial_rotary_factor", 1)
    base = read_base(rope if rope.get("rope_theta") is not None else config, "rope_theta")
    kinds = (rope.get("rope_type"), rope.get("type"), "default")
    kind = next(one for one in kinds if one is not None)
    if kind == "default":
        rope.refuse_unless("factor", 1)
        return Rope(base)
    if kind == "linear":
        return Rope(base, (read_factor(rope, "factor"),) * (head_dim // 2))
    first = config if config.get("original_max_position_embeddings") is not None else rope
    original = first.size("original_max_position_embeddings", context)
    if kind == "llama3":
        return Rope(base, _llama3_factors(rope, base, head_dim, original))
    if kind == "yarn":
        factor = read_factor(rope, "factor", context / original)
        return Rope(base, _yarn_factors(rope, factor, base, head_dim, original), _yarn_gain(rope, factor))
    raise CheckpointError(
        f"{rope.source} has rope_type={short_repr(kind)}, which is not supported; "
        "supported: default, linear, llama3, yarn"
    )


def yarn_factors(
    factor: float,
    base: float,
    head_dim: int,
    original: int,
    *,
    fast: float = 32.0,
    slow: float = 1.0,
    rounds: bool = True,
) -> tuple[float, ...]:
    """Return YaRN's factors: 1 for fast pairs, `factor` for slow ones, a blend between.

    Args:
        factor: Ratio of the extended context to L.
        base: Base of the wavelengths.
        head_dim: Width K of a head.
        original: Context L of pre-training.
        fast: Pairs with more turns in L keep their wavelength.
        slow: Pairs with fewer turns in L are stretched.
        rounds: Whether the ends of the ramp are rounded to whole pairs.

    Raises:
        CheckpointError: If base and context leave no room for the ramp.
    """
    if base <= 1:
        raise CheckpointError(f"yarn needs a base of rotary positions above 1, got {base:g}")
    low, high = (
        head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base)) for turns in (fast, slow)
    )
    if rounds:
        low, high = float(math.floor(low)), float(math.ceil(high))
    low, high = max(low, 0.0), min(high, head_dim - 1.0)
    if high < low:
        raise CheckpointError(
            f"yarn of a context of {original} does not fit a base of {base:g}; fetch it again"
        )
    width = high - low or _SINGULAR
    kept = [1 - min(max((pair - low) / width, 0.0), 1.0) for pair in range(head_dim // 2)]
    return tuple(1 / (share + (1 - share) / factor) for share in kept)


def yarn_gain(factor: float, scale: float = 1.0) -> float:
    """Return YaRN's gain on queries and keys: 0.1 m ln(s) + 1."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def multiplied(factors: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """Multiply two lists of factors; either may be empty."""
    if not factors or not others:
        return tuple(factors or others)
    return tuple(one * other for one, other in zip(factors, others, strict=True))


def _chosen(values: Mapping[str, Any]) -> Settings:
    """The effective section: in transformers, `rope_scaling` replaces `rope_parameters` as a whole."""
    found = {name: _section(values, name) for name in ("rope_scaling", "rope_parameters")}
    old, new = found["rope_scaling"], found["rope_parameters"]
    name = "rope_scaling" if old else "rope_parameters"
    chosen = found[name]
    lost = new.get("rope_theta") if old else None
    if lost is not None and "rope_theta" not in old and values.get("rope_theta", DEFAULT_BASE) != lost:
        raise CheckpointError(
            "config.json has rope_scaling without rope_theta beside rope_parameters with "
            f"rope_theta={short_repr(lost)}; write all of them into rope_parameters"
        )
    nested = next((key for key, value in chosen.items() if isinstance(value, Mapping)), None)
    if nested is not None:
        raise CheckpointError(
            f"config.json has {name} by kind of layer ({short_repr(nested)}), which is not supported"
        )
    return Settings(chosen, f"{name} of config.json")


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CheckpointError(f"config.json has {name}={short_repr(found)}; expected a JSON object")
    return found


def _llama3_factors(rope: Settings, base: float, head_dim: int, original: int) -> tuple[float, ...]:
    factor = read_factor(rope, "factor")
    low, high = read_factor(rope, "low_freq_factor"), read_factor(rope, "high_freq_factor")
    if high <= low:
        raise CheckpointError(
            f"{rope.source} has high_freq_factor={high:g}; expected more than low_freq_factor={low:g}"
        )
    factors = []
    for pair in range(head_dim // 2):
        turns = original / (2 * math.pi * base ** (2 * pair / head_dim))
        share = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - share) / factor + share))
    return tuple(factors)


def _yarn_factors(
    rope: Settings, factor: float, base: float, head_dim: int, original: int
) -> tuple[float, ...]:
    fast, slow = (read_factor(rope, name, default) for name, default in _BETAS)
    rounds = rope.flag("truncate", default=True)
    return yarn_factors(factor, base, head_dim, original, fast=fast, slow=slow, rounds=rounds)


_BETAS = (("beta_fast", 32.0), ("beta_slow", 1.0))


def _yarn_gain(rope: Settings, factor: float) -> float:
    if rope.get("attention_factor") is not None:
        return rope.number("attention_factor", least=_LEAST_FACTOR, most=_MOST_FACTOR)
    scales = [rope.number(name, 0.0, least=0.0, most=_MOST_FACTOR) for name in ("mscale", "mscale_all_dim")]
    if all(scales):
        return yarn_gain(factor, scales[0]) / yarn_gain(factor, scales[1])
    return yarn_gain(factor)
