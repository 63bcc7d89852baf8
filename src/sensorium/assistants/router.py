"""Combines several models into one assistant that routes each turn to the member trained for its task.

The task follows from the media in view and the kind of answer wanted: an image with a question goes to
visual question answering, a text with audio wanted to speech synthesis. A spoken question is transcribed
first. A spoken answer about media is generated as text first and then synthesized.
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
from sensorium.assistants.capabilities import Capabilities, check_capability, warn_of_language
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Guide, Precision
from sensorium.media.frames import STREAM_LIMITS
from sensorium.media.types import Audio, Image, Text, Video
from sensorium.models.prompts import TEMPLATES, Task

_QUESTION = write_config(200, 0.0)
"""Options for transcribing a spoken question."""
_SEEN = {"image", "video"}
_TRANSLATION = re.compile(TEMPLATES["translate"].format(language=r"[\w-]+", text=""))
_KIND = {Image: "image", Audio: "audio", Video: "video", Text: "text", str: "text"}


class AssistantRouter:
    """Several models as one `Assistant`.

    Args:
        name: Its name in messages.
        members: The first that was trained for a task does it.
    """

    generate = answer_once

    def __init__(self, name: str, members: Sequence[Assistant]) -> None:
        self.name = name
        self._members = tuple(members)
        self._by_task: dict[Task, Assistant] = {}
        for one in members:
            for task in one.capabilities:
                self._by_task.setdefault(task, one)
        self.capabilities: Capabilities = {
            task: one.capabilities[task] for task, one in self._by_task.items()
        }
        self.outputs = tuple(dict.fromkeys(output for one in members for output in one.outputs))

    def member(self, task: Task) -> Assistant:
        """The member for a task.

        Raises:
            UsageError: If no member was trained for it.
        """
        check_capability(self.name, self.capabilities, task)
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
            UsageError: If no member was trained for the task, it does not support the media, or the
                transcript of a spoken question is empty.
        """
        turns = self._transcribe_question(turns)
        task = self._task(turns, to)
        if task in ("ask", "draw", "speak"):
            said = " ".join(part for part in turns[-1].parts if isinstance(part, str))
            warn_of_language(self.name, self.capabilities, task, said)
        if task in ("ask", "caption") and to == "audio":
            answer = self.member(task).reply(turns, config, guide=guide).text
            return ask(self.member("speak"), "speak", text=as_sentence(answer), config=config)
        return self.member(task).reply(turns, config, to=to, guide=guide)

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, by the first member that generates text."""
        return next(one for one in self._members if "text" in one.outputs).logits(ids)

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text fits the member that would answer it."""
        return self.member(self._task([Turn("user", (text,))], to)).fits(text, to)

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> object:
        """Build the decoders of all members with this output; see `Assistant.prepare`."""
        return [one.prepare(to, progress) for one in self._members if to in one.outputs]

    def with_precision(self, precision: Precision) -> AssistantRouter:
        """The same members with decoder weights of another precision."""
        return AssistantRouter(self.name, [one.with_precision(precision) for one in self._members])

    def _transcribe_question(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """Transcribe the spoken question of the last turn, and drop those of earlier turns.

        A recording is a question if its turn has no text and an image or video is in view.
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
                    parts.append(self._transcribe(asked))
            changed.append(Turn(turn.role, tuple(parts)))
        return changed

    def _transcribe(self, recording: Part) -> str:
        text = ask(self.member("transcribe"), "transcribe", [recording], config=_QUESTION).text.strip()
        if not text:
            raise UsageError(f"nothing was understood in {recording}; say it again, or type it")
        return text

    def _task(self, turns: Sequence[Turn], to: Output) -> Task:
        """The task of the last turn."""
        seen, said = _in_view(turns), [part for part in turns[-1].parts if isinstance(part, str)]
        text = "\n".join(said)
        if to == "image" or (to == "audio" and not seen & _SEEN):
            return "draw" if to == "image" else "speak"
        for task in cast("tuple[Task, ...]", ("caption", "transcribe")):
            if to == "text" and seen and text == TEMPLATES[task]:
                return task
        if seen:
            return "ask" if text else "transcribe" if seen == {"audio"} else "caption"
        return "translate" if "translate" in self.capabilities and _TRANSLATION.match(text) else "text"


def member_for(assistant: Assistant, task: Task) -> Assistant:
    """The member of a router for a task, or the assistant itself."""
    return assistant.member(task) if isinstance(assistant, AssistantRouter) else assistant


def kind_of(part: Part) -> str:
    """Modality of a part; a `str` is always a text.

    Raises:
        NotFoundError: If a file is not there.
        MediaError: If it is of no kind that can be read.
    """
    if isinstance(part, Path):
        return media.probe(part, limits=STREAM_LIMITS).kind
    return _KIND[type(part)]


def _in_view(turns: Sequence[Turn]) -> set[str]:
    """Modalities in the user's turns, except text."""
    given = (part for turn in turns if turn.role == "user" for part in turn.parts)
    return {kind_of(part) for part in given} - {"text"}
