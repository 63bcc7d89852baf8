"""What is reached without looking or translating: the figures that a model has to beat.

    sensorium bench baselines
    sensorium bench baselines --scenes scenes.lance --run runs/mine

Questions about composed scenes answered from their words; captions of held-out stamps taken from the nearest
training stamp of a joint embedding; held-out captions translated by copying and by a glossary. Composes the
scenes and trains the embedding (recipe `pictures`, on stamps) where that was not done yet (`runs/`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from machine import machine, write
from sensorium.data.sample import Sample
from sensorium.data.sources import packages
from sensorium.data.sources.packages.translations import HELD_OUT
from sensorium.data.table import Table
from sensorium.evals.bootstrap import Interval
from sensorium.evals.captioning import evaluate_captions, nearest_captions
from sensorium.evals.translation import evaluate_translations
from sensorium.models.checkpoint import load
from sensorium.models.glossary import Glossary
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.tasks.embed import embed_rows
from sensorium.tasks.evaluate import held_out
from sensorium.tasks.question_bias import question_bias

ROOT = Path(__file__).parents[1]
LANGUAGES = ("fr", "es", "de", "zh")
CHANGES = ("data.table=stamps", 'data.languages=["text:en"]', "train.eval_every=0")
Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=Path, default=ROOT / "runs" / "scenes.lance")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "stamps-pictures")
    arguments = parser.parse_args()
    if not arguments.scenes.exists():
        sensorium("data", "scenes", "-o", str(arguments.scenes), "-n", "5000", "--held-out", "500")
    if not (arguments.run / "model.safetensors").exists():
        changes = [word for change in CHANGES for word in ("--set", change)]
        sensorium("train", "pictures", "-o", str(arguments.run), *changes)
    rows = [*questions(Table.open(arguments.scenes)), *captions(arguments.run), *translations()]
    figures = {
        "claim": "What is reached without looking or translating: the figures that a model has to beat.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sacrebleu", "sensorium")),
        "rows": rows,
        "notes": [
            "brackets: 95 % bootstrap interval, over questions, images or texts",
            "questions: share right; bag of words is a linear classifier over words and pairs of words",
            "captions: one reference each, IDF of the held-out captions; score = CIDEr-D",
            "translations: held-out captions of stamps; score = chrF2; BLEU beside it",
            "glossary: the longest phrase of the other sources, else copied",
            "command: sensorium bench baselines",
        ],
    }
    print(write("baselines", figures))


def questions(table: Table) -> Iterator[Row]:
    for one in question_bias(table):
        for reader, value in (("commonest answer", one.commonest), ("bag of words", one.bag_of_words)):
            yield row(f"questions, {one.source}, {one.type}: {reader}", value, one.num_questions)


def captions(run: Path) -> Iterator[Row]:
    """Nearest training image's caption, and nearest training caption."""
    model = load(run, JointEmbedding)
    held = held_out(run, None)
    train = np.setdiff1d(held.table.rows_with("image"), held.rows)
    images, shown = (embed_rows(held.table, model, "image", rows) for rows in (train, held.rows))
    texts = embed_rows(held.table, model, "text", train, languages=["en"])
    told = [texts_of[0].text for texts_of in held.table.column("texts")]
    references = [[told[place]] for place in shown.rows]
    for what, known in (("nearest image's caption", images), ("nearest caption", texts)):
        found = nearest_captions(shown.vectors, known.vectors, [told[place] for place in known.rows])
        measured = evaluate_captions(found, references)
        extra = {"ROUGE-L": round(measured.rouge_l.mean, 3), "BLEU-1": round(measured.bleu[0], 3)}
        yield row(f"captions, held-out stamps: {what}", measured.cider, len(found)) | extra


def translations() -> Iterator[Row]:
    table = packages.get("translations")
    sources = np.array(table.column("source"))
    known = table.rows(np.flatnonzero(sources != HELD_OUT), columns=["texts"])
    asked = table.rows(np.flatnonzero(sources == HELD_OUT), columns=["texts"])
    for language in LANGUAGES:
        for one, other in (("en", language), (language, "en")):
            texts, expected = map(list, zip(*pairs(asked, one, other), strict=True))
            glossary = Glossary(pairs(known, one, other))
            for name, found in (("copied", texts), (f"glossary of {len(glossary):,}", map(glossary, texts))):
                measured = evaluate_translations(list(found), expected, language=other)
                made = row(f"translation, {one} to {other}: {name}", measured.chrf, len(texts))
                yield made | {"BLEU": round(measured.bleu.mean, 2)}


def pairs(samples: list[Sample], one: str, other: str) -> Iterator[tuple[str, str]]:
    for sample in samples:
        texts = {caption.language: caption.text for caption in sample.texts}
        if one in texts and other in texts:
            yield texts[one], texts[other]


def row(what: str, value: Interval, num: int) -> Row:
    bounds = [round(value.low, 3), round(value.high, 3)]
    return {"what": what, "score": round(value.mean, 3), "95 %": bounds, "n": num}


def sensorium(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sensorium", *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
