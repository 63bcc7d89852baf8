"""Warps the second file of an alignment to the times of the first, and writes it.

Sound is stretched at constant pitch by WSOLA (Verhelst & Roelands 1993): windows of 40 ms every 20 ms, each
shifted by up to 10 ms to the best continuation of the window before. Video frames get new time stamps.
Numbers are interpolated.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from sensorium.align.align_series import SeriesAlignment
from sensorium.core.errors import LimitError, MediaError, UsageError
from sensorium.core.files import replace_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.media import Audio
from sensorium.media import open as open_media
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.frames import frames

_SOUND, _MOVIE, _NUMBERS = (".wav", ".flac", ".ogg"), (".mp4", ".mov", ".mkv"), (".npy",)
_WINDOW_S, _SEARCH_S = 0.04, 0.01
_CLOCK_HZ = 90_000
_AAC_HZ = 48_000
_AAC_FRAME = 1024


def check_target(path: Path, kind: str) -> None:
    """Refuse (UsageError) a file extension that does not suit the kind of series."""
    known = {"sound": (*_SOUND, *_MOVIE), "picture": _MOVIE, "numbers": _NUMBERS}[kind]
    if path.suffix.lower() not in known:
        raise UsageError(f"{path.name}: a warped {kind} is written as {', '.join(known)}")


def write_warped(found: SeriesAlignment, path: Path, progress: Progress = quiet) -> None:
    """Write B with the times of A; the file is complete or absent.

    Raises:
        UsageError: If the extension does not suit B.
        MediaError: If B does not decode.
    """
    check_target(path, found.b.kind)
    progress(0, None, f"writing {path.name}")
    if found.b.kind == "numbers":
        replace_atomic(path, lambda temporary: _write_numbers(found, temporary))
    elif path.suffix.lower() in _SOUND:
        replace_atomic(path, lambda temporary: _write_sound(found, temporary, path.suffix[1:].upper()))
    else:
        replace_atomic(path, lambda temporary: _write_movie(found, temporary, path.suffix.lower()))


def stretch(
    samples: Float32[np.ndarray, "T C"],
    rate_hz: int,
    clock: tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]],
    duration_s: float,
) -> Float32[np.ndarray, "U C"]:
    """Time-stretch a sound by WSOLA, keeping its pitch, to round(duration_s * rate_hz) samples.

    `clock` holds knots: times of the result and the matching times of the sound, both ascending.
    """
    half = max(1, round(_WINDOW_S * rate_hz / 2))
    search = round(_SEARCH_S * rate_hz)
    length = round(duration_s * rate_hz)
    window = np.hanning(2 * half + 1)[:-1, None]
    margin = half + search
    padded = np.pad(samples, ((margin, 3 * margin), (0, 0)))
    mono = padded.mean(axis=1)
    result = np.zeros((length + 2 * half, samples.shape[1]))
    weight = np.full((len(result), 1), 1e-9)
    centres = np.arange(0, length + 1, half)
    wanted = np.interp(centres / rate_hz, *clock) * rate_hz
    last = len(padded) - 2 * half - search
    natural: int | None = None
    for centre, aim in zip(
        centres.tolist(), np.clip(wanted, 0, len(samples)).astype(int).tolist(), strict=True
    ):
        # the window that is centred on sample `aim` begins at `aim + search` of what was padded
        start = min(aim + search, last)
        if natural is not None and natural + 2 * half <= len(mono):
            region = mono[max(0, start - search) : start + search + 2 * half]
            start = max(0, start - search) + _best_match(region, mono[natural : natural + 2 * half])
        result[centre : centre + 2 * half] += padded[start : start + 2 * half] * window
        weight[centre : centre + 2 * half] += window
        natural = start + half
    stretched: np.ndarray = (result / np.maximum(weight, 0.1))[half : half + length]
    return stretched.astype(np.float32)


def _best_match(region: np.ndarray, pattern: np.ndarray) -> int:
    """Where in `region` the pattern fits best, by normalised correlation."""
    size = 1 << (len(region) + len(pattern) - 1).bit_length()
    spectrum = np.fft.rfft(region, size) * np.conj(np.fft.rfft(pattern, size))
    products = np.fft.irfft(spectrum, size)[: len(region) - len(pattern) + 1]
    sums = np.concatenate([[0.0], np.cumsum(region**2)])
    energy = sums[len(pattern) :][: len(products)] - sums[: len(products)]
    return int(np.argmax(products / np.sqrt(np.maximum(energy, 1e-9))))


def _write_numbers(found: SeriesAlignment, path: Path) -> None:
    original = np.load(found.b.path, allow_pickle=False) if found.b.path.suffix == ".npy" else found.b.values
    columns = np.asarray(original, np.float64).reshape(len(original), -1)
    places = np.interp(np.arange(round(found.a.duration_s)), *found.clock())
    warped = [np.interp(places, np.arange(len(columns)), column) for column in columns.T]
    with path.open("wb") as file:
        np.save(file, np.stack(warped, axis=1).reshape(-1, *original.shape[1:]))


def _write_sound(found: SeriesAlignment, path: Path, container: str) -> None:
    import soundfile

    samples, rate_hz = _sound_of(found.b.path)
    soundfile.write(
        path, stretch(samples, rate_hz, found.clock(), found.a.duration_s), rate_hz, format=container
    )


def _sound_of(path: Path) -> tuple[Float32[np.ndarray, "T C"], int]:
    """All of a sound track: as it is where `open` takes it, else mixed down in blocks."""
    try:
        found = open_media(path)
        if isinstance(found, Audio):
            return found.samples, found.sample_rate_hz
    except LimitError:
        pass
    return np.concatenate(list(audio_blocks(path, rate_hz=_AAC_HZ)))[:, None], _AAC_HZ


def _write_movie(found: SeriesAlignment, path: Path, ending: str) -> None:
    """Frames of B with new stamps, and its sound, stretched, if it has any."""
    import av

    clock_a, clock_b = found.clock()
    try:
        mono = np.concatenate(list(audio_blocks(found.b.path, rate_hz=_AAC_HZ)))[:, None]
        sound = stretch(mono, _AAC_HZ, (clock_a, clock_b), found.a.duration_s)
    except MediaError:
        sound = None
    rising = clock_b + np.arange(len(clock_b)) * 1e-9
    name = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[ending]
    with av.open(str(path), "w", format=name) as out:
        track = out.add_stream("libx264", rate=30)
        track.pix_fmt, track.options = "yuv420p", {"preset": "veryfast", "crf": "20"}
        track.codec_context.time_base = track.time_base = Fraction(1, _CLOCK_HZ)
        voice = None if sound is None else out.add_stream("aac", rate=_AAC_HZ, layout="mono")
        done, last = 0, -1
        for frame in frames(found.b.path):
            stamp = round(float(np.interp(frame.time_s, rising, clock_a)) * _CLOCK_HZ)
            if last < 0:
                height, width = (max(2, side // 2 * 2) for side in frame.pixels.shape[:2])
                track.width, track.height = width, height
            if stamp <= last:
                continue
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels)).reformat(
                width, height, "yuv420p"
            )
            picture.pts, picture.time_base, last = stamp, Fraction(1, _CLOCK_HZ), stamp
            out.mux(track.encode(picture))
            if voice is not None and sound is not None:
                done = _encode_sound(out, voice, sound, done, round(stamp / _CLOCK_HZ * _AAC_HZ))
        out.mux(track.encode(None))
        if voice is not None and sound is not None:
            _encode_sound(out, voice, sound, done, len(sound))
            out.mux(voice.encode(None))


def _encode_sound(out: object, voice: object, sound: np.ndarray, done: int, until: int) -> int:
    """Encode whole frames up to a moment, and what is left at the end; returns how far it came."""
    import av

    while done < until and (until == len(sound) or done + _AAC_FRAME <= until):
        part = sound[done : done + _AAC_FRAME].T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = _AAC_HZ, done, Fraction(1, _AAC_HZ)
        out.mux(voice.encode(frame))  # type: ignore[attr-defined]
        done += part.shape[1]
    return done
