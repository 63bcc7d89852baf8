"""Transcription by Whisper tiny.en beside faster-whisper: equal texts, word error, CPU time.

    python benchmarks/transcription.py [--rounds 7] [--sentences 12] [--recordings 12]

Both read the same CTranslate2 folder and the same files, through their own decoders of sound, and write
greedily: one beam, temperature 0, no voice detection, nothing shown of what was written before. Every
contender is a process of its own that stays alive; they take turns, a whole group of recordings each, and
what counts is the ratio of CPU times at equal precision: ours in float32 over faster-whisper's in float32;
int8 and bfloat16 have rows of their own. Recordings are the stamps' English captions (one to four words
each), sentences spoken by espeak-ng in five voices, and one recording that joins all sentences with pauses,
longer than a window. Texts are compared over all of the stamps' captions once. Writes
`results/transcription.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

OURS, OURS_EXACT, OURS_FAST = "sensorium", "sensorium fp32", "sensorium bf16"
PEER, PEER_FAST = "faster-whisper fp32", "faster-whisper int8"
CONTENDERS = (PEER, OURS_EXACT, PEER_FAST, OURS_FAST, OURS)
PRECISIONS = {OURS: "auto", OURS_EXACT: "fp32", OURS_FAST: "bf16"}
VOICES = ("", "f3", "m7", "m3", "f5")
Recordings = dict[str, str]
"""Text by file."""


def child(name: str, threads: int, folder: str) -> None:
    """Transcribe the files named on stdin, one a line; answer with text, seconds of CPU and of the clock."""
    write_down = peer(name, threads, folder) if name in (PEER, PEER_FAST) else ours(name, threads)
    for line in sys.stdin:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        text = write_down(line.strip())
        took = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
        print(json.dumps({"text": text, **took}), flush=True)


def peer(name: str, threads: int, folder: str):  # type: ignore[no-untyped-def]
    from faster_whisper import WhisperModel

    model = WhisperModel(
        folder, device="cpu", compute_type="int8" if name == PEER_FAST else "float32", cpu_threads=threads
    )
    settings = {"beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False, "vad_filter": False}

    def write_down(path: str) -> str:
        return "".join(
            segment.text for segment in model.transcribe(path, language="en", **settings)[0]
        ).strip()

    return write_down


def ours(name: str, threads: int):  # type: ignore[no-untyped-def]
    import torch

    from sensorium.speech.transcribe import TranscribeConfig, load_transcriber

    torch.set_num_threads(threads)
    config = TranscribeConfig(temperatures=(0.0,), has_words=False, language="en")
    transcriber = load_transcriber(config=config, precision=PRECISIONS[name])
    return lambda path: transcriber.transcribe(Path(path)).text


class Contender:
    """A process that transcribes on request."""

    def __init__(self, name: str, threads: int, folder: Path) -> None:
        from machine import PEERS

        python = PEERS.with_name(".venv-peers-whisper") / "bin" / "python"
        command = [str(python if name.startswith("faster") else sys.executable), __file__]
        self._child = subprocess.Popen(
            [*command, "--child", name, str(threads), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, path: str) -> dict[str, object]:
        """Let it transcribe a file."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(path + "\n")
        self._child.stdin.flush()
        answer: dict[str, object] = json.loads(self._child.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


def stamps() -> Recordings:
    """The stamps' English captions as they are stored, with their text."""
    from sensorium.data.collections.packages import fetch
    from sensorium.data.collections.stamps import PACKAGE

    root = fetch(PACKAGE)
    found: Recordings = {}
    for sound in sorted(root.rglob("*_desc.ogg")):
        caption = sound.with_name(sound.name.replace("_desc.ogg", ".txt"))
        if caption.is_file():
            found[str(sound)] = caption.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
    return found


def sentences(folder: Path, count: int, captions: Sequence[str]) -> Recordings:
    import soundfile

    from sensorium.data.collections.espeak import speak

    found: Recordings = {}
    for number, text in enumerate(captions[:count]):
        speech = speak(
            text,
            ("en-us", "en-gb")[number % 2],
            variant=VOICES[number % len(VOICES)],
            words_per_minute=(140, 175, 200)[number % 3],
            pitch=(40, 50, 60)[number % 3],
        )
        path = folder / f"{number:03d}.wav"
        soundfile.write(path, speech.samples, speech.rate_hz)
        found[str(path)] = text
    return found


def joined(folder: Path, recordings: Recordings) -> Recordings:
    """All of them in one recording, with pauses of .4 to 1.2 s."""
    import soundfile

    rng = np.random.default_rng(0)
    parts, rate_hz = [], 0
    for path in recordings:
        samples, rate_hz = soundfile.read(path, dtype="float32")
        parts += [samples, np.zeros(int(rng.uniform(0.4, 1.2) * rate_hz), np.float32)]
    path = folder / "joined.wav"
    soundfile.write(path, np.concatenate(parts), rate_hz)
    return {str(path): " ".join(recordings.values())}


def measure(
    recordings: Recordings, rounds: int, threads: int, folder: Path, limit: int | None
) -> list[dict[str, object]]:
    """One row a contender: share of texts equal to the peer's, word errors, real-time factor, ratios."""
    from machine import cpu_flags, in_turns, ratios
    from sensorium.media import probe

    names = [name for name in CONTENDERS if name != OURS_FAST or "avx512_bf16" in cpu_flags()]
    contenders = {name: Contender(name, threads, folder) for name in names}
    texts: dict[str, dict[str, str]] = {
        name: {path: str(contender.ask(path)["text"]) for path in recordings}
        for name, contender in contenders.items()
    }
    timed = list(recordings)[:limit]

    def take(name: str) -> tuple[float, float]:
        answers = [contenders[name].ask(path) for path in timed]
        return sum(float(str(one["cpu_s"])) for one in answers), sum(
            float(str(one["wall_s"])) for one in answers
        )

    found = in_turns(names, rounds, take)
    cpu_s, wall_s = ({name: [run[part] for run in runs] for name, runs in found.items()} for part in (0, 1))
    for contender in contenders.values():
        contender.close()
    over = {peer: ratios(cpu_s, peer) for peer in (PEER, PEER_FAST)}
    clock = ratios(wall_s, PEER)
    duration_s = sum(probe(path).duration_s or 0.0 for path in timed)
    truth = list(recordings.values())
    rows = []
    for name in names:
        own = [texts[name][path] for path in recordings]
        theirs = [texts[PEER][path] for path in recordings]
        rows.append(
            {
                "contender": name,
                "recordings": len(recordings),
                "equal to faster-whisper fp32": round(
                    float(np.mean([a == b for a, b in zip(own, theirs, strict=True)])), 4
                ),
                "WER against it": words_wrong(theirs, own),
                "WER against the text": words_wrong(truth, own),
                "real-time factor (CPU)": round(statistics.median(cpu_s[name]) / duration_s, 4),
                "timed seconds": round(duration_s, 1),
                "CPU time over faster-whisper fp32": round(over[PEER][name]["median"], 3),
                "least and greatest": [round(over[PEER][name][key], 3) for key in ("min", "max")],
                "CPU time over faster-whisper int8": round(over[PEER_FAST][name]["median"], 3),
                "time over faster-whisper fp32": round(clock[name]["median"], 3),
            }
        )
    return rows


def words_wrong(said: Sequence[str], heard: Sequence[str]) -> float:
    """Word error rate over what was said in words at all."""
    from sensorium.evals.speech import evaluate_transcripts, normalise_transcript

    pairs = [(a, b) for a, b in zip(said, heard, strict=True) if normalise_transcript(a)]
    return round(evaluate_transcripts([b for _, b in pairs], [a for a, _ in pairs]).wer.mean, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=12)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--recordings", type=int, default=12, help="so many of the stamps' are timed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child[0], int(options.child[1]), options.child[2])
    from machine import machine, require_idle, write
    from sensorium.data.collections.packages import weights

    require_idle()

    model = weights("whisper-tiny.en")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spoken = sentences(folder, options.sentences, texts_of_stamps())
        groups = {
            "stamps": stamps(),
            "sentences": spoken,
            "joined": joined(folder, spoken),
        }
        for what, threads in itertools.product(groups, options.threads):
            for row in measure(groups[what], options.rounds, threads, model, options.recordings):
                label = f"{what}, {threads} thread{'s' if threads > 1 else ''}: {row.pop('contender')}"
                rows.append({"what": label, **row})
                print(rows[-1], flush=True)
            here = machine(("torch", "numpy", "numba", "av"))
            figures = {
                "claim": CLAIM,
                "rounds": options.rounds,
                "machine": here,
                "rows": rows,
                "notes": NOTES,
            }
            print(write("transcription", figures), flush=True)


def texts_of_stamps() -> list[str]:
    """English captions of five words or more, in an order that is always the same."""
    from sensorium.data.collections.packages import fetch
    from sensorium.data.collections.stamps import PACKAGE

    found = [
        path.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
        for path in sorted(fetch(PACKAGE).rglob("*.txt"))
        if path.stat().st_size
    ]
    kept = [text for text in dict.fromkeys(found) if 5 <= len(text.split()) <= 25]
    return [kept[place] for place in np.random.default_rng(1).permutation(len(kept))]


CLAIM = (
    "Whisper tiny.en from the same folder, greedy, beside faster-whisper 1.2.1 (CTranslate2 4.8.5) at "
    "equal threads "
    "and precision; other precisions in rows of their own."
)
NOTES = [
    "faster-whisper's default for these weights on a processor is fp32. sensorium: as by default, encoder in "
    "float32, decoder in machine code with bfloat16 weights; bf16: the encoder in bfloat16 too, only on "
    "processors that have instructions for it.",
    "Real-time factor: processor time over length, so that other work on the machine does not count; every "
    "recording up to 30 s costs one window of 30 s, which is why single words are slow by this measure.",
    "The stamps' captions are single words and names, some louder than full scale: tiny.en mishears most of "
    "them, and a mishearing hangs on the last bits of the sound.",
]


if __name__ == "__main__":
    main()
