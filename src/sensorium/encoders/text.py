"""Text encoders over byte-pair tokens: a GRU and a Transformer.

Input: token ids (B, N) with a mask; real ids come first. Output: tokens (B, N, D), zero where masked. The
tokenizer is JSON text, for example from `codecs.bpe.train_bpe`, and part of the model's configuration.
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
    """Token embeddings, a layer norm, and a bidirectional GRU.

    Args:
        tokenizer_json: Tokenizer as JSON.
        width: Width D, even; each direction gives half of it.
        depth: Number of layers.
        dropout: Dropout rate between layers and on the embeddings.
        max_tokens: Longer texts are truncated.
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
    """Token embeddings and Transformer blocks with rotary positions.

    Args:
        tokenizer_json: Tokenizer as JSON.
        width: Width D.
        depth: Number of blocks.
        num_heads: Number of attention heads; default: one per 32 of width.
        dropout: Dropout rate on each sublayer's output.
        max_tokens: Longer texts are truncated.
        input: Further options of `TextInput`.

    Reference: encoder of arXiv:1706.03762, here pre-norm and with rotary positions.
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
    """Embeddings with norm 1 at initialisation: AdamW rotates shorter vectors too far in one step."""
    embedding = nn.Embedding(num_ids(read_tokenizer(tokenizer_json)), width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding


def _look_up(embedding: nn.Embedding, inputs: Padded) -> Tensor:
    """Embeddings of the real ids; masked ids may have any value."""
    vectors: Tensor = embedding(inputs.values.masked_fill(~inputs.mask, 0))
    return torch.where(inputs.mask[..., None], vectors, torch.zeros_like(vectors))
