"""Public pretrained encoders: one file per family, with a map from published names to ours.

The layers are this project's own and match the reference code (relative error <= 1e-5 in fp32). Weights are
downloaded into the user's cache when an encoder is built, never on import.
"""

from sensorium.encoders.pretrained import efficientnet, minilm, whisper

__all__ = ["efficientnet", "minilm", "whisper"]
