"""Speech synthesis, word times and phonemes by espeak-ng (formant synthesis, about 100 languages).

Input: a text and a language. Output: mono samples, and for each spoken word its position in the text and its
time. Uses the system's library (Debian: `libespeak-ng1`), else the one in the PyPI wheel `espeakng-loader`,
which is only unpacked. Speech is intelligible but not natural, and about 300 times faster than real time.
Repeated calls may differ by a few samples in length. GPL-3.0: the library is loaded, not shipped.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import FetchError, UsageError
from sensorium.core.files import sha256
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections.packages import Package, fetch

PACKAGE = Package(
    "pip",
    "espeakng-loader",
    "0.2.4",
    (
        "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",  # Linux x86_64
        "d1e798141b46a050cdb75fcf3c17db969bb2c40394f3f4a48910655d547508b9",  # Linux aarch64
        "b77477ae2ddf62a748e04e49714eabb2f3a24f344166200b00539083bd669904",  # macOS x86_64
        "d27cdca31112226e7299d8562e889d3e38a1e48055c9ee381b45d669072ee59f",  # macOS arm64
        "41f1e08ac9deda2efd1ea9de0b81dab9f5ae3c4b24284f76533d0a7b1dd7abd7",  # Windows x86_64
        "d7a2928843eaeb2df82f99a370f44e8a630f59b02f9b0d1f168a03c4eeb76b89",  # Windows arm64
    ),
    10,
)
_LIBRARIES = frozenset(
    {
        "b15ce0803b26254e8a0d088c6b9281a2637b2b02613147cc320cfdefaf2c3ccf",
        "fe3022609ec80d5f740e046ceb8a0039225fd3de177d99f918858059095b8729",
        "d6a7203a3d84c384c5932c468a4d2645b2e7c42613af4e25a621336ab4c1f02a",
        "bb635eee1ee9c456f4a5cf06fb6cb352ecdd4d61e1951743b423ef22bb57f470",
        "646d387acbc7ac2aa45e3625aa00a6835ae5d446ff8b0748298c3900b4dde258",
        "ebb4694f93506e5019197d7bf0e0f9225c4fcad90a0661870a55112de02e8ae3",
    }
)
"""SHA-256 of the libraries in these archives; checked each time before the library is loaded."""
DEFAULT_WPM = 175

_RETRIEVE, _PHONEME_EVENTS, _DONT_EXIT = 2, 0x0001, 0x8000
_BY_CHARACTER, _UTF8 = 1, 1
_END_OF_LIST, _WORD, _CLAUSE_END, _PHONEME = 0, 1, 5, 7
_RATE, _PITCH = 1, 3
_PAUSE = re.compile(r"_:+")
_NOT_PHONEMES = re.compile(r"\([^)]*\)|[^A-Za-z@#:~?03 ]")
"""Marks of stress, of allophones and of links between words, and switches to another language."""
_VOICES = dict(
    pair.split(":") for pair in "zh:cmn zh-tw:cmn zh-hk:yue no:nb nn:nb en:en-us en-gb:en iw:he mo:ro".split()
)
"""espeak's name of a language if it differs from the tag."""


@dataclass(frozen=True)
class SpokenWord:
    """A spoken word: index of its first character in the text (`place`), start and end in seconds."""

    place: int
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Speech:
    """Synthesised speech.

    Attributes:
        samples: Mono, -1 to 1.
        rate_hz: Samples per second.
        words: In order of time; a number may be several words with one index.
    """

    samples: Float32[np.ndarray, " T"]
    rate_hz: int
    words: tuple[SpokenWord, ...]


def speak(
    text: str,
    language: str = "en",
    *,
    variant: str = "",
    words_per_minute: int = DEFAULT_WPM,
    pitch: int = 50,
) -> Speech:
    """Synthesise `text`.

    Args:
        text: The text; markup in it is spoken as text.
        language: BCP 47 tag; the regional variety (`pt-BR`) is used if espeak has it.
        variant: Voice, such as `f3`, `m7` or `klatt2`; empty: the language's default.
        words_per_minute: 80 to 450.
        pitch: 0 to 99.

    Raises:
        UsageError: If espeak has no such language or variant, or a number is out of range.
        FetchError: If the library is not installed and cannot be downloaded.
    """
    if not 80 <= words_per_minute <= 450 or not 0 <= pitch <= 99:
        raise UsageError(
            f"words_per_minute={words_per_minute}, pitch={pitch}: expected 80 to 450 and 0 to 99"
        )
    return _engine().speak(text, language, variant, words_per_minute, pitch)


def phonemes(text: str, language: str = "en") -> str:
    """Phonemes of `text`: one or two ASCII letters each, spaces between words, `|` at pauses.

    The letters are espeak's, similar to Kirshenbaum's, without stress and allophones. Short words may be
    joined with their neighbours ("of the").

    Raises:
        UsageError: If espeak has no such language.
        FetchError: If the library is not installed and cannot be downloaded.
    """
    return _engine().phonemes(text, language)


def has_voice(language: str) -> bool:
    """Whether espeak supports `language`, or the language that it is a variety of."""
    return _engine().has_voice(language)


def prepare(progress: Progress = quiet) -> None:
    """Load the library and download it if needed.

    Raises:
        FetchError: If it is not installed and cannot be downloaded.
    """
    if ctypes.util.find_library("espeak-ng") is None:
        fetch(PACKAGE, progress)
    _engine()


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Engine:
    """The library; its voice is global state, so a lock serialises the calls."""

    def __init__(self, library: ctypes.CDLL, data: Path | None) -> None:
        self._library, self._lock = library, threading.Lock()
        path = None if data is None else str(data).encode()
        self.rate_hz = library.espeak_Initialize(_RETRIEVE, 0, path, _PHONEME_EVENTS | _DONT_EXIT)
        if self.rate_hz <= 0:
            raise FetchError(
                f"espeak-ng does not start with its data in {data or 'the system'}; reinstall it"
            )
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._parts: list[np.ndarray] = []
        self._events: list[tuple[int, int, float, bytes]] = []
        self._callback = _CALLBACK(self._take)  # the library keeps a pointer to it
        library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, language: str, variant: str, words_per_minute: int, pitch: int) -> Speech:
        data = text.replace("\0", " ").encode()
        with self._lock:
            self._choose(language, variant)
            self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
            self._library.espeak_SetParameter(_PITCH, pitch, 0)
            self._parts, self._events = [], []
            size = ctypes.c_size_t(len(data) + 1)
            self._library.espeak_Synth(data, size, 0, _BY_CHARACTER, 0, _UTF8, None, None)
            self._library.espeak_Synchronize()
            samples = np.concatenate(self._parts) if self._parts else np.zeros(0, np.int16)
            words = tuple(_words(self._events, len(samples) / self.rate_hz))
        return Speech(samples.astype(np.float32) / 32768, self.rate_hz, words)

    def phonemes(self, text: str, language: str) -> str:
        rest = ctypes.c_char_p(text.replace("\0", " ").encode())
        clauses: list[str] = []
        with self._lock:
            self._choose(language, "")
            while rest.value is not None:
                found = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, 0)
                clauses += _PAUSE.split((found or b"").decode())
        words = (" ".join(_NOT_PHONEMES.sub("", clause).split()) for clause in clauses)
        return " | ".join(filter(None, words))

    def has_voice(self, language: str) -> bool:
        with self._lock:
            return any(self._set_voice(name) for name in _names(language))

    def _choose(self, language: str, variant: str) -> None:
        name = next((name for name in _names(language) if self._set_voice(name)), None)
        if name is None:
            raise UsageError(
                f"espeak-ng does not support '{language}'; give a language code such as en, fr or ru"
            )
        if variant and variant not in self._variants():
            raise UsageError(f"espeak-ng has no variant '{variant}'; known: {', '.join(self._variants())}")
        if variant:
            self._set_voice(f"{name}+{variant}")

    def _set_voice(self, name: str) -> bool:
        return bool(self._library.espeak_SetVoiceByName(name.encode()) == 0)

    def _variants(self) -> list[str]:
        path = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(path))
        folder = Path((path.value or b"").decode()) / "voices" / "!v"
        return sorted(path.name for path in folder.glob("*") if " " not in path.name)

    def _take(self, samples: object, count: int, events: object) -> int:
        if count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_LIST:  # type: ignore[index]
            event = events[index]  # type: ignore[index]
            name = event.id.string if event.type == _PHONEME else b""
            self._events.append((event.type, event.text_position - 1, event.sample / self.rate_hz, name))
            index += 1
        return 0


@cache
def _engine() -> _Engine:
    library, data = _find()
    try:
        return _Engine(ctypes.CDLL(library), data)
    except OSError as error:
        raise FetchError(
            f"espeak-ng does not load ({error}); install it: apt install libespeak-ng1"
        ) from error


def _find() -> tuple[str, Path | None]:
    """The library and its data folder; None: the library's default."""
    system = ctypes.util.find_library("espeak-ng")
    if system is not None:
        return system, None
    try:
        folder = fetch(PACKAGE) / "espeakng_loader"
    except FetchError as error:
        raise FetchError(
            f"needs espeak-ng: install it (apt install libespeak-ng1, brew install espeak-ng); {error}"
        ) from error
    names = ("libespeak-ng.so", "libespeak-ng.dylib", "espeak-ng.dll")
    found = next((folder / name for name in names if (folder / name).exists()), None)
    if found is None:
        raise FetchError(
            f"{PACKAGE.name} has no library for this system; install espeak-ng (apt install libespeak-ng1)"
        )
    if sha256(found) not in _LIBRARIES:
        raise FetchError(
            f"{found} is not the library of {PACKAGE.name} {PACKAGE.version} (SHA-256 {sha256(found)}); "
            f"delete {folder.parent} and try again"
        )
    return str(found), folder / "espeak-ng-data"


def _names(language: str) -> Iterator[str]:
    """Espeak's possible names of a language, the most specific first."""
    tag = language.lower().replace("_", "-")
    for name in (tag, tag.split("-")[0]):
        yield _VOICES.get(name, name)


def _words(events: list[tuple[int, int, float, bytes]], end_s: float) -> Iterator[SpokenWord]:
    """Words from start events; a word ends at the next word, a pause or the end of the clause."""
    starts = [index for index, event in enumerate(events) if event[0] == _WORD]
    for index, following in itertools.pairwise([*starts, len(events)]):
        _, text_position, start_s, _ = events[index]
        stop_s = end_s if following == len(events) else events[following][2]
        for kind, _, time_s, name in events[index + 1 : following]:
            if time_s > start_s and (
                kind == _CLAUSE_END or (kind == _PHONEME and name.startswith(b"_") and name != b"_|")
            ):
                stop_s = min(stop_s, time_s)
                break
        yield SpokenWord(text_position, start_s, stop_s)
