"""Runs as `sensorium train` leaves them, random and tiny: a multimodal model, its recipe, its codecs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from multimodal_world import BPE, SIDE, build
from sensorium.codecs import AudioFsq, AudioFsqConfig, ImageFsq, ImageFsqConfig
from sensorium.core.config import to_toml
from sensorium.models.checkpoint import save

RATE_HZ = 16_000
SMALL = {"width": 24, "num_heads": 2, "depth": 1}
DECODERS = {
    "text": {"tokenizer_json": BPE, **SMALL},
    "image": {"codec": "elsewhere/image-codec", "num_codes": 15, **SMALL},
    "audio": {"codec": "elsewhere/audio-codec", "num_codes": 9, **SMALL},
}


def image_codec() -> ImageFsq:
    return ImageFsq(ImageFsqConfig(size_px=16, widths=(4, 8), levels=(3, 5))).eval()


def audio_codec() -> AudioFsq:
    sizes = {"encoder_dim": 8, "encoder_depth": 1, "decoder_dim": 8, "decoder_depths": (0, 1), "kernel": 3}
    return AudioFsq(AudioFsqConfig.model_validate({**sizes, "levels": (3, 3)})).eval()


def write_run(
    folder: Path, tasks: Mapping[str, Sequence[str]], outputs: Sequence[str] = ("text",), **changes: object
) -> Path:
    """A run that was taught some tasks, each in some languages."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for name, codec in (("image", image_codec()), ("audio", audio_codec())):
            if name in outputs:
                save(codec, folder / f"{name}-codec")
    save(build(decoders={name: DECODERS[name] for name in outputs}, **changes), folder)
    practised = [{"task": name, "languages": list(codes), "table": "t"} for name, codes in tasks.items()]
    (folder / "recipe.toml").write_text(to_toml({"task": "generate", "data": {"tasks": practised}}))
    return folder


def write_picture(path: Path, seed: int = 1) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_sound(path: Path, duration_s: float = 0.2, seed: int = 1) -> Path:
    noise = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE_HZ))
    soundfile.write(path, noise.astype(np.float32), RATE_HZ)
    return path
