"""Rotary positions as published models ask for them: the base, and wavelengths stretched for long texts.

In: `rope_parameters` or `rope_scaling` of a `config.json`, or the `rope.*` metadata of a GGUF file. Out:
the base, a factor for each pair of coordinates that its wavelength is multiplied by, and what queries and
keys are multiplied by.

    linear   every factor is s
    llama3   s for wavelengths over L / low, 1 for those under L / high, in between a blend of 1 / s and 1
    yarn     1 / (m + (1 - m) / s), with m from 1 to 0 over the pairs that turn fast to slow times in L

L is the context that the model was first trained on. Scalings that depend on the length of the text
(dynamic, longrope) and positions of several axes (mrope) are refused by their names.

Reference: `modeling_rope_utils.py` of transformers 5; `llama-context.cpp` and `ggml_rope_ext` of llama.cpp;
arXiv:2309.00071, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.settings import Settings, shown

DEFAULT_BASE = 10_000.0
_LEAST_BASE, _MOST_BASE = 1.0, 1e30
_LEAST_FACTOR, _MOST_FACTOR = 1e-6, 1e6
_SINGULAR = 0.001
"""Width of YaRN's ramp where its ends meet."""


@dataclass(frozen=True)
class Rope:
    """What `nn.position.Rotary` is built with.

    Attributes:
        base: Of the wavelengths.
        factors: For each pair of coordinates; none: all are 1.
        gain: What rotated queries and keys are multiplied by.
    """

    base: float
    factors: tuple[float, ...] = ()
    gain: float = 1.0


def read_base(settings: Settings, key: str, default: float = DEFAULT_BASE) -> float:
    """Return a base within the range in which float32 angles are finite."""
    return settings.number(key, default, least=_LEAST_BASE, most=_MOST_BASE)


def read_factor(settings: Settings, key: str, default: float | None = None) -> float:
    """Return a factor of a scaling."""
    return settings.number(key, default, least=_LEAST_FACTOR, most=_MOST_FACTOR)


def read_rope(values: Mapping[str, Any], head_dim: int, context: int) -> Rope:
    """Read what a `config.json` says of rotary positions, as transformers does.

    Args:
        values: Its content.
        head_dim: Width K of a head.
        context: Its `max_position_embeddings`.

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
        f"{rope.source} has rope_type={shown(kind)}, which is not supported; "
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
    """YaRN's factors: fast pairs stay as they are, slow ones are stretched, those between are blended.

    Args:
        factor: How many times longer texts may be.
        base: Of the wavelengths.
        head_dim: Width K of a head.
        original: Context L that the model was first trained on.
        fast: Pairs that turn more often in L stay as they are.
        slow: Pairs that turn less often are stretched.
        rounds: Whether the ends of the ramp are whole pairs.

    Raises:
        CheckpointError: If the ramp has no place among the pairs.
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
            f"yarn of a context of {original} does not fit a base of {base:g}; is the file whole?"
        )
    width = high - low or _SINGULAR
    kept = [1 - min(max((pair - low) / width, 0.0), 1.0) for pair in range(head_dim // 2)]
    return tuple(1 / (share + (1 - share) / factor) for share in kept)


def yarn_gain(factor: float, scale: float = 1.0) -> float:
    """What YaRN multiplies queries and keys by: .1 m ln(s) + 1."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def multiplied(factors: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """Join two stretchings; either may be empty."""
    if not factors or not others:
        return tuple(factors or others)
    return tuple(one * other for one, other in zip(factors, others, strict=True))


def _chosen(values: Mapping[str, Any]) -> Settings:
    """The settings that count: transformers lets `rope_scaling` replace `rope_parameters` as a whole."""
    found = {name: _section(values, name) for name in ("rope_scaling", "rope_parameters")}
    old, new = found["rope_scaling"], found["rope_parameters"]
    name = "rope_scaling" if old else "rope_parameters"
    chosen = found[name]
    lost = new.get("rope_theta") if old else None
    if lost is not None and "rope_theta" not in old and values.get("rope_theta", DEFAULT_BASE) != lost:
        raise CheckpointError(
            "config.json has rope_scaling without rope_theta beside rope_parameters with "
            f"rope_theta={shown(lost)}; write all of them into rope_parameters"
        )
    nested = next((key for key, value in chosen.items() if isinstance(value, Mapping)), None)
    if nested is not None:
        raise CheckpointError(
            f"config.json has {name} by kind of layer ({shown(nested)}), which is not supported"
        )
    return Settings(chosen, f"{name} of config.json")


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CheckpointError(f"config.json has {name}={shown(found)}; expected a JSON object")
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
