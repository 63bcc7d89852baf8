"""Media to ids and back. Here: byte-pair text."""

from sensorium.codecs.bpe import Bpe, train_bpe

__all__ = ["Bpe", "train_bpe"]
