"""Metrics of generated captions, transcripts and translations, beside a baseline without a model.

Answers are generated greedily. Captions: CIDEr-D, beside the commonest training caption. Transcripts: WER and
CER. Translations: chrF, beside the source text and the baselines of plug-ins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensorium.core.registry import Registry
from sensorium.evals.captioning import evaluate_captions
from sensorium.evals.speech import evaluate_transcripts
from sensorium.evals.translation import evaluate_translations
from sensorium.generation.multimodal import engine_of, requests, text_decoder_of
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.prompts import parse_translation
from sensorium.training.generative.batches import TaskData, all_batches
from sensorium.training.generative.examples import Example

_ROWS_READ = 4000
"""Training rows of the baselines."""
BASELINES: Registry[Callable[[str], str]] = Registry("translation_baseline")
"""Baseline translators, built from pairs of a text and its translation; each has a figure of its name."""


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        row: Row of the table.
        example: The example.
        text: The answer.
    """

    row: int
    example: Example
    text: str


def write_answers(
    model: MultimodalLM, data: TaskData, rows: np.ndarray, *, num_rows: int = 16
) -> list[Answer]:
    """Generate an answer to every example of some rows, greedily.

    Args:
        model: In evaluation mode.
        data: A task whose answers are texts.
        rows: Which rows.
        num_rows: Batch size of generation.
    """
    found: list[Answer] = []
    engine, decoder = engine_of(model, "text", num_rows=num_rows), text_decoder_of(model)
    for batch, asked in all_batches(model, data, rows):
        instructions = [one.instruction for one in asked]
        most = data.config.max_tokens
        done = engine.run(requests(model, "text", batch.media, instructions, max_tokens=most))
        done = done if decoder is None else [decoder(one) for one in done]
        found += [
            Answer(row, one, each.text.strip())
            for row, one, each in zip(batch.rows.tolist(), asked, done, strict=True)
        ]
    return found


def written_measures(model: MultimodalLM, data: TaskData, rows: np.ndarray) -> dict[str, float]:
    """Generate answers for some rows and measure them; empty for tasks without a metric."""
    measure = _MEASURES.get(data.config.task)
    if measure is None or len(rows) == 0:
        return {}
    answers = write_answers(model, data, rows)
    return measure(data, answers) if answers else {}


def _captions(data: TaskData, answers: Sequence[Answer]) -> dict[str, float]:
    """CIDEr-D of the first caption generated for each row, against all captions of the row."""
    references: dict[int, list[str]] = {}
    first: dict[int, str] = {}
    for one in answers:
        references.setdefault(one.row, []).append(str(one.example.answer))
        first.setdefault(one.row, one.text)
    trained = Counter(str(one.answer) for one in _trained(data))
    commonest = [trained.most_common(1)[0][0]] * len(first)
    expected = list(references.values())
    return {
        "CIDEr-D": evaluate_captions(list(first.values()), expected).cider.mean,
        "CIDEr-D of the commonest": evaluate_captions(commonest, expected).cider.mean,
    }


def _transcripts(data: TaskData, answers: Sequence[Answer]) -> dict[str, float]:
    found = evaluate_transcripts([one.text for one in answers], [str(one.example.answer) for one in answers])
    return {"WER": found.wer.mean, "CER": found.cer.mean}


def _translations(data: TaskData, answers: Sequence[Answer]) -> dict[str, float]:
    """ChrF for each target language, beside the source text and the baselines of plug-ins."""
    figures: dict[str, float] = {}
    trained = _trained(data)
    for language in sorted({one.example.type for one in answers}):
        own = [one for one in answers if one.example.type == language]
        texts, expected = [_text(one.example) for one in own], [str(one.example.answer) for one in own]
        pairs = [(_text(one), str(one.answer)) for one in trained if one.type == language]
        known = {name: BASELINES.build(name, pairs=pairs) for name in BASELINES}
        for name, written in (
            (f"chrF {language}", [one.text for one in own]),
            (f"chrF {language} copied", texts),
            *((f"chrF {language} {name}", [one(text) for text in texts]) for name, one in known.items()),
        ):
            found = evaluate_translations(written, expected, language=language, num_resamples=2)
            figures[name] = found.chrf.mean
    return figures


_MEASURES: Mapping[str, Callable[[TaskData, Sequence[Answer]], dict[str, float]]] = {
    "caption": _captions,
    "transcribe": _transcripts,
    "translate": _translations,
}


def _trained(data: TaskData) -> list[Example]:
    samples = data.read(data.train[:_ROWS_READ])
    return [one for sample in samples for one in data.examples(sample)]


def _text(example: Example) -> str:
    """The text to translate, without the instruction."""
    found = parse_translation(example.instruction)
    assert found is not None
    return found[1]
