"""Multi-head attention: self, cross, grouped-query, causal and cached, for training and decoding.

Input: queries (B, N, D) and source tokens (B, S, D'). Output: (B, N, D). For each head of width K:

    e_ij = q_i . k_j / sqrt(K)          attention score of query i for key j
    a_ij = exp(e_ij) / sum_j exp(e_ij)  attention weight: softmax over j
    z_i  = sum_j a_ij v_j               weighted sum of the values

The division by sqrt(K) keeps the variance of e_ij independent of K, so that the softmax does not saturate
(Vaswani et al., arXiv:1706.03762, section 3.2.1). In grouped-query attention several query heads share a key
and value head (arXiv:2305.13245).

Cross-attention can have a diagonal prior, for monotonic tasks such as speech (`diagonal_slope`). It adds the
bias -a ((j - c_i) / (4 + c_i / 4))^2 to e_ij, with c_i = diagonal_slope * i. Each head learns a > 0. The
divisor grows with c_i, because the alignment of a long sequence drifts.

`Attention.key_values` projects keys and values apart from their use, so that a self- or cross-attention cache
can store `KeyValues`. The layer does not know what the tokens mean.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import ConfigError
from sensorium.nn.position import Rotary

_MANY_PAIRS = 1 << 18


@dataclass(frozen=True)
class KeyValues:
    """Projected keys and values, ready for attention.

    Attributes:
        keys: (B, G, S, K) for G key heads; already rotated if positions are rotary.
        values: (B, G, S, K).
        mask: (B, S), True = real; None: all are real.
        places: (B, N), index of each query among the keys. Causal attention needs it for a cache whose
            capacity S exceeds what is written; None: the queries are the last N of the S keys.
        segments: (B, S), number of the packed sequence that each key belongs to; None: there is one sequence.
    """

    keys: Float[Tensor, "B G S K"]
    values: Float[Tensor, "B G S K"]
    mask: Bool[Tensor, "B S"] | None = None
    places: Int64[Tensor, "B N"] | None = None
    segments: Int64[Tensor, "B S"] | None = None


def attend(
    queries: Float[Tensor, "B H N K"],
    given: KeyValues,
    *,
    is_causal: bool = False,
    segments: Int64[Tensor, "B N"] | None = None,
    bias: Float[Tensor, "#B H N S"] | None = None,
) -> Float[Tensor, "B H N K"]:
    """Compute z_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j.

    Args:
        queries: H heads, a multiple of the G key heads.
        given: Keys and values; a query whose keys are all masked gets zeros.
        is_causal: Query i attends to no key after its own index.
        segments: Number of the packed sequence of each query; it attends only to keys of that number.
        bias: Added to the scores before the softmax.
    """
    grouped = queries.shape[1] != given.keys.shape[1]
    is_square = given.places is None and queries.shape[2] == given.keys.shape[2]
    is_packed = segments is not None and given.segments is not None
    if given.mask is None and not is_packed and (is_square or not is_causal) and bias is None:
        if not is_causal and _is_better_by_head(queries, given):
            return _attend_by_head(queries, given)
        return _sdpa(queries, given, None, is_causal, grouped)
    allowed = _allowed(queries, given, is_causal)
    if segments is not None and given.segments is not None:
        allowed = allowed & (segments[:, None, :, None] == given.segments[:, None, None])
    has_key = allowed.any(dim=-1, keepdim=True)
    seen = allowed | ~has_key
    added = seen if bias is None else bias.masked_fill(~seen, -torch.inf)
    attended = _sdpa(queries, given, added, False, grouped)
    return attended.masked_fill(~has_key, 0)


def _sdpa(
    queries: Tensor, given: KeyValues, added: Tensor | None, is_causal: bool, grouped: bool
) -> Float[Tensor, "B H N K"]:
    keys, values = given.keys, given.values
    is_slow = queries.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    if is_slow:  # its backward pass takes five times as long in bfloat16 as in float32 (torch 2.13)
        queries, keys, values = queries.float(), keys.float(), values.float()
    if added is not None and added.dtype != torch.bool:
        added = added.to(queries.dtype)
    with torch.autocast(queries.device.type, enabled=False) if is_slow else nullcontext():
        return functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=added, is_causal=is_causal, enable_gqa=grouped
        )


def _is_better_by_head(queries: Tensor, given: KeyValues) -> bool:
    """Whether to compute heads one by one: long sequences in bfloat16 on a CPU.

    There matrix products are fast and the fused kernel is slow: 1,500 tokens with 6 heads of width 64 take 31
    ms of a core head by head and 46 ms fused (torch 2.13).
    """
    if queries.device.type != "cpu" or queries.dtype != torch.bfloat16:
        return False
    needs_gradient = torch.is_grad_enabled() and (queries.requires_grad or given.keys.requires_grad)
    return queries.shape[2] * given.keys.shape[2] >= _MANY_PAIRS and not needs_gradient


def _attend_by_head(queries: Float[Tensor, "B H N K"], given: KeyValues) -> Float[Tensor, "B H N K"]:
    """Attention without causality or mask, one head at a time, so that a head's weights fit the CPU cache."""
    scaled = queries / queries.shape[-1] ** 0.5
    attended = torch.empty_like(queries)
    per_group = queries.shape[1] // given.keys.shape[1]
    for row in range(queries.shape[0]):
        for head in range(queries.shape[1]):
            keys, values = given.keys[row, head // per_group], given.values[row, head // per_group]
            attended[row, head] = (scaled[row, head] @ keys.T).softmax(dim=-1) @ values
    return attended


def attention_weights(queries: Float[Tensor, "B H N K"], given: KeyValues) -> Float[Tensor, "B H N S"]:
    """Compute a_ij = softmax_j(q_i . k_j / sqrt(K)), for attention without causality or mask."""
    keys = given.keys.repeat_interleave(queries.shape[1] // given.keys.shape[1], dim=1)
    scores: Tensor = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return scores.softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head attention with its projections.

    Args:
        dim: Width D of the queries and of the output.
        num_heads: Query heads H.
        num_kv_heads: Key and value heads G; default H.
        head_dim: Width K of a head; default D / H.
        source_dim: Width of the source tokens; default D.
        qkv_bias: Whether the three input projections have a bias.
        out_bias: Whether the output projection has a bias.
        query_norm: Whether queries and keys are RMS-normalised before their product, as in Qwen3.
        norm_eps: Epsilon of that norm.
        is_causal: Whether a token attends only to itself and earlier tokens.
        rotary: Rotary position embedding of queries and keys; None: no rotary positions.
        diagonal_slope: Source tokens per query token along the diagonal prior; 0: no prior.
        prior_sharpness: Initial log a of the last head; log a rises linearly from 0 in the first head.

    Raises:
        ConfigError: If the number of heads does not divide the width, or G does not divide H.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        source_dim: int | None = None,
        qkv_bias: bool = True,
        out_bias: bool = True,
        query_norm: bool = False,
        norm_eps: float = 1e-6,
        is_causal: bool = False,
        rotary: Rotary | None = None,
        diagonal_slope: float = 0.0,
        prior_sharpness: float = 0.0,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if head_dim is None and dim % num_heads:
            raise ConfigError(
                f"num_heads={num_heads} does not divide dim={dim}; choose a divisor or set head_dim"
            )
        if num_heads % num_kv_heads:
            raise ConfigError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}")
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.is_causal = is_causal
        self.rotary = rotary
        source_dim = dim if source_dim is None else source_dim
        self.query = nn.Linear(dim, num_heads * self.head_dim, bias=qkv_bias)
        self.key = nn.Linear(source_dim, num_kv_heads * self.head_dim, bias=qkv_bias)
        self.value = nn.Linear(source_dim, num_kv_heads * self.head_dim, bias=qkv_bias)
        self.out = nn.Linear(num_heads * self.head_dim, dim, bias=out_bias)
        self.diagonal_slope = diagonal_slope
        self.nearness = (
            nn.Parameter(torch.linspace(0, prior_sharpness, num_heads)) if diagonal_slope else None
        )
        """Log sharpness log a of each head."""
        self.query_norm = nn.RMSNorm(self.head_dim, eps=norm_eps) if query_norm else None
        self.key_norm = nn.RMSNorm(self.head_dim, eps=norm_eps) if query_norm else None

    def key_values(
        self,
        source: Float[Tensor, "B S C"],
        mask: Bool[Tensor, "B S"] | None = None,
        positions: Int64[Tensor, "#B S *axes"] | None = None,
    ) -> KeyValues:
        """Project source tokens to keys and values; `positions` default to 0..S-1."""
        keys = self._heads(self.key(source))
        keys = keys if self.key_norm is None else self.key_norm(keys)
        if self.rotary is not None:
            keys = self.rotary(keys, positions)
        return KeyValues(keys, self._heads(self.value(source)), mask)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        given: KeyValues,
        positions: Int64[Tensor, "#B N *axes"] | None = None,
        segments: Int64[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Attend from `x` to `given`; for self-attention pass `self.key_values(x, mask, positions)`."""
        queries = self.queries(x, positions)
        near = self._diagonal_bias(queries, given, positions)
        attended = attend(queries, given, is_causal=self.is_causal, segments=segments, bias=near)
        projected: Tensor = self.out(rearrange(attended, "b h n k -> b n (h k)"))
        return projected

    def queries(
        self, x: Float[Tensor, "B N D"], positions: Int64[Tensor, "#B N *axes"] | None = None
    ) -> Float[Tensor, "B H N K"]:
        """Project tokens to queries."""
        queries = self._heads(self.query(x))
        queries = queries if self.query_norm is None else self.query_norm(queries)
        return queries if self.rotary is None else self.rotary(queries, positions)

    def _diagonal_bias(
        self, queries: Tensor, given: KeyValues, positions: Tensor | None
    ) -> Float[Tensor, "#B H N S"] | None:
        if self.nearness is None:
            return None
        if positions is None:
            positions = torch.arange(queries.shape[2], device=queries.device)[None]
        here = self.diagonal_slope * positions[..., None].to(self.nearness)
        there = torch.arange(given.keys.shape[2], device=queries.device)
        away = (there - here) / (4 + here / 4)
        return -self.nearness.exp()[:, None, None] * away.square()[:, None]

    def _heads(self, projected: Tensor) -> Tensor:
        return rearrange(projected, "b n (h k) -> b h n k", k=self.head_dim)


def _allowed(queries: Tensor, given: KeyValues, is_causal: bool) -> Bool[Tensor, "#B 1 #N S"]:
    """Boolean mask of the keys that each query may attend to."""
    num_keys = given.keys.shape[2]
    slots = torch.arange(num_keys, device=queries.device)
    seen = slots[None, None, None] >= 0 if given.mask is None else given.mask[:, None, None]
    if not is_causal:
        return seen
    places = slots[None, num_keys - queries.shape[2] :] if given.places is None else given.places
    return seen & (slots <= places[:, None, :, None])
