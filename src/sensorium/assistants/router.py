"""Several models as one assistant: each does what it was taught, and one goes on where another ends.

In: turns, as for any `Assistant`. Out: the answer of the member that was taught what is asked for. What is
asked for follows from what is given and what is wanted: an image and a question are for whoever answers
questions, a text to be heard for whoever speaks. A question that is itself a recording is written down first,
and an answer about media that is to be heard is written first and then spoken. Does not know how models are
found (`tasks.load`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from jaxtyping import Float, Int64
from torch import Tensor

from sensorium import media
from sensorium.align.text_lines import as_sentence
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import (
    PLAIN,
    Assistant,
    Generation,
    Output,
    Part,
    Turn,
    WriteConfig,
    answer_once,
    write_config,
)
from sensorium.assistants.capabilities import Skills, check_skill, warn_of_language
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Guide, Precision
from sensorium.media.frames import STREAM_LIMITS
from sensorium.media.types import Audio, Image, Text, Video
from sensorium.models.prompts import TEMPLATES, Task

_QUESTION = write_config(200, 0.0)
"""How a spoken question is written down."""
_SEEN = {"image", "video"}
_TRANSLATION = re.compile(TEMPLATES["translate"].format(language=r"[\w-]+", text=""))
_KIND = {Image: "image", Audio: "audio", Video: "video", Text: "text", str: "text"}


class ComposedAssistant:
    """Models that answer, as one.

    Args:
        name: What it is called in messages.
        members: What one was taught before another, the first one does.
    """

    generate = answer_once

    def __init__(self, name: str, members: Sequence[Assistant]) -> None:
        self.name = name
        self._members = tuple(members)
        self._by_task: dict[Task, Assistant] = {}
        for one in members:
            for task in one.skills:
                self._by_task.setdefault(task, one)
        self.skills: Skills = {task: one.skills[task] for task, one in self._by_task.items()}
        self.outputs = tuple(dict.fromkeys(output for one in members for output in one.outputs))

    def member(self, task: Task) -> Assistant:
        """Who does a task.

        Raises:
            UsageError: If nobody was taught it.
        """
        check_skill(self.name, self.skills, task)
        return self._by_task[task]

    def reply(
        self,
        turns: Sequence[Turn],
        config: WriteConfig = PLAIN,
        *,
        to: Output = "text",
        guide: Guide | None = None,
    ) -> Generation:
        """Answer the last turn of a conversation; see `Assistant.reply`.

        Raises:
            UsageError: If no member was taught what is asked for, it does not take such media, or a spoken
                question is not understood.
        """
        turns = self._written_down(turns)
        task = self._task(turns, to)
        if task in ("ask", "draw", "speak"):
            said = " ".join(part for part in turns[-1].parts if isinstance(part, str))
            warn_of_language(self.name, self.skills, task, said)
        if task in ("ask", "caption") and to == "audio":
            answer = self.member(task).reply(turns, config, guide=guide).text
            return ask(self.member("speak"), "speak", text=as_sentence(answer), config=config)
        return self.member(task).reply(turns, config, to=to, guide=guide)

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id of the first member's text writer as the next one."""
        return next(one for one in self._members if "text" in one.outputs).logits(ids)

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text is read to its end by whoever would answer it."""
        return self.member(self._task([Turn("user", (text,))], to)).fits(text, to)

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> object:
        """Build what writes, in each member that does; see `Assistant.prepare`."""
        return [one.prepare(to, progress) for one in self._members if to in one.outputs]

    def with_precision(self, precision: Precision) -> ComposedAssistant:
        """The same models, writing with weights of another precision."""
        return ComposedAssistant(self.name, [one.with_precision(precision) for one in self._members])

    def _written_down(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """Turns without spoken questions: the last one's is written down, for those before are answered.

        A recording is a question where no text stands beside it and there is something to be seen.
        """
        if not _SEEN & _in_view(turns):
            return turns
        changed = []
        for turn in turns:
            kinds = [kind_of(part) for part in turn.parts]
            parts = list(turn.parts)
            if "audio" in kinds and "text" not in kinds:
                parts = [part for part, kind in zip(parts, kinds, strict=True) if kind != "audio"]
                if turn is turns[-1]:
                    asked = turn.parts[kinds.index("audio")]
                    parts.append(self._heard(asked))
            changed.append(Turn(turn.role, tuple(parts)))
        return changed

    def _heard(self, recording: Part) -> str:
        text = ask(self.member("transcribe"), "transcribe", [recording], config=_QUESTION).text.strip()
        if not text:
            raise UsageError(f"nothing was understood in {recording}; say it again, or type it")
        return text

    def _task(self, turns: Sequence[Turn], to: Output) -> Task:
        """What is asked for."""
        seen, said = _in_view(turns), [part for part in turns[-1].parts if isinstance(part, str)]
        text = "\n".join(said)
        if to == "image" or (to == "audio" and not seen & _SEEN):
            return "draw" if to == "image" else "speak"
        for task in cast("tuple[Task, ...]", ("caption", "transcribe")):
            if to == "text" and seen and text == TEMPLATES[task]:
                return task
        if seen:
            return "ask" if text else "transcribe" if seen == {"audio"} else "caption"
        return "translate" if "translate" in self.skills and _TRANSLATION.match(text) else "text"


def doing(assistant: Assistant, task: Task) -> Assistant:
    """Who of an assistant does a task: a member where there are several, else the assistant itself."""
    return assistant.member(task) if isinstance(assistant, ComposedAssistant) else assistant


def kind_of(part: Part) -> str:
    """Of which modality a part is; a `str` is always a text.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If it is of no kind that can be read.
    """
    if isinstance(part, Path):
        return media.probe(part, limits=STREAM_LIMITS).kind
    return _KIND[type(part)]


def _in_view(turns: Sequence[Turn]) -> set[str]:
    """Modalities of all that was given."""
    given = (part for turn in turns if turn.role == "user" for part in turn.parts)
    return {kind_of(part) for part in given} - {"text"}
