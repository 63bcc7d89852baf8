"""Media to ids and back: byte-pair text with chat templates, and FSQ autoencoders of images and speech."""

from sensorium.codecs.audio_fsq import AudioFsq, AudioFsqConfig
from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.codecs.chat import Chat, Medium, Message, PromptPiece
from sensorium.codecs.contract import CODECS, Codec
from sensorium.codecs.image_fsq import ImageFsq, ImageFsqConfig

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
    "PromptPiece",
    "train_bpe",
]
