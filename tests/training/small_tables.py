"""A tiny media table and recipes over it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers

from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.data.table.table import Table

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "black": (10, 10, 10)}
SHAPES = ("disc", "box")
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def picture(colour: str, shape: str, place: int = 0) -> bytes:
    image = Image.new("RGB", (37, 31), "white")
    draw = ImageDraw.Draw(image)
    box = (5 + place, 4, 25 + place, 26)
    (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=COLOURS[colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def sound(pitch_hz: float, seconds: float = 0.3) -> bytes:
    times = np.arange(int(16_000 * seconds)) / 16_000
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * np.sin(2 * np.pi * pitch_hz * times), 16_000, format="WAV")
    return stream.getvalue()


def samples(copies: int = 3, *, with_sound: bool = True) -> list[Sample]:
    """`copies` pictures of each of eight things, from as many sources; most have a sound."""
    found = []
    for copy in range(copies):
        for number, (colour, shape) in enumerate(PAIRS):
            spoken = (
                [Clip("en", sound(150 + 97 * number, 0.2 + 0.05 * copy))] if with_sound and copy != 1 else []
            )
            found.append(
                Sample(
                    f"{colour}-{shape}-{copy}.png",
                    image=picture(colour, shape, copy),
                    speech=spoken,
                    audio=sound(3000 - 211 * number) if spoken and number % 2 == 0 else None,
                    texts=[Caption("en", f"a {colour} {shape}"), Caption("de", f"{shape} in {colour}")],
                    source=f"maker-{copy}",
                )
            )
    return found


def tokenizer_json() -> str:
    """Whole words and nothing else."""
    words = ["?", "a", *COLOURS, *SHAPES]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="?")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def make_table(path: Path, copies: int = 3, **options: bool) -> Table:
    table = Table.create(path, description="Coloured shapes.", licence="CC0-1.0")
    table.add(samples(copies, **options))
    return table


def scratch_recipe(table: Path, **train: Any) -> dict[str, Any]:
    """From scratch: a small CNN and a GRU; the third maker is held out."""
    return {
        "seed": 3,
        "data": {"table": str(table), "test": {"source": "maker-2"}, "vocab_size": 300},
        "model": {
            "dim": 16,
            "towers": {
                "image": {
                    "encoder": "image-cnn",
                    "options": {"width": 4, "depths": [1, 1], "size_px": 16},
                },
                "text": {"encoder": "text-gru", "options": {"width": 16}, "head": "residual-mlp"},
            },
        },
        "loss": {"pairs": [{"a": "image", "b": "text"}]},
        "train": {
            "steps": 12,
            "batch_size": 7,
            "lr": 3e-3,
            "eval_every": 5,
            "save_every": 3,
            "log_every": 2,
            "device": "cpu",
            "tensorboard": False,
            **train,
        },
    }


def locked_recipe(table: Path, **train: Any) -> dict[str, Any]:
    """The same with a locked image tower, cached views, and spoken captions."""
    recipe = scratch_recipe(table, **train)
    recipe["data"]["views"] = 3
    recipe["model"]["towers"]["image"] |= {"frozen": True, "head": "residual-mlp", "views": 2}
    recipe["model"]["towers"]["audio"] = {
        "encoder": "audio-cnn",
        "options": {"width": 3, "depths": [1, 1], "dim": 12, "num_mels": 40},
        "frozen": True,
    }
    recipe["loss"]["pairs"].append({"a": "speech", "b": "image", "weight": 0.5})
    return recipe


SMALL_SOUNDS = {
    **{"num_mels": 20, "encoder_dim": 6, "decoder_dim": 10},
    **{"encoder_depth": 1, "decoder_depths": [1, 1]},
}
SMALL_PICTURES = {"size_px": 16, "widths": [5, 7], "levels": [5, 3, 2]}


def codec_recipe(table: Path, modality: str = "image", **train_options: Any) -> dict[str, Any]:
    part = {"table": str(table), "test": {"source": "maker-2"}}
    if modality == "audio":
        part["field"] = "speech"
    return {
        "task": "codec",
        "seed": 3,
        "data": {"crop_s": 0.16, "parts": {"shapes": part}},
        "model": {
            "codec": f"{modality}-fsq",
            "options": SMALL_PICTURES if modality == "image" else SMALL_SOUNDS,
        },
        "train": {
            "steps": 5,
            "batch_size": 7,
            "lr": 3e-3,
            "save_every": 1,
            "log_every": 2,
            "device": "cpu",
            "tensorboard": False,
            **train_options,
        },
    }
