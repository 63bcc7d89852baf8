"""Gated recurrent units (GRU) over padded sequences.

Input: tokens (B, N, D) with a mask; real tokens come first. Output: tokens (B, N, width), zero where masked.
A GRU (arXiv:1406.1078) reads each sequence forwards and optionally backwards from its last real token, so
that padding does not change the result.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.types import Tokens


class Recurrent(nn.Module):
    """Stacked GRU layers over padded sequences.

    Args:
        in_dim: Width of the input tokens.
        width: Width of the output; with two directions each gives half of it.
        depth: Number of layers.
        is_bidirectional: Whether to read the sequence backwards too.
        dropout: Dropout rate between layers.

    Raises:
        ConfigError: If the layer is bidirectional and `width` is odd.
    """

    def __init__(
        self, in_dim: int, width: int, depth: int = 1, *, is_bidirectional: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        directions = 2 if is_bidirectional else 1
        if width % directions:
            raise ConfigError(f"width={width} is odd; two directions need an even width")
        self.layers = nn.GRU(
            in_dim,
            width // directions,
            depth,
            batch_first=True,
            bidirectional=is_bidirectional,
            dropout=dropout if depth > 1 else 0.0,
        )

    def forward(self, tokens: Tokens) -> Float[Tensor, "B N D"]:
        """Run the layers; masked tokens do not influence the output."""
        lengths = tokens.mask.sum(dim=1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            tokens.values, lengths, batch_first=True, enforce_sorted=False
        )
        out, _ = nn.utils.rnn.pad_packed_sequence(
            self.layers(packed)[0], batch_first=True, total_length=tokens.values.shape[1]
        )
        return torch.where(tokens.mask[..., None], out, torch.zeros_like(out))
