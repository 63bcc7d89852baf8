"""Encoders: padded inputs of one modality in, tokens (B, N, D) with a mask out.

Importing this package fills the registry `ENCODERS`; `Encoder` is the protocol of its entries.
"""

from sensorium.encoders import audio, pretrained, text, video, vision
from sensorium.encoders.registry import ENCODERS, Encoder

__all__ = ["ENCODERS", "Encoder", "audio", "pretrained", "text", "video", "vision"]
