"""Text encoders: a recurrent network and a Transformer, over ids of a byte-pair tokenizer.

In: token ids (B, N) with a mask, real ids first. Out: tokens (B, N, D), zero where masked. The tokenizer
comes as its JSON text, by `codecs.bpe.train_bpe` or from elsewhere, and travels with the model's
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sensorium.core.tokenizer import num_ids, read_tokenizer
from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import TextInput
from sensorium.encoders.registry import ENCODERS, input_of
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.recurrent import Recurrent


@ENCODERS.register("text-gru")
class TextGRU(nn.Module):
    """Word-piece vectors, normalised, read in both directions by gated recurrent units.

    Args:
        tokenizer_json: The tokenizer as JSON.
        width: Width D, even; each direction gives half.
        depth: Layers.
        dropout: Between layers and on the word-piece vectors, in training.
        max_tokens: Longest text.
        input: Further options of `TextInput`.

    Reference: arXiv:1406.1078.
    """

    modality = "text"

    def __init__(
        self,
        *,
        tokenizer_json: str,
        width: int = 256,
        depth: int = 1,
        dropout: float = 0.0,
        max_tokens: int = 64,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.dim = width
        self.input = input_of(TextInput, {"tokenizer_json": tokenizer_json, "max_tokens": max_tokens}, input)
        self.embedding = _embedding(tokenizer_json, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.layers = Recurrent(width, width, depth, dropout=dropout)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, N) ids."""
        values = self.drop(self.norm(_look_up(self.embedding, inputs)))
        return Tokens(self.layers(Tokens(values, inputs.mask)), inputs.mask)


@ENCODERS.register("text-transformer")
class TextTransformer(nn.Module):
    """Word-piece vectors and a stack in which each sees all others, with rotary positions.

    Args:
        tokenizer_json: The tokenizer as JSON.
        width: Width D.
        depth: Blocks.
        num_heads: Attention heads; default one for each 32 of width.
        dropout: Of each part's output, in training.
        max_tokens: Longest text.
        input: Further options of `TextInput`.

    Reference: arXiv:1706.03762, its encoder, with norms first and rotary positions.
    """

    modality = "text"

    def __init__(
        self,
        *,
        tokenizer_json: str,
        width: int = 256,
        depth: int = 4,
        num_heads: int | None = None,
        dropout: float = 0.0,
        max_tokens: int = 64,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.dim = width
        self.input = input_of(TextInput, {"tokenizer_json": tokenizer_json, "max_tokens": max_tokens}, input)
        self.embedding = _embedding(tokenizer_json, width)
        heads = max(1, width // 32) if num_heads is None else num_heads
        self.stack = Stack(BlockConfig(dim=width, num_heads=heads, rotary_axes=1, dropout=dropout), depth)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, N) ids."""
        values = self.stack(_look_up(self.embedding, inputs), inputs.mask)
        return Tokens(values.masked_fill(~inputs.mask[..., None], 0), inputs.mask)


def _embedding(tokenizer_json: str, width: int) -> nn.Embedding:
    """Word-piece vectors of length 1, before a norm: a step of AdamW turns short vectors further."""
    embedding = nn.Embedding(num_ids(read_tokenizer(tokenizer_json)), width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding


def _look_up(embedding: nn.Embedding, inputs: Padded) -> Tensor:
    """Vectors of the real ids; masked places may hold any number at all."""
    vectors: Tensor = embedding(inputs.values.masked_fill(~inputs.mask, 0))
    return torch.where(inputs.mask[..., None], vectors, torch.zeros_like(vectors))
