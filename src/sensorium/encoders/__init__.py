"""One encoder per modality: opened media in, tokens (B, N, D) with a mask out.

Importing this package fills `ENCODERS`; `Encoder` is the contract that each entry keeps.
"""

from sensorium.encoders import audio, pretrained, text, video, vision
from sensorium.encoders.registry import ENCODERS, Encoder

__all__ = ["ENCODERS", "Encoder", "audio", "pretrained", "text", "video", "vision"]
