"""Audio encoders over log-mel frames: a CNN and a Transformer, for sounds and speech.

Input: frames (B, T, M), 100 per second, with a mask; real frames come first. Output: tokens (B, N, D) at a
lower rate, zero where masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einops import rearrange
from torch import nn

from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import AudioInput
from sensorium.encoders.registry import ENCODERS, input_of
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.conv import ConvStages
from sensorium.nn.patch import TimeStem


@ENCODERS.register("audio-cnn")
class AudioCNN(nn.Module):
    """Residual convolutions over time and frequency; a token is a time step of the last map.

    Args:
        width: Channels of the first stage; each further stage has twice as many.
        depths: Number of residual blocks of each stage; a token spans 2^stages frames.
        dim: Width D of the tokens.
        num_mels: Mel bands M.
        input: Further options of `AudioInput`.

    Reference: arXiv:1609.09430, here with a norm over channels, so that padding does not change the result.
    """

    modality = "audio"

    def __init__(
        self,
        *,
        width: int = 32,
        depths: Sequence[int] = (1, 1, 1, 1),
        dim: int = 256,
        num_mels: int = 80,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.input = input_of(AudioInput, {"num_mels": num_mels}, input)
        self.stages = ConvStages(1, [width * 2**stage for stage in range(len(depths))], depths, "layer")
        num_bands = -(-num_mels // self.stages.stride)
        self.project = nn.Linear(self.stages.num_channels * num_bands, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, T, M) frames as ceil(T / 2^stages) tokens."""
        features, mask = self.stages(inputs.values[:, None], inputs.mask)
        values = self.norm(self.project(rearrange(features, "b c t m -> b t (c m)")))
        return Tokens(values.masked_fill(~mask[..., None], 0), mask)


@ENCODERS.register("audio-transformer")
class AudioTransformer(nn.Module):
    """Two convolutions over time, then Transformer blocks with rotary positions.

    Args:
        width: Width D.
        depth: Number of blocks.
        num_heads: Number of attention heads; default: one per 32 of width.
        dropout: Dropout rate on each sublayer's output.
        strides: Strides of the two convolutions; (2, 2) gives 25 tokens per second.
        num_mels: Mel bands M.
        input: Further options of `AudioInput`.

    Reference: arXiv:2212.04356, section 2.2, here with rotary positions, so that the length is not fixed.
    """

    modality = "audio"

    def __init__(
        self,
        *,
        width: int = 256,
        depth: int = 4,
        num_heads: int | None = None,
        dropout: float = 0.0,
        strides: Sequence[int] = (2, 2),
        num_mels: int = 80,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.dim = width
        self.input = input_of(AudioInput, {"num_mels": num_mels}, input)
        self.stem = TimeStem(num_mels, width, strides)
        heads = max(1, width // 32) if num_heads is None else num_heads
        self.stack = Stack(BlockConfig(dim=width, num_heads=heads, rotary_axes=1, dropout=dropout), depth)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, T, M) frames."""
        x, mask = self.stem(inputs.values, inputs.mask)
        values = self.stack(x, mask)
        return Tokens(values.masked_fill(~mask[..., None], 0), mask)
