"""Serialises decoded media as a JSON header and raw arrays, for the answers of isolated workers.

Pickle is not used, because a malicious file may control the worker. Sizes, types and shapes of the answer are
validated, so the worst case is a wrong image.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from sensorium.core.errors import LimitError, MediaError
from sensorium.media.limits import Limits
from sensorium.media.types import Audio, Image, Media, Text, Video

FRAME = struct.Struct(">QQ")
"""Sizes of header and body in bytes, in front of both."""

STATUS = struct.Struct(">Q")
"""Peak resident memory of the decode in bytes, after both."""

MAX_HEADER_BYTES = 1 << 16
_DTYPES = {"uint8": np.uint8, "float32": np.float32, "float64": np.float64}


def pack_request(limits: Limits, target_px: int | None, uri: str) -> bytes:
    """Header of a request; the file's content is its body."""
    return json.dumps({"limits": asdict(limits), "target_px": target_px, "uri": uri[:4096]}).encode()


def unpack_request(header: bytes) -> tuple[Limits, int | None, str]:
    """Inverse of `pack_request`."""
    request = json.loads(header)
    return Limits(**request["limits"]), request["target_px"], request["uri"]


def pack_media(media: Media) -> tuple[bytes, list[memoryview]]:
    """Header and body of an answer; the body is not copied."""
    arrays, facts = _parts_of(media)
    header = {
        "kind": type(media).__name__,
        "facts": facts,
        "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()},
    }
    flat = (np.ascontiguousarray(array).reshape(-1) for array in arrays.values())
    return json.dumps(header).encode(), [array.view(np.uint8).data for array in flat]


def pack_error(error: MediaError) -> bytes:
    """Header of an error answer, which has no body."""
    return json.dumps({"kind": type(error).__name__, "message": str(error)[:1000]}).encode()


def unpack_media(header: bytes, body: bytearray, uri: str) -> Media:
    """Deserialise the answer of a worker; MediaError if it reports an error or is invalid."""
    try:
        answer = json.loads(header)
        if answer["kind"] in ("MediaError", "LimitError"):
            kind = LimitError if answer["kind"] == "LimitError" else MediaError
            raise kind(str(answer["message"]))
        arrays = _read_arrays(answer["arrays"], body)
        return _BUILD[answer["kind"]](arrays, answer["facts"], uri)
    except MediaError:
        raise
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise MediaError(
            "the isolated decoder gave an answer that makes no sense; the file is not safe"
        ) from error


def _parts_of(media: Media) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    if isinstance(media, Image):
        return {"pixels": media.pixels}, {}
    if isinstance(media, Audio):
        return {"samples": media.samples}, {"sample_rate_hz": media.sample_rate_hz}
    if isinstance(media, Text):
        return {"text": np.frombuffer(media.text.encode(), np.uint8)}, {}
    arrays = {"frames": media.frames, "times_s": media.times_s}
    if media.audio is None:
        return arrays, {}
    sound, facts = _parts_of(media.audio)
    return arrays | sound, facts


def _read_arrays(described: dict[str, Sequence[object]], body: bytearray) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    at = 0
    for name, (dtype_name, shape) in described.items():
        dtype = np.dtype(_DTYPES[str(dtype_name)])
        sides = [int(side) for side in shape]  # type: ignore[attr-defined]
        count = int(np.prod(sides, dtype=object))
        if min(sides, default=0) < 0:
            raise ValueError("negative size")
        arrays[name] = np.frombuffer(body, dtype, count, at).reshape(sides)
        at += count * dtype.itemsize
    if at != len(body):
        raise ValueError("size differs")
    return arrays


def _image(arrays: dict[str, np.ndarray], facts: dict[str, int], uri: str) -> Image:
    return Image(_shaped(arrays["pixels"], np.uint8, 3), uri)


def _audio(arrays: dict[str, np.ndarray], facts: dict[str, int], uri: str) -> Audio:
    return Audio(_shaped(arrays["samples"], np.float32, 2), int(facts["sample_rate_hz"]), uri)


def _video(arrays: dict[str, np.ndarray], facts: dict[str, int], uri: str) -> Video:
    sound = _audio(arrays, facts, uri) if "samples" in arrays else None
    frames, times_s = _shaped(arrays["frames"], np.uint8, 4), _shaped(arrays["times_s"], np.float64, 1)
    if len(frames) != len(times_s):
        raise ValueError("frames and times differ")
    return Video(frames, times_s, sound, uri)


def _text(arrays: dict[str, np.ndarray], facts: dict[str, int], uri: str) -> Text:
    return Text(_shaped(arrays["text"], np.uint8, 1).tobytes().decode(), uri=uri)


_BUILD: dict[str, Callable[[dict[str, np.ndarray], dict[str, int], str], Media]] = {
    "Image": _image,
    "Audio": _audio,
    "Video": _video,
    "Text": _text,
}


def _shaped(array: np.ndarray, dtype: type[np.generic], ndim: int) -> np.ndarray:
    if array.dtype != dtype or array.ndim != ndim or (ndim >= 3 and array.shape[-1] != 3):
        raise ValueError("wrong array")
    return array
