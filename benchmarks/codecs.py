"""Pictures and speech through their codecs: what is kept, how the codes are used, how fast sound comes back.

    sensorium bench codecs
    sensorium bench codecs --image RUN --scenes TABLE --audio RUN --spoken TABLE --voice TABLE

Everything measured was held out by the recipes. Word error: faster-whisper with Whisper tiny.en, run by the
environment `.venv-peers-whisper`, hears the original and what was decoded; "original" is its own error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from codec_sheets import picture_sheet, sound_sheet
from machine import PEERS, RESULTS, machine, spread, write
from sensorium import media
from sensorium.codecs import AudioFsq, ImageFsq
from sensorium.codecs.audio_fsq import FLOOR
from sensorium.core.config import parse, read_toml
from sensorium.data import collections as packages
from sensorium.data.table.sample import is_asked
from sensorium.data.table.table import Table
from sensorium.evals.reconstruction import code_usage, mel_distance, psnr, ssim
from sensorium.evals.speech import evaluate_transcripts
from sensorium.media import Audio
from sensorium.models.checkpoint import load
from sensorium.training.codec.batches import to_uint8
from sensorium.training.codec.data import divide
from sensorium.training.codec.evaluate import evenly_spaced, reconstruct
from sensorium.training.codec.recipe import CodecPart, CodecRecipe

ROOT = Path(__file__).parents[1]
RECOGNISER = PEERS.with_name(".venv-peers-whisper") / "bin" / "python"
COMMON = (
    "kept ids: share of ids that encoding what was decoded gives again",
    "codes used and perplexity: of the measured media's ids, so no more codes can occur than ids",
    "WER, CER: what faster-whisper (tiny.en, greedy) makes of what was decoded, and of the original",
)
HEAR = """
import json, sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=1)
for path in json.load(sys.stdin):
    parts, _ = model.transcribe(path, language="en", beam_size=1, without_timestamps=True)
    print(json.dumps("".join(part.text for part in parts)), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (
        ("image", "codec-image"),
        ("audio", "codec-audio"),
        ("scenes", "scenes.lance"),
        ("spoken", "spoken.lance"),
        ("voice", "voice.lance"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / "runs" / default)
    parser.add_argument("--limit", type=int, default=200, help="held-out media of each part")
    parser.add_argument("--sheets", type=Path, help="folder in which to draw what was kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures: list[Part] = []
    sounds: list[Part] = []
    notes: list[str] = []
    if arguments.image.exists():
        pictures = measure_pictures(arguments.image, {"scenes": arguments.scenes}, arguments.limit)
    if arguments.audio.exists():
        sounds = measure_sounds(
            arguments.audio,
            {"spoken": arguments.spoken, "voice": arguments.voice},
            arguments.limit // 2,
        )
        notes = measure_speed(load(arguments.audio, AudioFsq))
    if arguments.sheets is not None and pictures:
        shown = [pair for part in pictures for pair in evenly_spaced(part.pairs, 12)]
        picture_sheet(shown, arguments.sheets / "codec-pictures.png")
    if arguments.sheets is not None and sounds:
        sound_sheet([part.pairs[0] for part in sounds], arguments.sheets / "codec-speech.png")
    figures = {
        "claim": "Held-out media through the codecs of `codec-image` and `codec-audio`.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": [
            *([part.row for part in pictures] or earlier("rows", "pictures")),
            *([part.row for part in sounds] or earlier("rows", "speech")),
        ],
        "notes": [
            *COMMON,
            *(notes or earlier("notes", "one thread")),
            " ".join(["command: sensorium bench codecs", *sys.argv[1:]]),
        ],
    }
    print(write("codecs", figures))


def earlier(key: str, kind: str) -> list[Any]:
    """What the last run found of a codec that is not at hand now."""
    path = RESULTS / "codecs.json"
    found = json.loads(path.read_text())[key] if path.exists() else []
    return [one for one in found if (one["what"] if key == "rows" else one).startswith(kind)]


def held_out(run: Path, tables: dict[str, Path]) -> dict[str, tuple[Table, CodecPart, np.ndarray]]:
    """Rows that a run's recipe held out, by name; tables where they lie now."""
    recipe = parse(CodecRecipe, read_toml(run / "recipe.toml"), str(run))
    found = {}
    for name, part in recipe.data.parts.items():
        table = Table.open(tables[name]) if name in tables else packages.get(part.table)
        for called, rows in divide(table, name, part, recipe.seed)[1].items():
            known = f"{called} of {name}" if called in found else called
            found[known] = (table, part, rows)
    return found


@dataclass(frozen=True)
class Part:
    """A row of figures, and media beside what was decoded."""

    row: dict[str, object]
    pairs: list[Any]


def measure_pictures(run: Path, tables: dict[str, Path], limit: int) -> list[Part]:
    model, parts = load(run, ImageFsq), []
    for name, (table, _, places) in held_out(run, tables).items():
        samples = table.rows(evenly_spaced(places.tolist(), limit), columns=["image"])
        opened = [media.open(sample.image) for sample in samples if sample.image is not None]
        pictures = np.stack([to_uint8(model.input(one)) for one in opened])
        ids, painted = reconstruct(model, pictures)
        again, _ = reconstruct(model, painted.transpose(0, 3, 1, 2))
        pairs = list(zip(pictures.transpose(0, 2, 3, 1), painted, strict=True))
        row: dict[str, object] = {
            "what": f"pictures: {name}",
            "media": len(pictures),
            "PSNR dB": round(float(np.mean([psnr(a, b) for a, b in pairs])), 2),
            "SSIM": round(float(np.mean([ssim(a, b) for a, b in pairs])), 3),
            "kept ids": round(float((ids == again).mean()), 3),
        }
        parts.append(Part(row | usage(ids, model.vocab_size), pairs))
    return parts


@dataclass(frozen=True)
class Spoken:
    """A held-out sound, and what was said where it is English."""

    sound: Audio
    text: str


def measure_sounds(run: Path, tables: dict[str, Path], limit: int) -> list[Part]:
    model, parts = load(run, AudioFsq), []
    for name, (table, part, places) in held_out(run, tables).items():
        clips = [
            Spoken(audio, sample.texts[0].text if clip.language.startswith("en") else "")
            for sample in table.rows(evenly_spaced(places.tolist(), limit), columns=["speech", "texts"])
            for clip in sample.speech
            if is_asked(clip.language, "speech", part.languages)
            and isinstance(audio := media.open(clip.data), Audio)
        ]
        ids = [model.encode(one.sound) for one in clips]
        decoded = [model.decode(own) for own in ids]
        again = [model.encode(one) for one in decoded]
        apart = [
            mel_distance(model.frames(one.sound.mono(16_000)), model.frames(back.samples[:, 0]), floor=FLOOR)
            for one, back in zip(clips, decoded, strict=True)
        ]
        row: dict[str, object] = {
            "what": f"speech: {name}",
            "media": len(clips),
            "mel distance dB": round(float(np.mean(apart)), 2),
            "kept ids": round(float(np.mean(np.concatenate(ids) == np.concatenate(again))), 3),
            **usage(np.concatenate(ids), model.vocab_size),
        }
        pairs = [
            (f"{name}: {one.text}", one.sound.mono(16_000), back.samples[:, 0])
            for one, back in zip(clips, decoded, strict=True)
        ]
        parts.append(Part(row | word_error(clips, decoded), pairs))
    return parts


def usage(ids: np.ndarray, vocab_size: int) -> dict[str, object]:
    found = code_usage(ids, vocab_size)
    return {
        "ids": ids.size,
        "codes used": round(found["codes used"], 3),
        "perplexity": round(found["perplexity"]),
    }


def word_error(clips: Sequence[Spoken], decoded: Sequence[Audio]) -> dict[str, object]:
    """Word error rates of the recogniser on the English ones; nothing where it is not installed."""
    english = [place for place, one in enumerate(clips) if one.text]
    if not english or not RECOGNISER.exists():
        return {}
    said = [clips[place].text for place in english]
    before = evaluate_transcripts(hear([clips[place].sound for place in english]), said)
    after = evaluate_transcripts(hear([decoded[place] for place in english]), said)
    half = (after.wer.high - after.wer.low) / 2
    return {
        "WER": round(after.wer.mean, 3),
        "± WER": round(half, 3),
        "WER original": round(before.wer.mean, 3),
        "CER": round(after.cer.mean, 3),
        "CER original": round(before.cer.mean, 3),
    }


def hear(sounds: Sequence[Audio]) -> list[str]:
    """What the recogniser makes of sounds; half a second of silence at both ends, as recordings have."""
    from sensorium.data.collections.packages import weights

    folder = weights("whisper-tiny.en")
    with tempfile.TemporaryDirectory() as place:
        paths = []
        for number, sound in enumerate(sounds):
            paths.append(str(Path(place) / f"{number}.wav"))
            soundfile.write(paths[-1], np.pad(sound.mono(16_000), 8_000), 16_000)
        found = subprocess.run(
            [str(RECOGNISER), "-c", HEAR, str(folder)],
            input=json.dumps(paths),
            capture_output=True,
            text=True,
            check=True,
        )
    return [json.loads(line) for line in found.stdout.splitlines()]


def measure_speed(model: AudioFsq, seconds: int = 10, rounds: int = 7) -> list[str]:
    """Real-time factors of one thread, by CPU time; and until the first piece of a stream."""
    samples = np.random.default_rng(0).normal(0, 0.1, (seconds * 16_000, 1)).astype(np.float32)
    sound = Audio(samples, 16_000)
    ids = model.encode(sound)
    times: dict[str, list[float]] = {"encode": [], "decode": [], "first": []}
    for _ in range(rounds):
        for name, work in (
            ("encode", lambda: model.encode(sound)),
            ("decode", lambda: model.decode(ids)),
            ("first", lambda: list(islice(model.decode_stream(ids.tolist()), 1))),
        ):
            started = time.process_time()
            work()
            times[name].append(time.process_time() - started)
    found = {name: spread(values)["median"] for name, values in times.items()}
    return [
        f"one thread, CPU time, median of {rounds}: real-time factor {found['encode'] / seconds:.4f} to "
        f"encode, {found['decode'] / seconds:.4f} to decode; the first half second of a stream takes "
        f"{1000 * found['first']:.0f} ms once {25 + model.lookahead} ids are known"
    ]


if __name__ == "__main__":
    main()
