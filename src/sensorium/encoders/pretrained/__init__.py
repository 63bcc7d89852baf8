"""Encoders whose weights come from elsewhere: one file a family, with a map from the published names to ours.

The layers are this project's own and equal to the reference code (relative error <= 1e-5 in fp32). Weights
are fetched into the user's cache when an encoder is built, never on import.
"""

from sensorium.encoders.pretrained import efficientnet, minilm, whisper

__all__ = ["efficientnet", "minilm", "whisper"]
