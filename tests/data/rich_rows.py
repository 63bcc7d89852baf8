"""Samples with everything that a row can hold."""

import io

import numpy as np
from PIL import Image

from sensorium.data.table.sample import Caption, Clip, Sample


def png(seed: int, width: int = 19, height: int = 17) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def wav(seed: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    samples = np.random.default_rng(seed).standard_normal(1601).astype(np.float32) * 0.1
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


def rich_sample(number: int) -> Sample:
    """Sample `number`: every field comes and goes with another period."""
    captions = [Caption("en", f"Frog {number // 2}"), Caption("de", f"Frosch {number}"), Caption("", "?")]
    return Sample(
        uri=f"frogs/{number}.png",
        image=png(number) if number % 3 else None,
        audio=wav(number) if number % 5 == 0 else None,
        speech=[Clip("en", wav(number)), Clip("fr", wav(-number % 997))][: number % 3],
        texts=captions[: number % 4 or 2 * (number % 12 == 0)],
        source="frogs",
        licence="CC0-1.0",
        meta={"number": number, "size": number / 7, "name": "Fröschlein"},
        phash=-number if number % 2 else None,
        width_px=19,
        height_px=17,
        duration_s=0.1 if number % 5 == 0 else None,
    )
