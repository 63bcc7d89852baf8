"""Small films with known cuts, sounds and highlights, made on the spot."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SOUND_HZ = 48_000


def scenery(seed: int, size: tuple[int, int] = (64, 36)) -> np.ndarray:
    """Smooth colours of their own, (H, W, 3) uint8; larger than a frame, so that a camera can pan in it."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (7, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((size[0] * 3 // 2 + 2, size[1] * 3 // 2), 3))


def scene(
    seed: int, num_frames: int, size: tuple[int, int] = (64, 36), speed: float = 0.1, noise: int = 4
) -> np.ndarray:
    """A slow pan over `scenery(seed)` with the noise of a camera, (T, H, W, 3) uint8."""
    picture, rng = scenery(seed, size), np.random.default_rng(seed)
    width, height = size
    shots = []
    for number in range(num_frames):
        whole, share = divmod(min(number * speed, width // 2 - 1), 1)
        band = picture[height // 4 : height // 4 + height, int(whole) : int(whole) + width + 1].astype(float)
        part = (1 - share) * band[:, :-1] + share * band[:, 1:]
        shots.append(np.clip(part + rng.integers(-noise, noise + 1, part.shape), 0, 255).astype(np.uint8))
    return np.stack(shots)


def dissolve(first: np.ndarray, second: np.ndarray, num_frames: int) -> np.ndarray:
    """`first` and `second` with their ends mixed over `num_frames`."""
    share = ((np.arange(num_frames) + 1) / (num_frames + 1))[:, None, None, None]
    mixed = first[-num_frames:] * (1 - share) + second[:num_frames] * share
    return np.concatenate([first[:-num_frames], mixed.round().astype(np.uint8), second[num_frames:]])


def black(num_frames: int, size: tuple[int, int] = (64, 36)) -> np.ndarray:
    return np.zeros((num_frames, size[1], size[0], 3), np.uint8)


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 25,
    stamps_ms: Sequence[int] = (),
    sound: np.ndarray | None = None,
    rotation: int = 0,
    codec: str = "libx264",
) -> Path:
    """Encode frames (H, W, 3) at `rate` a second or at `stamps_ms`, and sound (T, C) at 48 kHz."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        track = None
        if sound is not None:
            track = file.add_stream("aac", rate=SOUND_HZ, layout="stereo" if sound.shape[1] == 2 else "mono")
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
                is_odd = stream.height % 2 or stream.width % 2
                stream.pix_fmt = "yuv444p" if is_odd else "yuv420p"
                stream.gop_size = 25
                if codec == "libx264":
                    stream.options = {"preset": "ultrafast", "crf": "18"}
                if rotation:
                    stream.set_display_rotation(rotation)
                if stamps_ms:
                    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            if stamps_ms:
                frame.pts, frame.time_base = stamps_ms[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if track is not None and sound is not None:
            _write_sound(file, track, sound)
    return path


def _write_sound(file: av.container.OutputContainer, track: av.AudioStream, sound: np.ndarray) -> None:
    for start in range(0, len(sound), 1024):
        part = np.ascontiguousarray(sound[start : start + 1024].T.astype(np.float32))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=track.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, start, Fraction(1, SOUND_HZ)
        file.mux(track.encode(frame))
    file.mux(track.encode(None))


def beeps(duration_s: float, at_s: Iterable[float], length_s: float = 0.1) -> np.ndarray:
    """Silence with a 1 kHz tone at some times, (T, 1) at 48 kHz."""
    times_s = np.arange(round(duration_s * SOUND_HZ)) / SOUND_HZ
    is_on = np.zeros(len(times_s), bool)
    for start_s in at_s:
        is_on |= (times_s >= start_s) & (times_s < start_s + length_s)
    return (0.7 * np.sin(2 * np.pi * 1000 * times_s) * is_on).astype(np.float32)[:, None]


def highlight_film(path: Path, seed: int, num_segments: int = 20, segment_s: float = 2.4) -> np.ndarray:
    """A film whose parts are known to be worth 0 (seen before, still, silent) to 3 (new, moving, loud).

    Returns:
        Worth of each of its segments.
    """
    rng, rate = np.random.default_rng(seed), 10
    grades = rng.permutation(np.arange(num_segments) % 4)
    grades[0] = 0
    num_frames, num_samples = round(segment_s * rate), round(segment_s * SOUND_HZ)
    parts, sounds = [], []
    for number, grade in enumerate(grades):
        view = 1000 * seed + (0 if grade == 0 else number)
        parts.append(scene(view, num_frames, speed=(0.0, 0.1, 0.5, 1.3)[grade], noise=2))
        times_s = np.arange(num_samples) / SOUND_HZ
        tone = np.sin(2 * np.pi * rng.uniform(200, 900) * times_s) * (0.0, 0.02, 0.1, 0.4)[grade]
        sounds.append(tone + 0.001 * rng.normal(size=num_samples))
    sound = np.concatenate(sounds).astype(np.float32)[:, None]
    write_film(path, np.concatenate(parts), rate=rate, sound=sound)
    return grades
