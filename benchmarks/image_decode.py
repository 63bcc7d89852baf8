"""Image decode: a 12-megapixel JPEG to a short side of 224, ours against Pillow.

    python benchmarks/image_decode.py [--rounds 25]

All start from bytes and end in a 224-pixel RGB array, by the same bicubic resize; the decode alone is
reported too. Pillow has three rows: it decodes the whole picture, or at a reduced scale by `draft`: at least
twice the target, as ours asks of libjpeg so that resizing has something to average, or at least the target,
which is less work and less exact. CPU time of one thread. Writes `results/image_decode.json`.
"""

import argparse
import functools
import io
import json
import time
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow
from PIL import features

from machine import in_turns, machine, ratios, require_idle, spread, write
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


def draft_decode(data: bytes, side_px: int) -> Pillow.Image:
    """At the smallest scale of libjpeg that is not below a size."""
    picture = Pillow.open(io.BytesIO(data))
    picture.draft("RGB", (side_px, side_px))
    return picture.convert("RGB")


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


CONTENDERS: dict[str, Callable[[bytes], Pillow.Image]] = {
    "sensorium": our_decode,
    "Pillow, draft at twice the target": functools.partial(draft_decode, side_px=2 * TARGET_PX),
    "Pillow, draft": functools.partial(draft_decode, side_px=TARGET_PX),
    "Pillow, whole": plain_decode,
}


def compare(run: Callable[[str], object], rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """CPU milliseconds of each contender, and over ours in the same round."""
    for name in CONTENDERS:
        run(name)
    times = in_turns(list(CONTENDERS), rounds, lambda name: 1000 * seconds(lambda: run(name)))
    over = ratios(times, "sensorium")
    return {name: {"cpu_ms": spread(times[name]), "over ours": over[name]} for name in CONTENDERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    require_idle()
    data = photo_jpeg()
    whole = resized(plain_decode(data)).astype(int)
    differences = {name: np.abs(resized(decode(data)) - whole) for name, decode in CONTENDERS.items()}
    result = {
        "what": f"JPEG {SIZE[0]}x{SIZE[1]}, {len(data)} bytes, to a short side of {TARGET_PX}",
        "rounds": rounds,
        "decode and resize": compare(lambda name: resized(CONTENDERS[name](data)), rounds),
        "decode": compare(lambda name: CONTENDERS[name](data), rounds),
        "difference_of_255": {
            name: {"max": int(one.max()), "mean": round(float(one.mean()), 3)}
            for name, one in differences.items()
        },
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "machine": machine(("pillow", "numpy")),
    }
    write("image_decode", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
