"""Speech alignment: passage boundaries on joined spoken captions, words of another voice, an hour; series.

    python benchmarks/speech_alignment.py [--seeds 3] [--without-hour]

Passages are the stamps' spoken captions, trimmed to where they are within 30 dB of their loudest 10 ms, and
joined with silences of .3 to 3 s. The truth is where a trimmed clip was put: it says where somebody is heard,
by an energy rule much like the aligner's own, so what it measures is above all whether each passage was taken
for the right one. Words are measured on synthetic speech of another voice, pace and pitch, whose times the
synthesiser tells. The constants of the aligner were chosen on the first 60 captions of French, Russian and
English, which are left out here. Writes `results/speech_alignment.json`.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from machine import machine, write
from sensorium.align.align_series import align_series
from sensorium.align.forced_alignment import align_speech
from sensorium.align.text_lines import split_lines
from sensorium.align.time_stretch import stretch
from sensorium.data.collections.espeak import speak
from sensorium.data.table.table import Table
from sensorium.media import Audio
from sensorium.media import open as open_media

RATE_HZ = 16_000
LANGUAGES = ("fr", "es", "ro", "ru", "el", "ca", "bg", "be", "da")
SKIPPED, CAPTIONS = 60, 40
TEXT = Path("/usr/share/common-licenses/GPL-3")
Clip = tuple[str, np.ndarray]
Fill = Callable[[int, np.random.Generator], np.ndarray]


def clips_of(table: Table, num: int) -> tuple[dict[str, list[Clip]], list[np.ndarray]]:
    """Captions with their text by language, and sound effects."""
    found: dict[str, list[Clip]] = {language: [] for language in LANGUAGES}
    effects: list[np.ndarray] = []
    for sample in table.rows(range(len(table))):
        texts = {caption.language: caption.text for caption in sample.texts}
        if sample.audio is not None and len(effects) < 120:
            effects.append(open_media(sample.audio).mono(RATE_HZ))
        for clip in sample.speech:
            kept = found.get(clip.language)
            if kept is not None and clip.language in texts and len(kept) < SKIPPED + num:
                text = " ".join(texts[clip.language].split())
                kept.append((text, trimmed(open_media(clip.data).mono(RATE_HZ))))
    return {language: clips[SKIPPED:] for language, clips in found.items()}, effects


def trimmed(samples: np.ndarray) -> np.ndarray:
    hop = RATE_HZ // 100
    power = (samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() / 1000)
    return samples[loud[0] * hop : (loud[-1] + 1) * hop]


def joined(
    clips: list[Clip], rng: np.random.Generator, noise_db: float, fill: Fill | None
) -> tuple[np.ndarray, np.ndarray]:
    """Clips with gaps, and where each was put; every second gap is filled, where there is a filling."""
    parts: list[np.ndarray] = []
    places, at = [], 0
    for _, samples in [*clips, ("", np.zeros(0, np.float32))]:
        gap = np.zeros(int(rng.uniform(0.3, 3) * RATE_HZ), np.float32)
        if fill is not None and rng.random() < 0.5:
            edge = RATE_HZ // 20
            filling = fill(len(gap) - 2 * edge, rng)
            gap[edge : edge + len(filling)] = filling
        at += len(gap)
        places.append((at, at + len(samples)))
        at += len(samples)
        parts += [gap, samples]
    whole = np.concatenate(parts)
    whole += rng.standard_normal(len(whole)).astype(np.float32) * 10 ** (noise_db / 20)
    return whole, np.array(places[:-1]) / RATE_HZ


def music(num: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked chords, each half a second."""
    times = np.arange(num) / RATE_HZ
    notes = 220 * 2 ** (rng.choice(12, 4, replace=False) / 12)
    tones = sum(np.sin(2 * np.pi * note * k * times) / k for note in notes for k in (1, 2, 3))
    return (0.04 * tones * np.exp(-3 * (times % 0.5))).astype(np.float32)


def effect_of(effects: list[np.ndarray]) -> Fill:
    def fill(num: int, rng: np.random.Generator) -> np.ndarray:
        one = effects[rng.integers(len(effects))][:num]
        return 0.1 * one / (np.sqrt((one**2).mean()) + 1e-6)

    return fill


def passage_errors(
    clips: list[Clip], language: str, seed: int, noise_db: float, fill: Fill | None
) -> np.ndarray:
    whole, truth = joined(clips, np.random.default_rng(seed), noise_db, fill)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "joined.wav"
        soundfile.write(file, whole / max(1, np.abs(whole).max()), RATE_HZ)
        words = align_speech(file, "\n".join(text for text, _ in clips), language=language)
    counts = np.cumsum([0, *(sum(len(line.words) for line in split_lines(text)) for text, _ in clips)])
    spans = itertools.pairwise(counts)
    found = [(words[low].start_s, words[high - 1].end_s) for low, high in spans]
    return np.abs(np.array(found) - truth).ravel()


def summary(what: str, errors: np.ndarray, **more: object) -> dict[str, object]:
    row = {
        "what": what,
        "boundaries": len(errors),
        "median_ms": round(1000 * float(np.median(errors)), 1),
        "p95_ms": round(1000 * float(np.quantile(errors, 0.95))),
        "within_250_ms": round(float((errors <= 0.25).mean()), 4),
    }
    print(row | more, file=sys.stderr, flush=True)
    return row | more


def passages(num_seeds: int) -> Iterator[dict[str, object]]:
    clips, effects = clips_of(Table.open(table_path()), CAPTIONS * num_seeds)
    cases: dict[str, tuple[float, Fill | None]] = {
        "silence": (-70, None),
        "silence, noise 40 dB below full scale": (-40, None),
        "half of the gaps with chords": (-70, music),
        "half of the gaps with sound effects (animals, engines)": (-70, effect_of(effects)),
    }
    for name, (noise_db, fill) in cases.items():
        by_language = {
            language: np.concatenate(
                [
                    passage_errors(some[CAPTIONS * seed :][:CAPTIONS], language, seed, noise_db, fill)
                    for seed in range(num_seeds)
                ]
            )
            for language, some in clips.items()
        }
        yield summary(f"captions, {name}: nine languages", np.concatenate(list(by_language.values())))
        if fill is None and noise_db < -60:
            yield from (summary(f"captions, {name}: {key}", errors) for key, errors in by_language.items())


def table_path() -> Path:
    from sensorium.core.runtime import cache_dir

    return cache_dir("tables") / "stamps.lance"


def spoken(num_words: int, variant: str, words_per_minute: int, file: Path) -> tuple[str, np.ndarray, float]:
    """Synthetic speech of a licence with pauses and music, written to `file`: text, word times, seconds."""
    paragraphs = [" ".join(part.split()) for part in TEXT.read_text().split("\n\n")]
    rng, lines, times, at = np.random.default_rng(0), list[str](), list[tuple[float, float]](), 0.0
    with soundfile.SoundFile(file, "w", RATE_HZ, 1) as out:
        for line in (line for _ in range(9) for paragraph in paragraphs for line in split_lines(paragraph)):
            speech = speak(line.text, "en-gb", variant=variant, words_per_minute=words_per_minute, pitch=65)
            said = Audio(speech.samples[:, None], speech.rate_hz).mono(RATE_HZ)
            places = np.array([word.place for word in line.words])
            owner = np.searchsorted(places, [word.place for word in speech.words], side="right") - 1
            for number in range(len(places)):
                own = [word for word, one in zip(speech.words, owner, strict=True) if one == number]
                times.append((at + own[0].start_s, at + own[-1].stop_s) if own else (np.nan, np.nan))
            is_music = len(lines) % 40 == 39
            gap = music(20 * RATE_HZ, rng) if is_music else np.zeros(int(rng.uniform(0.2, 1.5) * RATE_HZ))
            piece = np.concatenate([said, gap])
            out.write(piece + 0.002 * rng.standard_normal(len(piece)))
            lines.append(line.text)
            at += len(piece) / RATE_HZ
            if len(times) >= num_words:
                break
    return "\n".join(lines), np.array(times), at


def word_errors(what: str, num_words: int, variant: str, words_per_minute: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        file, text_file = Path(folder) / "speech.flac", Path(folder) / "text.txt"
        text, truth, seconds = spoken(num_words, variant, words_per_minute, file)
        text_file.write_text(text)
        command = [sys.executable, __file__, "--align", str(file), str(text_file)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = np.array([[float(cell) for cell in line.split()] for line in lines[:-1]])
    cpu_s, peak_mib = lines[-1].split()
    known = ~np.isnan(truth[:, 0])
    cost = {"audio_s": round(seconds), "cpu_s": float(cpu_s), "peak_mib": float(peak_mib)}
    return summary(what, np.abs(found - truth)[known].ravel(), **cost)


def align_as_child(file: Path, text: Path) -> None:
    """Print times of words, then CPU seconds and peak memory of this process."""
    begin = time.process_time()
    for word in align_speech(file, text, language="en"):
        print(word.start_s, word.end_s)
    # not `getrusage`, whose peak is inherited from the parent
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    print(round(time.process_time() - begin, 1), int(status.split()[0]) // 1024)


def stretched_series() -> dict[str, object]:
    """Spoken French captions, stretched along a clock that swings, found again."""
    clips, _ = clips_of(Table.open(table_path()), 30)
    tune = np.concatenate([samples for _, samples in clips["fr"]])[:, None]
    duration_s = len(tune) / RATE_HZ
    moments_b = np.linspace(0, 1.2 * duration_s, 2000)
    swing = 0.3 * np.sin(2 * np.pi * moments_b / 7) * np.minimum(1, moments_b[-1] - moments_b)
    moments_a = np.maximum.accumulate(np.clip(moments_b / 1.2 + swing, 0, duration_s))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("a.wav", "b.wav")]
        soundfile.write(files[0], tune, RATE_HZ)
        soundfile.write(files[1], stretch(tune, RATE_HZ, (moments_b, moments_a), moments_b[-1]), RATE_HZ)
        found = align_series(*files)
    truth = np.interp(found.a.times_s, moments_a + 1e-9 * np.arange(2000), moments_b)
    return summary(
        "series: a recording against itself at .6 to 2 times the pace", np.abs(found.times_b_s - truth)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-hour", action="store_true")
    parser.add_argument("--align", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.align:
        return align_as_child(*options.align)
    rows = list(passages(options.seeds))
    rows.append(word_errors("words, another voice at 150 words a minute", 1500, "f3", 150))
    rows.append(word_errors("words, another voice at 220 words a minute", 1500, "m7", 220))
    if not options.without_hour:
        rows.append(word_errors("words, an hour with 20 s of chords every 40 lines", 8600, "f3", 150))
    rows.append(stretched_series())
    here = machine(("numpy", "numba", "soxr"))
    claim = (
        "Words and passages found in recordings by warping them onto espeak-ng's speech of their text, "
        "without a trained model: how far starts and ends are from where they are."
    )
    path = write(
        "speech_alignment",
        {"claim": claim, "date": here["date"], "machine": here, "rows": rows, "notes": NOTES},
    )
    print(path)


NOTES = [
    "Captions: 40 at a time, trimmed to within 30 dB of their loudest 10 ms, .3 to 3 s of silence between; "
    "the truth is where a trimmed clip was put, by an energy rule much like the aligner's own. It measures "
    "whether each passage was taken for the right one, not how exactly a phonetician would mark it.",
    "Words: the truth is the synthesiser's own, in another variant, accent, pace and pitch of the same "
    "synthesiser: easier than people.",
    "Memory: peak of the whole process, its libraries included. Time: one core.",
    "Constants were chosen on captions that are not measured here.",
]


if __name__ == "__main__":
    main()
