"""Small, healthy files of every format, made on the spot."""

import io
from fractions import Fraction
from functools import cache

import av
import numpy as np
import soundfile
from PIL import Image

RATE_HZ = 16_000
_SOUND = {
    "wav": ("WAV", "PCM_16"),
    "wav8": ("WAV", "PCM_U8"),
    "wav24": ("WAV", "PCM_24"),
    "wav32": ("WAV", "PCM_32"),
    "wavfloat": ("WAV", "FLOAT"),
    "wavdouble": ("WAV", "DOUBLE"),
    "wavulaw": ("WAV", "ULAW"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "oggflac": ("OGG", "FLAC"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some texture, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (7, 11, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + rng.integers(-12, 13, (height, width, 1)), 0, 255).astype(np.uint8)


def encode(picture: Image.Image, name: str, **options: object) -> bytes:
    """Bytes of a Pillow image."""
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


@cache
def picture(name: str) -> bytes:
    """A photo of 53 x 41 pixels in one of Pillow's formats."""
    return encode(Image.fromarray(photo(53, 41)), name.upper())


@cache
def animation(name: str, num_frames: int = 12) -> bytes:
    """Moving noise of 37 x 29 pixels, 70 ms a frame."""
    frames = [Image.fromarray(photo(37, 29, seed)) for seed in range(num_frames)]
    kind = "PNG" if name == "apng" else name.upper()
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=70)


def tone(seconds: float = 1.0, channels: int = 2, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A sine of another pitch in each channel, (T, C), amplitude one half."""
    times = np.arange(round(seconds * rate_hz))[:, None] / rate_hz
    return (0.5 * np.sin(2 * np.pi * times * 220 * np.arange(1, channels + 1))).astype(np.float32)


@cache
def sound(name: str, channels: int = 2, seconds: float = 1.0) -> bytes:
    """Some seconds of `tone`."""
    container, codec = _SOUND[name]
    out = io.BytesIO()
    soundfile.write(out, tone(seconds, channels), RATE_HZ, format=container, subtype=codec)
    return out.getvalue()


@cache
def movie(
    container: str,
    codec: str,
    num_frames: int = 30,
    width: int = 64,
    height: int = 48,
    has_sound: bool = False,
    stamps: tuple[int, ...] = (),
    gop: int = 12,
    aspect: tuple[int, int] = (1, 1),
) -> bytes:
    """A movie whose frame i is grey 8 i (mod 256), at 25 frames a second or at `stamps` of 1/1000 s."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        stream.gop_size = gop
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        if stamps:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        track = (
            file.add_stream("aac" if container != "webm" else "libopus", rate=48_000) if has_sound else None
        )
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), number * 8 % 256, np.uint8))
            if stamps:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if track is not None:
            add_sound(file, track, num_frames / 25)
    return out.getvalue()


def add_sound(file: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Encode a stereo `tone` at 48 kHz into an open file."""
    samples = tone(seconds, channels=2, rate_hz=48_000).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="stereo")
    frame.sample_rate = 48_000
    for part in av.AudioResampler(
        format=stream.format, layout="stereo", rate=48_000, frame_size=960
    ).resample(frame):
        file.mux(stream.encode(part))
    file.mux(stream.encode(None))


@cache
def track(container: str, codec: str) -> bytes:
    """A second of `tone` at 48 kHz in a container without pictures."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        add_sound(file, file.add_stream(codec, rate=48_000, layout="stereo"), 1.0)
    return out.getvalue()


def _marked() -> np.ndarray:
    mark = np.full((48, 64, 3), 30, np.uint8)
    mark[:16, :24] = 220
    return mark


MARK = _marked()
"""A picture that no turn or mirror leaves as it is, (48, 64, 3)."""


def marked_movie(degrees: int) -> bytes:
    """Three frames of `MARK`, to be shown turned counter-clockwise."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width = MARK.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(degrees)
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(MARK)))
        file.mux(stream.encode(None))
    return out.getvalue()
