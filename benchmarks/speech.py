"""Our own ears and mouth: words that `listen` gets wrong, and how well what `speak` says is understood.

    sensorium bench speech
    sensorium bench speech --listen RUN --spoken TABLE --speak RUN --voice TABLE --limit 300

Trains the recipes where that was not done yet (`runs/`). Nothing measured was trained on: neither the texts
nor, in "voices", the voices. Whisper tiny.en hears the same sounds. What the talker says is heard by Whisper
and by `listen`, beside espeak-ng's own reading and that reading through the codec.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from machine import machine, spread, write
from sensorium import media
from sensorium.assistants.load import load_assistant
from sensorium.assistants.synthesize import USUAL, Speech
from sensorium.core.config import parse, read_toml
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.evals.speech import evaluate_transcripts
from sensorium.media import Audio
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.speech.transcribe import load_transcriber
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_codecs, open_task
from sensorium.training.generative.text_metrics import write_answers
from sensorium.training.log import read_log

ROOT = Path(__file__).parents[1]
RATE_HZ = 16_000
PARTS = {"texts": "spoken-texts", "voices": "spoken-voices"}
Row = dict[str, object]
Ears = Callable[[Audio], str]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (
        ("listen", "listen"),
        ("spoken", "spoken.lance"),
        ("speak", "speak"),
        ("voice", "voice.lance"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / "runs" / default)
    parser.add_argument("--limit", type=int, default=200, help="held-out sentences of each part")
    parser.add_argument("--said", type=int, default=90, help="sentences that the talker says")
    arguments = parser.parse_args()
    codec = arguments.speak.with_name("codec-audio")
    places = {
        "spoken.lance": arguments.spoken,
        "definitions.lance": arguments.spoken.with_name("definitions.lance"),
        "voice.lance": arguments.voice,
        "voice-definitions.lance": arguments.voice.with_name("voice-definitions.lance"),
        "runs/codec-audio": codec,
    }
    runs = (arguments.listen, arguments.speak)
    make_tables(places, has_runs=all((run / "model.safetensors").exists() for run in runs))
    train("listen", arguments.listen, places)
    if not (arguments.speak / "model.safetensors").exists():
        train("codec-audio", codec, places)
    train("speak", arguments.speak, places)
    whisper = load_transcriber()

    def by_whisper(sound: Audio) -> str:
        padded = Audio(np.pad(sound.mono(RATE_HZ), RATE_HZ // 2)[:, None], RATE_HZ)
        return whisper.generate([padded]).text

    rows = listening(arguments.listen, arguments.spoken, arguments.limit, by_whisper)
    ours = load_assistant(arguments.listen)
    ears = {"Whisper": by_whisper, "listen": lambda sound: ours.generate([sound], max_tokens=256).text}
    said, notes = speaking(arguments.speak, arguments.voice, arguments.said, ears)
    figures = {
        "claim": "Speech, both ways, by small models of our own from random weights: held-out sentences.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "jiwer", "sensorium")),
        "rows": rows + said,
        "notes": [
            "± is half of a 95 % bootstrap interval over sentences; one seed",
            "texts: sentences that are in no training row, in voices that are; voices: both unheard",
            "scenes, stamps, prose: sentences about composed scenes, captions, WordNet's examples",
            *(size_of(name, run) for name, run in (("listen", arguments.listen), ("speak", arguments.speak))),
            *notes,
            " ".join(["command: sensorium bench speech", *sys.argv[1:]]),
        ],
    }
    print(write("speech", figures))


def make_tables(places: dict[str, Path], has_runs: bool) -> None:
    """Where they are not there yet; definitions are for training alone."""
    definitions, single = ("--sentences", "definitions"), ("--voice", "en-us")
    words = {
        "spoken.lance": ("-n", "45000", "--held-out", "300"),
        "definitions.lance": ("-n", "35000", "--held-out", "100", *definitions),
        "voice.lance": ("-n", "15000", "--held-out", "300", *single),
        "voice-definitions.lance": ("-n", "20000", "--held-out", "50", *single, *definitions),
    }
    for name, options in words.items():
        if not places[name].exists() and not (has_runs and "definitions" in name):
            sensorium("data", "spoken", "-o", str(places[name]), *options)


def train(recipe: str, run: Path, places: dict[str, Path]) -> None:
    """Train where there is no model yet, or go on, with tables and codec where they lie here."""
    if (run / "model.safetensors").exists():
        return
    text = (ROOT / "recipes" / f"{recipe}.toml").read_text()
    for name, place in places.items():
        text = text.replace(f'"{name}"', f'"{place}"')
    changed = run.with_name(f"{recipe}-here.toml")
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(text)
    resume = ["--resume"] if (run / "last").exists() else []
    sensorium("train", str(changed), "-o", str(run), *resume)


def sensorium(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sensorium", *words], check=True, stdout=subprocess.DEVNULL)


def size_of(name: str, run: Path) -> str:
    last = [line for line in read_log(run / "log.jsonl") if "loss" in line][-1]
    num = sum(parameter.numel() for parameter in load(run, MultimodalLM).parameters())
    return f"{name}: {num / 1e6:.1f} M parameters, {last['step']:,} steps"


def listening(run: Path, place: Path, limit: int, by_whisper: Ears) -> list[Row]:
    """Word errors on each held-out part and kind of sentence, and Whisper's on the same sounds."""
    model = load(run, MultimodalLM)
    recipe = parse(GenerativeRecipe, read_toml(run / "recipe.toml"), "recipe.toml")
    task = recipe.data.tasks[0].model_copy(update={"table": str(place), "max_tokens": 400})
    data = open_task(task, recipe.seed)
    rows: list[Row] = []
    for part, source in PARTS.items():
        answers = write_answers(model, data, data.test[source][:limit])
        samples = data.table.rows([one.row for one in answers], columns=["speech", "texts", "meta"])
        kinds = [str(sample.meta["kind"]) for sample in samples]
        said = [sample.texts[0].text for sample in samples]
        heard = {
            "listen": [one.text for one in answers],
            "Whisper": [by_whisper(sound_of(one)) for one in samples],
        }
        for who, texts in heard.items():
            rows += by_kind(f"heard, {part}, {{kind}}: {who}", texts, said, kinds)
    return rows


def by_kind(what: str, heard: Sequence[str], said: Sequence[str], kinds: Sequence[str]) -> Iterator[Row]:
    """Errors in all sentences, then in those of each kind."""
    for kind in ("all", *sorted(set(kinds))):
        places = [place for place, one in enumerate(kinds) if kind in ("all", one)]
        row = errors(what.format(kind=kind), [heard[n] for n in places], [said[n] for n in places])
        print(row, flush=True)
        yield row


def speaking(run: Path, place: Path, num: int, ears: dict[str, Ears]) -> tuple[list[Row], list[str]]:
    """How well held-out sentences are understood: the talker's, espeak-ng's, and those through the codec."""
    talker = load_assistant(run)
    codec = open_codecs(load(run, MultimodalLM).config)["audio"]
    table = Table.open(place)
    chosen = np.flatnonzero(np.array(table.column("source")) == "spoken-texts")[:num]
    samples = table.rows(chosen, columns=["speech", "texts", "meta"])
    kinds = [str(sample.meta["kind"]) for sample in samples]
    texts = [sample.texts[0].text for sample in samples]
    own = [sound_of(sample) for sample in samples]
    talker.prepare("audio")
    began = time.perf_counter()
    speeches = [Speech(talker, text, USUAL) for text in texts]
    said = [one.audio() for one in speeches]
    factor = (time.perf_counter() - began) / sum(one.duration_s for one in said)
    rows: list[Row] = []
    for who, sounds in (
        ("speak", said),
        ("espeak-ng", own),
        ("espeak-ng through the codec", [codec.decode(codec.encode(one)) for one in own]),
    ):
        for ear, hear in ears.items():
            heard = [hear(one) for one in sounds]
            rows += by_kind(f"said by {who}, {{kind}}, heard by {ear}", heard, texts, kinds)
    first = spread([one.first_s for one in speeches])
    return rows, [
        f"speak: {factor:.2f} s for a second of speech; first sound after {first['median']:.2f} s "
        f"({first['min']:.2f} to {first['max']:.2f})"
    ]


def sound_of(sample: Sample) -> Audio:
    found = media.open(sample.speech[0].data)
    assert isinstance(found, Audio)
    return found


def errors(what: str, heard: Sequence[str], said: Sequence[str]) -> Row:
    found = evaluate_transcripts(heard, said)
    half = (found.wer.high - found.wer.low) / 2
    return {
        "what": what,
        "WER": round(found.wer.mean, 3),
        "± WER": round(half, 3),
        "CER": round(found.cer.mean, 3),
        "sentences": len(said),
    }


if __name__ == "__main__":
    main()
