"""Training examples of a media table's row: instruction, media and answer.

In: a row, a task and languages. Out: examples. An answer is a text, or a medium that a codec turns into ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import ConfigError
from sensorium.data.questions import questions_of
from sensorium.data.table.sample import Sample, is_asked
from sensorium.data.table.table import Table
from sensorium.models.prompts import Task, instruction

COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "ask": ("image", "audio", "video", "meta"),
    "caption": ("image", "audio", "video", "texts"),
    "transcribe": ("speech", "texts", "meta"),
    "text": ("meta",),
    "translate": ("texts",),
    "draw": ("image", "texts"),
    "speak": ("speech", "texts", "meta"),
}
"""Columns that each task reads."""
MEDIA = ("image", "audio", "video")


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        instruction: By the task's template.
        answer: Target: a text or an encoded medium.
        media: Encoded input media, by modality.
        type: Type of a question, language of a translation; "" if the task has one kind only.
        sounds: Phonemes of the speech (`data.collections.espeak.phonemes`); "" if unknown.
        key: Number of the row's clip; examples of one row and key share their media.
    """

    instruction: str
    answer: str | bytes
    media: Mapping[str, bytes]
    type: str = ""
    key: int = 0
    sounds: str = ""


def examples_of(sample: Sample, task: Task, languages: Sequence[str], source: str = "en") -> list[Example]:
    """All examples of a row for a task.

    Args:
        sample: The row.
        task: The task.
        languages: Languages of answers, or of instructions if the answer is a medium; empty: all.
        source: Language to translate from.
    """
    return list(_MAKERS[task](sample, languages, source))


def _ask(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    media = _media(sample)
    for one in questions_of(sample):
        yield Example(instruction("ask", one.question), one.answer, media, one.type)


def _caption(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    media = _media(sample)
    for text in _texts(sample, languages) if media else ():
        yield Example(instruction("caption"), text, media)


def _transcribe(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    for number, (text, data) in enumerate(_spoken(sample, languages)):
        yield Example(instruction("transcribe"), text, {"audio": data}, key=number, sounds=_sounds(sample))


def _speak(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    for number, (text, data) in enumerate(_spoken(sample, languages)):
        yield Example(instruction("speak", text), data, {}, key=number, sounds=_sounds(sample))


def _text(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    for one in questions_of(sample):
        yield Example(instruction("text", one.question), one.answer, {}, one.type)


def _translate(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    given = [one.text for one in sample.texts if one.language == source and one.text.strip()]
    for one in sample.texts:
        if one.language != source and one.text.strip() and is_asked(one.language, "text", languages):
            for text in given[:1]:
                yield Example(instruction("translate", text, one.language), one.text, {}, one.language)


def _draw(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Example]:
    for text in _texts(sample, languages) if sample.image else ():
        assert sample.image is not None
        yield Example(instruction("draw", text), sample.image, {})


_MAKERS: Mapping[Task, Callable[[Sample, Sequence[str], str], Iterator[Example]]] = {
    "ask": _ask,
    "caption": _caption,
    "transcribe": _transcribe,
    "text": _text,
    "translate": _translate,
    "draw": _draw,
    "speak": _speak,
}


def rows_for(task: Task, table: Table) -> Int64[np.ndarray, " n"]:
    """Rows with the fields that a task needs.

    Raises:
        ConfigError: If the table has none of these fields.
    """
    asked = {
        "ask": MEDIA,
        "caption": MEDIA,
        "draw": ("image",),
        "transcribe": ("speech",),
        "speak": ("speech",),
    }
    fields = [name for name in asked.get(task, ("text",)) if name in table.fields]
    if not fields:
        needed = " or ".join(asked.get(task, ("text",)))
        raise ConfigError(f"task '{task}' needs {needed}, but {table.path} holds {', '.join(table.fields)}")
    return np.unique(np.concatenate([table.rows_with(name) for name in fields]))


def media_of(task: Task) -> tuple[str, ...]:
    """Modalities of a task's input media."""
    return {"ask": MEDIA, "caption": MEDIA, "transcribe": ("audio",)}.get(task, ())


def _media(sample: Sample) -> dict[str, bytes]:
    found = {name: getattr(sample, name) for name in MEDIA}
    return {name: data for name, data in found.items() if data}


def _sounds(sample: Sample) -> str:
    return str(sample.meta.get("sounds", ""))


def _texts(sample: Sample, languages: Sequence[str]) -> list[str]:
    return [
        one.text for one in sample.texts if one.text.strip() and is_asked(one.language, "text", languages)
    ]


def _spoken(sample: Sample, languages: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each clip with the row's text in the clip's language."""
    texts = {one.language: one.text for one in reversed(sample.texts)}
    for clip in sample.speech:
        if clip.language in texts and is_asked(clip.language, "speech", languages):
            yield texts[clip.language], clip.data
