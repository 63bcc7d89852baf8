"""Transformer block and stack: every encoder and decoder is a configuration of them.

Input: tokens (B, N, D) with a mask, and for decoders a memory for cross-attention. Output: tokens (B, N, D).

    x = x + attention(norm(x))                        self-attention: rotary, causal, grouped-query by option
    x = x + tanh(gate) * attention(norm(x), memory)   cross-attention if `memory_dim` is set; gate starts at 0
    x = x + mlp(norm(x))                              two layers with GELU, or SwiGLU

While the gate is 0, a block with memory equals the block without it (Flamingo, arXiv:2204.14198, section
2.2). `norm_place="post"` is the order of BERT: x = norm(x + f(x)). The block does not know modalities or
tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn

from sensorium.core.config import Config
from sensorium.nn.attention import Attention, KeyValues
from sensorium.nn.mlp import MLP, Drop, GatedMLP
from sensorium.nn.position import Rotary


class BlockConfig(Config):
    """Configuration of a block.

    Attributes:
        dim: Width D.
        num_heads: Query heads H.
        num_kv_heads: Key and value heads; default H.
        head_dim: Width of a head; default D / H.
        mlp_dim: Inner width of the MLP; default 4 D.
        mlp: `gelu` (two layers) or `swiglu` (three layers, one is a gate).
        norm: `layer` or `rms`.
        norm_eps: Epsilon of the norm.
        norm_place: `pre` (norm before each sublayer, the default) or `post` (after each sum, as BERT).
        qkv_bias: Whether the query, key and value projections have a bias.
        out_bias: Whether the output projection and the MLP have a bias.
        query_norm: Whether queries and keys are normalised.
        is_causal: Whether a token attends only to itself and earlier tokens.
        rotary_axes: 0: no rotary positions; 1: sequences; 2: grids.
        rotary_base: Base of the rotary wavelengths.
        rotary_factors: Factor on the wavelength of each coordinate pair; empty: all are 1.
        rotary_gain: Factor on rotated queries and keys.
        memory_dim: Width of the memory for cross-attention; 0: no cross-attention.
        gated_memory: Whether cross-attention has a tanh gate that starts at 0.
        memory_diagonal_slope: Memory tokens per token along the diagonal prior of `nn.attention`; 0: no
            prior.
        memory_prior_sharpness: Initial log sharpness of the prior in the last head; see `nn.attention`.
        dropout: Dropout rate on each sublayer's output.
        drop_path: Probability that a sample skips a sublayer in training (stochastic depth,
            arXiv:1603.09382).
    """

    dim: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    num_kv_heads: int | None = None
    head_dim: int | None = None
    mlp_dim: int | None = None
    mlp: Literal["gelu", "swiglu"] = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    norm_place: Literal["pre", "post"] = "pre"
    qkv_bias: bool = True
    out_bias: bool = True
    query_norm: bool = False
    is_causal: bool = False
    rotary_axes: int = Field(default=0, ge=0, le=3)
    rotary_base: float = 10_000.0
    rotary_factors: tuple[float, ...] = ()
    rotary_gain: float = 1.0
    memory_dim: int = Field(default=0, ge=0)
    gated_memory: bool = True
    memory_diagonal_slope: float = Field(default=0.0, ge=0)
    memory_prior_sharpness: float = Field(default=0.0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


@runtime_checkable
class Cache(Protocol):
    """Store of the keys and values of one block's self-attention between decoding steps."""

    def extend(self, new: KeyValues, positions: Int64[Tensor, "B N"] | None) -> KeyValues:
        """Store `new` at `positions`; return all stored keys and values with mask and query indices."""


class Block(nn.Module):
    """Self-attention, optional cross-attention to a memory, and an MLP, each with a residual connection."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.is_post = config.norm_place == "post"
        self.attention_norm = make_norm(config)
        self.attention = _attention(config, is_memory=False)
        self.memory_norm = make_norm(config) if config.memory_dim else None
        self.memory_attention = _attention(config, is_memory=True) if config.memory_dim else None
        self.memory_gate = (
            nn.Parameter(torch.zeros(())) if config.memory_dim and config.gated_memory else None
        )
        self.mlp_norm = make_norm(config)
        self.mlp = _mlp(config)
        self.drop = Drop(config.dropout, config.drop_path)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        *,
        positions: Int64[Tensor, "#B N *axes"] | None = None,
        memory: KeyValues | None = None,
        cache: Cache | None = None,
        segments: Int64[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Run one block.

        Args:
            x: Tokens (B, N, D).
            mask: True = real; no token attends to a masked one.
            positions: Token positions, for rotary embedding and the cache; default 0..N-1.
            memory: Output of `memory_key_values`, computed once and reused at every decoding step.
            cache: Store of earlier tokens' keys and values; None: `x` is the whole sequence.
            segments: Number of the packed sequence of each token; attention stays within one number.
        """
        x = self._add(x, self.attention_norm, lambda y: self._attend(y, mask, positions, cache, segments))
        if self.memory_attention is not None and self.memory_norm is not None and memory is not None:
            attention, given = self.memory_attention, memory
            x = self._add(x, self.memory_norm, lambda y: self._gate(attention(y, given, positions, segments)))
        return self._add(x, self.mlp_norm, self.mlp)

    def memory_key_values(
        self, memory: Float[Tensor, "B S C"], mask: Bool[Tensor, "B S"] | None = None
    ) -> KeyValues:
        """Project a memory for the cross-attention of this block, which must have it."""
        assert self.memory_attention is not None, "this block has no cross-attention"
        return self.memory_attention.key_values(memory, mask)

    def _add(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.is_post:
            return norm(x + self.drop(part(x)))  # type: ignore[no-any-return]
        return x + self.drop(part(norm(x)))  # type: ignore[no-any-return]

    def _attend(
        self,
        x: Tensor,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: Cache | None,
        segments: Tensor | None,
    ) -> Tensor:
        given = self.attention.key_values(x, mask, positions)
        given = replace(given, segments=segments) if cache is None else cache.extend(given, positions)
        attended: Tensor = self.attention(x, given, positions, segments)
        return attended

    def _gate(self, x: Tensor) -> Tensor:
        return x if self.memory_gate is None else torch.tanh(self.memory_gate) * x


class Stack(nn.Module):
    """Sequence of blocks, with a final norm if the blocks are pre-norm.

    Args:
        config: Configuration of every block.
        depth: Number of blocks.
        memory_every: Every n-th block has cross-attention, counted from the last one, if `config` has a
            memory.
        memory_last: Only the last n blocks may have cross-attention; None: all.
    """

    def __init__(
        self, config: BlockConfig, depth: int, *, memory_every: int = 1, memory_last: int | None = None
    ) -> None:
        super().__init__()
        plain = config.model_copy(update={"memory_dim": 0})
        last = depth if memory_last is None else memory_last
        after = range(depth - 1, -1, -1)  # blocks that come after each
        blocks = [Block(config if n < last and n % memory_every == 0 else plain) for n in after]
        self.blocks = nn.ModuleList(blocks)
        self.norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        self.apply(_start)
        # Residual branches start small, so that depth does not change the scale of the sum (GPT-2,
        # section 2.3).
        with torch.no_grad():
            for block in blocks:
                for end in (block.attention.out, block.mlp.down):
                    end.weight.div_((2 * depth) ** 0.5)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        *,
        positions: Int64[Tensor, "#B N *axes"] | None = None,
        memory: Sequence[KeyValues | None] | None = None,
        caches: Sequence[Cache] | None = None,
        segments: Int64[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Run all blocks; `memory` and `caches` hold one entry for each, see `Block.forward`."""
        for number, block in enumerate(self.blocks):
            x = block(
                x,
                mask,
                positions=positions,
                memory=None if memory is None else memory[number],
                cache=None if caches is None else caches[number],
                segments=segments,
            )
        normed: Tensor = self.norm(x)
        return normed

    def memory_key_values(
        self,
        memory: Float[Tensor, "B S C"],
        mask: Bool[Tensor, "B S"] | None = None,
        segments: Int64[Tensor, "B S"] | None = None,
    ) -> list[KeyValues | None]:
        """Project a memory once for the cross-attention of all blocks; None for blocks without it.

        `segments` gives the packed sequence that each memory token belongs to.
        """
        blocks = [cast(Block, block) for block in self.blocks]
        return [
            None
            if block.memory_attention is None
            else replace(block.memory_key_values(memory, mask), segments=segments)
            for block in blocks
        ]


def make_norm(config: BlockConfig) -> nn.Module:
    """Build the norm layer of a configuration."""
    if config.norm == "rms":
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps)


def _attention(config: BlockConfig, *, is_memory: bool) -> Attention:
    """Self-attention, or cross-attention to the memory."""
    head_dim = config.dim // config.num_heads if config.head_dim is None else config.head_dim
    has_rotary = config.rotary_axes > 0 and not is_memory
    return Attention(
        config.dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        source_dim=config.memory_dim if is_memory else None,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        query_norm=config.query_norm,
        norm_eps=config.norm_eps,
        is_causal=config.is_causal and not is_memory,
        rotary=Rotary(
            head_dim, config.rotary_base, config.rotary_axes, config.rotary_factors, config.rotary_gain
        )
        if has_rotary
        else None,
        diagonal_slope=config.memory_diagonal_slope if is_memory else 0.0,
        prior_sharpness=config.memory_prior_sharpness,
    )


def _mlp(config: BlockConfig) -> MLP | GatedMLP:
    inner = 4 * config.dim if config.mlp_dim is None else config.mlp_dim
    kind = GatedMLP if config.mlp == "swiglu" else MLP
    return kind(config.dim, inner, has_bias=config.out_bias)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)  # as ViT's authors do; 0.02 suits large widths only
        if module.bias is not None:
            nn.init.zeros_(module.bias)
