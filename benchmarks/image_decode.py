"""Image decode: a 12 MP JPEG to a short side of 224, ours (reduced-scale) against plain Pillow (whole).

Both sides start from bytes and end in a 224-pixel RGB array, by the same bicubic resize; the decode alone is
reported too. Runs are interleaved and the figure is the median of the pairwise ratios of CPU time (both sides
run in one thread), so that a busy machine changes it little.
Usage: `python benchmarks/image_decode.py [PAIRS]`; writes `results/image_decode.json`.
"""

import io
import json
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow
from PIL import features

from machine import machine, spread, write
from sensorium import media

SIZE = (4032, 3024)
TARGET_PX = 224


def photo_jpeg(seed: int = 7) -> bytes:
    """A picture with the statistics of a photo: detail at every scale, sensor noise; quality 90."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    for level in range(10):
        cells = 3 * 2**level
        coarse = rng.standard_normal((cells, cells * 4 // 3, 3)).astype(np.float32)
        coarse[:, :, 1:] = coarse[:, :, :1] + 0.3 * coarse[:, :, 1:]
        for channel in range(3):
            grown = Pillow.fromarray(coarse[:, :, channel]).resize(SIZE, Pillow.Resampling.BICUBIC)
            planes[:, :, channel] += np.asarray(grown) * 40 / 1.6**level
    planes += rng.standard_normal(planes.shape[:2], dtype=np.float32)[:, :, None] * 3
    out = io.BytesIO()
    Pillow.fromarray(np.clip(planes + 128, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def plain_decode(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data)).convert("RGB")


def our_decode(data: bytes) -> Pillow.Image:
    return media.open(data, target_px=TARGET_PX).to_pillow()


def resized(picture: Pillow.Image) -> np.ndarray:
    scale = TARGET_PX / min(picture.size)
    size = (round(picture.size[0] * scale), round(picture.size[1] * scale))
    return np.asarray(picture.resize(size, Pillow.Resampling.BICUBIC))


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(
    plain: Callable[[], object], ours: Callable[[], object], pairs: int
) -> dict[str, dict[str, float]]:
    """Interleaved runs; the order within a pair alternates."""
    plain(), ours()
    times = []
    for number in range(pairs):
        if number % 2:
            times.append((seconds(plain), seconds(ours)))
        else:
            times.append((seconds(ours), seconds(plain))[::-1])
    plain_s, ours_s = np.array(times).T
    return {
        "plain_ms": spread(1000 * plain_s),
        "ours_ms": spread(1000 * ours_s),
        "plain/ours": spread(plain_s / ours_s),
    }


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    data = photo_jpeg()
    difference = np.abs(resized(plain_decode(data)).astype(int) - resized(our_decode(data)))
    result = {
        "what": f"JPEG {SIZE[0]}x{SIZE[1]}, {len(data)} bytes, to a short side of {TARGET_PX}",
        "pairs": pairs,
        "decode_and_resize": compare(
            lambda: resized(plain_decode(data)), lambda: resized(our_decode(data)), pairs
        ),
        "decode": compare(lambda: plain_decode(data), lambda: our_decode(data), pairs),
        "difference_of_255": {"max": int(difference.max()), "mean": round(float(difference.mean()), 3)},
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "machine": machine(("pillow", "numpy")),
    }
    write("image_decode", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
