"""Autoregressive decoder over a vocabulary: ids so far in, logits of the next id out.

    h = stack(embed(ids), memory)      causal self-attention, and cross-attention to a memory if there is one
    logits = h W^T                     W is the embedding matrix if the two are tied

Ids may be text tokens, image codes or audio codes. The class holds the weights of Llama, SmolLM2, Qwen2,
Qwen3 and Whisper's decoder (name maps in `models.pretrained`), and of small models trained from scratch. It
does not know how the next id is sampled, what the memory encodes, or what ids stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.config import Config
from sensorium.nn.attention import KeyValues
from sensorium.nn.block import BlockConfig, Cache, Stack
from sensorium.nn.cache import StaticCache
from sensorium.nn.position import LearnedPositions


class LanguageModelConfig(Config):
    """Configuration of a decoder.

    Attributes:
        vocab_size: Number V of ids.
        block: Configuration of every block; `is_causal` for generation.
        depth: Number of blocks.
        memory_every: Every n-th block has cross-attention, if `block` has a memory (see `nn.block.Stack`).
        memory_last: Only the last n blocks may have cross-attention; None: all.
        num_positions: Number of learned positions; 0: none.
        is_tied: Whether the output matrix is the embedding.
    """

    vocab_size: int = Field(ge=1)
    block: BlockConfig
    depth: int = Field(ge=1)
    memory_every: int = Field(default=1, ge=1)
    memory_last: int | None = Field(default=None, ge=1)
    num_positions: int = Field(default=0, ge=0)
    is_tied: bool = True


class LanguageModel(nn.Module):
    """Embedding, stack, output matrix.

    Args:
        config: Configuration. Weights are drawn from torch's global generator.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.block.dim
        self.embedding = nn.Embedding(config.vocab_size, dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = LearnedPositions(config.num_positions, dim) if config.num_positions else None
        self.stack = Stack(
            config.block, config.depth, memory_every=config.memory_every, memory_last=config.memory_last
        )
        self.head = None if config.is_tied else nn.Linear(dim, config.vocab_size, bias=False)

    @property
    def output_matrix(self) -> Float[Tensor, "V D"]:
        """Matrix that maps hidden vectors to logits; losses use it to compute logits in tiles."""
        return self.embedding.weight if self.head is None else self.head.weight

    def embed(
        self, ids: Int64[Tensor, "B N"], positions: Int64[Tensor, "#B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Embed ids, and add learned positions if the model has them."""
        x: Tensor = self.embedding(ids)
        if self.positions is None:
            return x
        return self.positions(x) if positions is None else x + self.positions.table[positions]

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        *,
        positions: Int64[Tensor, "#B N"] | None = None,
        memory: Sequence[KeyValues | None] | None = None,
        caches: Sequence[Cache] | None = None,
        segments: Int64[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Compute hidden vectors.

        Args:
            x: Output of `embed`, or media embeddings between token embeddings.
            mask: True = real.
            positions: Position of each token; default 0..N-1.
            memory: Output of `memory_key_values`.
            caches: One cache per block, from `new_caches`; None: `x` is the whole sequence.
            segments: Number of the packed sequence of each token (training only).
        """
        hidden: Tensor = self.stack(
            x, mask, positions=positions, memory=memory, caches=caches, segments=segments
        )
        return hidden

    def logits(self, hidden: Float[Tensor, "B N D"]) -> Float[Tensor, "B N V"]:
        """Compute the logits of the next id."""
        return functional.linear(hidden, self.output_matrix)

    @torch.inference_mode()
    def score(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Compute the logits of the next id at each position of a text, without memory."""
        return self.logits(self(self.embed(ids)))

    def memory_key_values(
        self,
        memory: Float[Tensor, "B S C"],
        mask: Bool[Tensor, "B S"] | None = None,
        segments: Int64[Tensor, "B S"] | None = None,
    ) -> list[KeyValues | None]:
        """Project a memory to keys and values for the cross-attention of every block."""
        return self.stack.memory_key_values(memory, mask, segments)

    def new_caches(self, num_rows: int, capacity: int) -> list[StaticCache]:
        """Create empty caches with the dtype and device of the model, one per block."""
        block, weight = self.config.block, self.embedding.weight
        num_kv_heads = block.num_heads if block.num_kv_heads is None else block.num_kv_heads
        head_dim = block.dim // block.num_heads if block.head_dim is None else block.head_dim
        return [
            StaticCache(num_rows, num_kv_heads, capacity, head_dim, dtype=weight.dtype, device=weight.device)
            for _ in range(self.config.depth)
        ]
