"""The one Transformer block, and a stack of them: encoders and decoders are configurations of it.

In: tokens (B, N, D) with a mask, and for decoders a memory to attend to. Out: tokens (B, N, D).

    x = x + attention(norm(x))                        self: rotary or not, causal or not, grouped queries
    x = x + tanh(gate) * attention(norm(x), memory)   cross, where `memory_dim` is set; the gate starts at 0
    x = x + mlp(norm(x))                              two layers with GELU, or three with a SiLU gate

With the gate at 0 a block with memory is exactly the block without (Flamingo, arXiv:2204.14198, section 2.2).
`norm_place="post"` is the original order of BERT: x = norm(x + f(x)). Nothing here knows modalities or tasks.
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
    """One block.

    Attributes:
        dim: Width D.
        num_heads: Query heads H.
        num_kv_heads: Key and value heads; default H.
        head_dim: Width of a head; default D / H.
        mlp_dim: Inner width of the MLP; default 4 D.
        mlp: `gelu`: two layers; `swiglu`: three, one of them a gate.
        norm: `layer` or `rms`.
        norm_eps: Keeps the norm from dividing by zero.
        norm_place: `pre` (before each part, the default) or `post` (after each sum, as BERT).
        qkv_bias: Whether the query, key and value projections have a bias.
        out_bias: Whether attention's output and the MLP have one.
        query_norm: Whether queries and keys are normalised.
        is_causal: Whether a token sees only what stands before it.
        rotary_axes: 0: no rotary positions; 1: sequences; 2: grids.
        rotary_base: Base of the rotary wavelengths.
        rotary_factors: What the wavelength of each pair is multiplied by; none: all are 1.
        rotary_gain: What rotated queries and keys are multiplied by.
        memory_dim: Width of the memory for cross-attention; 0 = the block has none.
        gated_memory: Whether cross-attention passes a tanh gate that starts at 0.
        memory_diagonal_slope: Places of the memory that a token reads on, about; 0: it is not read in order.
        memory_prior_sharpness: How much sharper than the first the last head then begins; see `nn.attention`.
        dropout: Share of each part's output that is dropped in training.
        drop_path: Chance that a sample skips a part in training (stochastic depth, arXiv:1603.09382).
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
    """Where one block keeps the keys and values of its self-attention between decoding steps."""

    def extend(self, new: KeyValues, positions: Int64[Tensor, "B N"] | None) -> KeyValues:
        """Store `new` at `positions` and return all that is stored, with its mask and the queries' places."""


class Block(nn.Module):
    """Self-attention, optional cross-attention to a memory, MLP."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.is_post = config.norm_place == "post"
        self.attention_norm = make_norm(config)
        self.attention = _self_attention(config)
        self.memory_norm = make_norm(config) if config.memory_dim else None
        self.memory_attention = _memory_attention(config) if config.memory_dim else None
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
            x: Tokens.
            mask: True = real; masked tokens are seen by none.
            positions: Of the tokens, for rotary positions and for the cache; default 0..N-1.
            memory: From `memory_key_values`, made once and used at every decoding step.
            cache: Keeps earlier tokens' keys and values; None = `x` is the whole sequence.
            segments: Which of several sequences packed into a row each token is of: it sees no other.
        """
        x = self._add(x, self.attention_norm, lambda y: self._attend(y, mask, positions, cache, segments))
        if self.memory_attention is not None and self.memory_norm is not None and memory is not None:
            attention, given = self.memory_attention, memory
            x = self._add(x, self.memory_norm, lambda y: self._gate(attention(y, given, positions, segments)))
        return self._add(x, self.mlp_norm, self.mlp)

    def memory_key_values(
        self, memory: Float[Tensor, "B S C"], mask: Bool[Tensor, "B S"] | None = None
    ) -> KeyValues:
        """Project a memory for this block's cross-attention; the block must have one."""
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
    """Blocks one after another, and a last norm where norms come first.

    Args:
        config: Of every block.
        depth: How many.
        memory_every: Where `config` has a memory, every so many-th block attends to it, the last one among
            them; the others have no cross-attention.
        memory_last: Only among the last so many blocks; None: among all.
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
        """Project a memory once for the cross-attention of every block; None for those that have none.

        `segments` say which packed sequence each place of the memory is for.
        """
        blocks = [cast(Block, block) for block in self.blocks]
        return [
            None
            if block.memory_attention is None
            else replace(block.memory_key_values(memory, mask), segments=segments)
            for block in blocks
        ]


def make_norm(config: BlockConfig) -> nn.Module:
    """Build the norm that `config` asks for."""
    if config.norm == "rms":
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps)


def _self_attention(config: BlockConfig) -> Attention:
    head_dim = config.dim // config.num_heads if config.head_dim is None else config.head_dim
    return Attention(
        config.dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        query_norm=config.query_norm,
        norm_eps=config.norm_eps,
        is_causal=config.is_causal,
        rotary=_rotary(config, head_dim) if config.rotary_axes else None,
    )


def _rotary(config: BlockConfig, head_dim: int) -> Rotary:
    return Rotary(
        head_dim,
        config.rotary_base,
        config.rotary_axes,
        factors=config.rotary_factors,
        gain=config.rotary_gain,
    )


def _memory_attention(config: BlockConfig) -> Attention:
    return Attention(
        config.dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        source_dim=config.memory_dim,
        diagonal_slope=config.memory_diagonal_slope,
        prior_sharpness=config.memory_prior_sharpness,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        query_norm=config.query_norm,
        norm_eps=config.norm_eps,
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
