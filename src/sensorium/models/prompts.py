"""Instruction templates: one per task, the same in training and inference.

Input: a task, and its text and language. Output: the instruction as text. It enters the text encoder, if the
model has one, and the decoder's prompt, if the decoder is prompted. Does not know models.
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
"""By task; `text` is the question, or the text to translate, draw or speak."""

DECODER_OF: Mapping[Task, str] = MappingProxyType(
    {task: {"draw": "image", "speak": "audio"}.get(task, "text") for task in TEMPLATES}
)
"""Output modality of each task: the name of its decoder."""


_TRANSLATE = re.compile(r"(?:.* \| )?To (?P<language>[\w-]+): (?P<text>.*)", re.DOTALL)
"""The template of `translate`, with or without a prefix from a prompt transform."""


def instruction(task: Task, text: str = "", language: str = "") -> str:
    """Fill in the template of a task.

    Args:
        task: The task.
        text: Question, or text to translate, draw or speak.
        language: Code of the target language, for `translate`.

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


def parse_translation(instruction: str) -> tuple[str, str] | None:
    """Return target language and text of a translation instruction, without prefix; None for other tasks.

    Example:
        >>> parse_translation("un frog | To fr: a frog"), parse_translation("What is there?")
        (('fr', 'a frog'), None)
    """
    found = _TRANSLATE.fullmatch(instruction)
    return None if found is None else (found["language"], found["text"])
