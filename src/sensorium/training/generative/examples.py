"""What a row of a media table lets a model practise: instructions with their answers.

In: a row, a task and languages. Out: exercises, each an instruction, an answer (a text, or a medium that a
codec turns into codes), the media that come with it, and a type by which scores are told apart. Does not know
models or batches.
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
"""What each task reads of a row."""
MEDIA = ("image", "audio", "video")


@dataclass(frozen=True)
class Exercise:
    """One thing to practise.

    Attributes:
        instruction: What is asked, by the task's template.
        answer: What is to be written, a text or an encoded medium.
        media: Encoded media that come with it, by modality.
        type: Type of a question, language of a translation; "" where there is one kind only.
        sounds: Of what is said (`data.espeak.sounds`); "" where they are not known.
        key: Which of the row's clips it is about; exercises of one row and key share their media.
    """

    instruction: str
    answer: str | bytes
    media: Mapping[str, bytes]
    type: str = ""
    key: int = 0
    sounds: str = ""


def exercises(sample: Sample, task: Task, languages: Sequence[str], source: str = "en") -> list[Exercise]:
    """All that a row has for a task; empty where it has nothing.

    Args:
        sample: The row.
        task: What is practised.
        languages: Of answers, or of instructions where the answer is no text; empty: all.
        source: Language to translate from.
    """
    return list(_MAKERS[task](sample, languages, source))


def _ask(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    media = _media(sample)
    for one in questions_of(sample):
        yield Exercise(instruction("ask", one.question), one.answer, media, one.type)


def _caption(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    media = _media(sample)
    for text in _texts(sample, languages) if media else ():
        yield Exercise(instruction("caption"), text, media)


def _transcribe(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    for number, (text, data) in enumerate(_spoken(sample, languages)):
        yield Exercise(instruction("transcribe"), text, {"audio": data}, key=number, sounds=_sounds(sample))


def _speak(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    for number, (text, data) in enumerate(_spoken(sample, languages)):
        yield Exercise(instruction("speak", text), data, {}, key=number, sounds=_sounds(sample))


def _text(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    for one in questions_of(sample):
        yield Exercise(instruction("text", one.question), one.answer, {}, one.type)


def _translate(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    given = [one.text for one in sample.texts if one.language == source and one.text.strip()]
    for one in sample.texts:
        if one.language != source and one.text.strip() and is_asked(one.language, "text", languages):
            for text in given[:1]:
                yield Exercise(instruction("translate", text, one.language), one.text, {}, one.language)


def _draw(sample: Sample, languages: Sequence[str], source: str) -> Iterator[Exercise]:
    for text in _texts(sample, languages) if sample.image else ():
        assert sample.image is not None
        yield Exercise(instruction("draw", text), sample.image, {})


_MAKERS: Mapping[Task, Callable[[Sample, Sequence[str], str], Iterator[Exercise]]] = {
    "ask": _ask,
    "caption": _caption,
    "transcribe": _transcribe,
    "text": _text,
    "translate": _translate,
    "draw": _draw,
    "speak": _speak,
}


def rows_for(task: Task, table: Table) -> Int64[np.ndarray, " n"]:
    """Rows that hold what a task needs.

    Raises:
        ConfigError: If the table has no field for it.
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
    """Modalities that come with a task's exercises."""
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
    """What is said in each clip: the row's text in the clip's language."""
    texts = {one.language: one.text for one in reversed(sample.texts)}
    for clip in sample.speech:
        if clip.language in texts and is_asked(clip.language, "speech", languages):
            yield texts[clip.language], clip.data
