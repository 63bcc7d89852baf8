"""A decoder over a vocabulary: what was written so far in, the odds of what comes next out.

    h = stack(embed(ids), memory)      causal self-attention, and cross-attention to a memory if there is one
    logits = h W^T                     W is the embedding itself where the two are tied

The same class writes text, image codes and audio codes: a vocabulary has no meaning here. It holds the
weights of Llama, SmolLM2, Qwen2, Qwen3 and of Whisper's decoder (name maps in `models.pretrained`), and small
ones of our own. Does not know how the next id is chosen, what a memory was made of, or what ids stand for.
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
    """A decoder.

    Attributes:
        vocab_size: Number V of ids.
        block: Of every block; `is_causal` for anything that writes from left to right.
        depth: Number of blocks.
        memory_every: Where the block has a memory: every so many-th attends to it (see `nn.block.Stack`).
        memory_last: Only among the last so many blocks; None: among all.
        num_positions: Learned positions; 0: positions are rotary, or there are none.
        is_tied: Whether the embedding is also the output's matrix.
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
        config: What to build. Weights come from torch's global generator.
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
        """What hidden vectors are multiplied with; losses take it, so as never to hold all logits."""
        return self.embedding.weight if self.head is None else self.head.weight

    def embed(
        self, ids: Int64[Tensor, "B N"], positions: Int64[Tensor, "#B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Look ids up, and add learned positions where there are any."""
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
        """Turn embedded tokens into hidden vectors.

        Args:
            x: From `embed`, or vectors of media that stand among the tokens.
            mask: True = real.
            positions: Default 0..N-1; with caches, where each new token stands.
            memory: From `memory_key_values`, made once.
            caches: One for each block, from `new_caches`; None = `x` is the whole sequence.
            segments: Which of several sequences packed into a row each token is of (training only).
        """
        hidden: Tensor = self.stack(
            x, mask, positions=positions, memory=memory, caches=caches, segments=segments
        )
        return hidden

    def logits(self, hidden: Float[Tensor, "B N D"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one."""
        return functional.linear(hidden, self.output_matrix)

    @torch.inference_mode()
    def score(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, at each place of a text, without any memory in view."""
        return self.logits(self(self.embed(ids)))

    def memory_key_values(
        self,
        memory: Float[Tensor, "B S C"],
        mask: Bool[Tensor, "B S"] | None = None,
        segments: Int64[Tensor, "B S"] | None = None,
    ) -> list[KeyValues | None]:
        """Project a memory once for the cross-attention of every block."""
        return self.stack.memory_key_values(memory, mask, segments)

    def new_caches(self, num_rows: int, capacity: int) -> list[StaticCache]:
        """Empty caches of the model's own type, one for each block."""
        block, weight = self.config.block, self.embedding.weight
        num_kv_heads = block.num_heads if block.num_kv_heads is None else block.num_kv_heads
        head_dim = block.dim // block.num_heads if block.head_dim is None else block.head_dim
        return [
            StaticCache(num_rows, num_kv_heads, capacity, head_dim, dtype=weight.dtype, device=weight.device)
            for _ in range(self.config.depth)
        ]
