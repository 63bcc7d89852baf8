"""Media to ids and back: byte-pair text, conversations of it, pictures and sounds by scalar quantisation."""

from sensorium.codecs.audio_fsq import AudioFsq, AudioFsqConfig
from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.codecs.chat import Chat, Message
from sensorium.codecs.contract import CODECS, Codec
from sensorium.codecs.image_fsq import ImageFsq, ImageFsqConfig
from sensorium.codecs.pieces import Medium, Piece

__all__ = [
    "CODECS",
    "AudioFsq",
    "AudioFsqConfig",
    "Bpe",
    "Chat",
    "Codec",
    "ImageFsq",
    "ImageFsqConfig",
    "Medium",
    "Message",
    "Piece",
    "train_bpe",
]
