"""What a model is asked to do: one template for each task, the same in training and in use.

In: a task and what it is about. Out: its instruction, a text. It enters the encoder as the text modality,
where the model has one, and stands before the answer, where the writer reads prompts. Does not know models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from sensorium.core.errors import UsageError

Task = Literal["ask", "caption", "transcribe", "text", "translate", "draw", "speak"]

TEMPLATES: Mapping[Task, str] = MappingProxyType(
    {
        "ask": "{text}",
        "caption": "What is there?",
        "transcribe": "What is said?",
        "text": "{text}",
        "translate": "To {language}: {text}",
        "draw": "{text}",
        "speak": "{text}",
    }
)
"""By task; `text` is the question, the text to translate, to draw or to speak."""

WRITER_OF: Mapping[Task, str] = MappingProxyType(
    {task: {"draw": "image", "speak": "audio"}.get(task, "text") for task in TEMPLATES}
)
"""Which decoder does each task."""


_TRANSLATE = re.compile(r"(?:.* \| )?To (?P<language>[\w-]+): (?P<text>.*)", re.DOTALL)
"""The template of `translate`, with or without what a prompt transform put before it."""


def instruction(task: Task, text: str = "", language: str = "") -> str:
    """The instruction of a task.

    Args:
        task: What is to be done.
        text: What it is about.
        language: Code of the language to translate into.

    Raises:
        UsageError: If a text or a language is needed and missing.

    Example:
        >>> instruction("translate", "a frog", language="fr")
        'To fr: a frog'
    """
    template = TEMPLATES[task]
    for name, value in (("text", text), ("language", language)):
        if f"{{{name}}}" in template and not value:
            raise UsageError(f"task '{task}' needs a {name}; give one")
    return template.replace("{language}", language).replace("{text}", text)


def to_translate(instruction: str) -> tuple[str, str] | None:
    """The language and the text of an instruction to translate, without a prefix; None of any other.

    Example:
        >>> to_translate("un frog | To fr: a frog"), to_translate("What is there?")
        (('fr', 'a frog'), None)
    """
    found = _TRANSLATE.fullmatch(instruction)
    return None if found is None else (found["language"], found["text"])
