"""Video encoder: an image encoder per frame, then optional attention over time.

Input: frames (B, T, 3, H, W) with a mask; real frames come first. Output: one token per frame, (B, T, D),
zero where masked. Only real frames are encoded, so that padding costs no time and does not change the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import nn

from sensorium.core.errors import ConfigError
from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import ImageInput, VideoInput
from sensorium.encoders.registry import ENCODERS, input_of
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.pooling import POOLINGS


@ENCODERS.register("video-frames")
class VideoFrames(nn.Module):
    """Image encoder for frames, and Transformer blocks over time.

    Args:
        frame: Registered name of an image encoder.
        frame_options: Its arguments; its input prepares the frames.
        frame_pooling: Registered name of the pooling of a frame's tokens.
        temporal: `attention`: blocks over frames with rotary positions, so that their order matters; `none`:
            frames are encoded independently.
        depth: Number of blocks over time.
        num_heads: Number of attention heads; default: one per 32 of width.
        num_frames: Maximum number of frames of a video.
        input: Further options of `VideoInput`.

    Raises:
        ConfigError: If `frame` is not an image encoder.

    Reference: mean over frames and a temporal Transformer, as in CLIP4Clip (arXiv:2104.08860, section 3.3).
    """

    modality = "video"

    def __init__(
        self,
        *,
        frame: str = "image-cnn",
        frame_options: Mapping[str, object] | None = None,
        frame_pooling: str = "mean",
        temporal: Literal["attention", "none"] = "attention",
        depth: int = 1,
        num_heads: int | None = None,
        num_frames: int = 8,
        input: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        encoder = ENCODERS.build(frame, **(frame_options or {}))
        if encoder.modality != "image" or not isinstance(encoder.input, ImageInput):
            raise ConfigError(f"frame='{frame}' encodes {encoder.modality}; name an image encoder")
        self.dim = encoder.dim
        self.input = input_of(VideoInput, {"num_frames": num_frames, "frame": encoder.input}, input)
        self.frame = cast(nn.Module, encoder)
        self.frame_pool = POOLINGS.build(frame_pooling, dim=self.dim)
        heads = max(1, self.dim // 32) if num_heads is None else num_heads
        config = BlockConfig(dim=self.dim, num_heads=heads, rotary_axes=1)
        self.stack = Stack(config, depth) if temporal == "attention" else None

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, T, 3, H, W) frames."""
        mask = inputs.mask
        frames = inputs.values[mask]
        alone = torch.ones(len(frames), 1, dtype=torch.bool, device=frames.device)
        pooled = self.frame_pool(self.frame(Padded(frames, alone)))
        values = pooled.new_zeros(*mask.shape, self.dim)
        values[mask] = pooled
        if self.stack is not None:
            values = self.stack(values, mask).masked_fill(~mask[..., None], 0)
        return Tokens(values, mask)
