"""Makes a media table of synthetic speech: texts, speech and phonemes, in many voices of espeak-ng.

Input: sources of sentences and a seed. Output: a table whose rows have a text, its speech, and its phonemes
in that voice (`data.collections.espeak`). Their `source` is their part: `spoken` (training), `spoken-texts`
(held-out texts in training voices), `spoken-voices` (held-out texts in held-out voices). A hash of the text
decides whether it is held out; texts of one or two words ("Yes.") are always for training. Row i of a part
depends on seed, part and i only. A larger table begins with the rows of a smaller one, and an interrupted
run can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from jaxtyping import Float32

from composed_world.sentences import sentences, source
from sensorium.core.errors import TableError, UsageError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections import espeak
from sensorium.data.ingest.errors import ErrorLog
from sensorium.data.ingest.sources.item import Failure
from sensorium.data.loading.split import split
from sensorium.data.table.sample import Caption, Clip, Sample, normalise
from sensorium.data.table.table import Table
from sensorium.media.encoding import SOUND_FORMATS, encode_sound
from sensorium.media.types import Audio

Part = Literal["train", "texts", "voices"]
PARTS: tuple[Part, ...] = ("train", "texts", "voices")
SOURCE_OF: dict[Part, str] = {"train": "spoken", "texts": "spoken-texts", "voices": "spoken-voices"}
FORMATS = tuple(sorted(ending.removeprefix(".") for ending in SOUND_FORMATS))

Voice = tuple[str, str]
"""Variety of English and voice variant of espeak-ng."""
_VARIETIES = ("en-us", "en-us-nyc", "en-gb", "en-gb-x-rp", "en-029")
_VARIANTS = (
    *("", "m1", "m2", "m3", "m5", "m7", "m8", "f1", "f2", "f4", "klatt", "klatt3", "klatt4"),
    *("Alex", "Andy", "belinda", "edward", "john", "linda", "steph"),
)
VOICES: tuple[Voice, ...] = tuple((variety, variant) for variety in _VARIETIES for variant in _VARIANTS)
"""For training."""
HELD_OUT_VOICES: tuple[Voice, ...] = (
    *((variety, variant) for variety in ("en-us", "en-gb") for variant in ("m4", "m6", "f3", "f5", "klatt2")),
    ("en-gb-scotland", ""),
    ("en-gb-scotland", "f3"),
)
_HELD_OUT_SHARE = 0.15
_SHORT_WORDS = 2
_WPM, _PITCH = (130, 205), (35, 65)
_PLAIN_WPM, _PLAIN_PITCH = 150, 50
"""For a single voice: training data of speech synthesis should be uniform."""
_LONGEST_S = 30.0


@dataclass(frozen=True)
class Plan:
    """Options of a table of speech.

    Attributes:
        num_train: Number of training rows.
        num_test: Number of rows of each held-out part.
        sentences: Sources of texts, in equal shares.
        voice: One voice for all rows, at one speed and pitch: espeak-ng's variety of English, a plus and a
            variant. Empty: many voices at many speeds, and others for `spoken-voices`.
        rate_hz: Sample rate.
        format: flac, ogg (Vorbis; 0.4 of the size, ten times the time) or wav.
        seed: Of all random choices.
    """

    num_train: int = 20_000
    num_test: int = 500
    sentences: Sequence[str] = ("scenes", "stamps", "prose")
    voice: str = ""
    rate_hz: int = 16_000
    format: str = "flac"
    seed: int = 0

    @property
    def description(self) -> str:
        """Description of the table; rows are only added to a table with an equal description."""
        names = ", ".join(self.sentences)
        told = f"{names}; voice {self.voice}" if self.voice else names
        return f"Sentences spoken by espeak-ng: {told}; {self.rate_hz} Hz {self.format}; seed {self.seed}"


@dataclass(frozen=True)
class Line:
    """Text and voice of a row."""

    uri: str
    part: Part
    text: str
    licence: str
    kind: str
    voice: Voice
    words_per_minute: int
    pitch: int


def make_spoken(path: str | Path, plan: Plan, progress: Progress = quiet) -> tuple[Table, int]:
    """Make a table of speech, or resume one.

    Args:
        path: The table; existing rows are not made again.
        plan: Options.
        progress: Told after each sentence.

    Returns:
        The table, and the number of failed sentences; the reasons are in `errors.jsonl` beside it.

    Raises:
        UsageError: If a source of sentences, the voice or a format is unknown.
        TableError: If the existing table has another plan.
        FetchError: If espeak-ng or a package of texts cannot be fetched.
    """
    if plan.format not in FORMATS:
        raise UsageError(f"no format '{plan.format}'; known: {', '.join(FORMATS)}")
    espeak.prepare(progress)
    lines = list(script(plan, progress))
    if plan.voice and lines:
        say(lines[0], plan.rate_hz)  # refuses an unknown voice before the table is made
    table = _open(Path(path), plan)
    error_log, known = ErrorLog(table.path), set(table.column("uri"))
    left = [line for line in lines if line.uri not in known]
    before = len(table)
    try:
        table.add(_samples(left, plan, error_log, progress))
    finally:
        error_log.close()
    table.optimize()
    return table, len(left) - (len(table) - before)


def script(plan: Plan, progress: Progress = quiet) -> Iterator[Line]:
    """Yield the texts and voices of all rows, part by part.

    Raises:
        UsageError: If no source is named or one is unknown.
    """
    if not plan.sentences:
        raise UsageError("no sources of sentences; name one, such as scenes")
    texts = {name: _divided(name, plan, progress) for name in plan.sentences}
    for part in PARTS[:2] if plan.voice else PARTS:
        for number in range(plan.num_train if part == "train" else plan.num_test):
            kind = plan.sentences[number % len(plan.sentences)]
            pool = texts[kind][part != "train"]
            if pool:
                text = pool[number // len(plan.sentences) % len(pool)]
                yield _line(plan, part, number, kind, text)


def _divided(name: str, plan: Plan, progress: Progress) -> tuple[list[str], list[str]]:
    """Training texts and held-out texts."""
    wanted = plan.num_train / (1 - _HELD_OUT_SHARE) + plan.num_test / _HELD_OUT_SHARE
    most = round(1.1 * wanted / len(plan.sentences)) + 9  # enough that no text is repeated too early
    found = sentences(name, most, plan.seed, progress)
    long = [text for text in found if len(text.split()) > _SHORT_WORDS]
    held_out = split([normalise(text) for text in long], test=_HELD_OUT_SHARE, seed=plan.seed)["test"]
    tested = [long[place] for place in held_out]
    return [text for text in found if text not in set(tested)], tested


def _line(plan: Plan, part: Part, number: int, kind: str, text: str) -> Line:
    uri, licence = f"spoken:{plan.seed}/{part}/{number}", source(kind).licence
    if plan.voice:
        variety, _, variant = plan.voice.partition("+")
        return Line(uri, part, text, licence, kind, (variety, variant), _PLAIN_WPM, _PLAIN_PITCH)
    rng = np.random.default_rng([plan.seed, 19, PARTS.index(part), number])
    voices = HELD_OUT_VOICES if part == "voices" else VOICES
    voice = voices[int(rng.integers(len(voices)))]
    pace, pitch = (int(rng.integers(low, high + 1)) for low, high in (_WPM, _PITCH))
    return Line(uri, part, text, licence, kind, voice, pace, pitch)


def _open(path: Path, plan: Plan) -> Table:
    if not path.exists():
        return Table.create(path, description=plan.description, licence="each row states its text's")
    table = Table.open(path)
    if table.info.get("description") != plan.description:
        raise TableError(
            f"{path} holds '{table.info.get('description', '')}', now asked: '{plan.description}'; "
            "choose another path, or the same options"
        )
    return table


def _samples(lines: list[Line], plan: Plan, error_log: ErrorLog, progress: Progress) -> Iterator[Sample]:
    for line in track(lines, len(lines), "speaking", progress):
        samples = say(line, plan.rate_hz)
        seconds = len(samples) / plan.rate_hz
        if not 0 < seconds <= _LONGEST_S:
            reason = f"{seconds:.1f} s of speech for '{line.text}'; expected up to {_LONGEST_S:.0f} s"
            error_log.add(Failure(line.uri, "speak", reason))
            error_log.flush()
            continue
        yield Sample(
            uri=line.uri,
            speech=[Clip("en", encode_sound(Audio(samples[:, None], plan.rate_hz), f".{plan.format}"))],
            texts=[Caption("en", line.text)],
            group=normalise(line.text),
            source=SOURCE_OF[line.part],
            licence=line.licence,
            meta={
                "voice": "+".join(filter(None, line.voice)),
                "words_per_minute": line.words_per_minute,
                "pitch": line.pitch,
                "sounds": espeak.phonemes(line.text, line.voice[0]),
                "kind": line.kind,
            },
            duration_s=seconds,
        )


def say(line: Line, rate_hz: int) -> Float32[np.ndarray, " T"]:
    """Synthesize a line: mono samples, -1 to 1."""
    variety, variant = line.voice
    speech = espeak.speak(
        line.text, variety, variant=variant, words_per_minute=line.words_per_minute, pitch=line.pitch
    )
    resampled: Float32[np.ndarray, " T"] = soxr.resample(speech.samples, speech.rate_hz, rate_hz)
    return resampled.clip(-1.0, 1.0)
