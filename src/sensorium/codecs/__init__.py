"""Media to ids and back: byte-pair text, pictures and sounds by finite scalar quantisation."""

from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.codecs.contract import CODECS, Codec
from sensorium.codecs.image_fsq import ImageFsq, ImageFsqConfig

__all__ = ["CODECS", "Bpe", "Codec", "ImageFsq", "ImageFsqConfig", "train_bpe"]
