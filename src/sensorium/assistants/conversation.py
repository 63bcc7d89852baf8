"""Keeps a conversation: text or voice messages, attached media, and answers that may be spoken.

One model answers. Other models are loaded on first use for tasks that it was not trained for: questions
about media, speech recognition, speech synthesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sensorium import media
from sensorium.align.text_lines import as_sentence
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import Assistant, Generation, Part, Turn, WriteConfig
from sensorium.assistants.chunked_transcribe import ChunkedTranscriber
from sensorium.assistants.multimodal_assistant import MultimodalAssistant
from sensorium.assistants.router import member_for
from sensorium.assistants.synthesize import USUAL, Speech
from sensorium.core.errors import NotFoundError, UsageError
from sensorium.media.frames import STREAM_LIMITS
from sensorium.models.prompts import Task


@dataclass
class Conversation:
    """State of a conversation.

    Attributes:
        assistant: The model that answers.
        config: Options of generation.
        find: Loads a model for a task.
        is_alone: Whether questions about media go to `assistant` too.
        system: The system prompt.
        turns: Messages of both sides.
        attached: Media of the next message.
        has_media: Whether anything but texts was attached.
    """

    assistant: Assistant
    config: WriteConfig
    find: Callable[[Task], Assistant]
    is_alone: bool = False
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    attached: list[Part] = field(default_factory=list)
    has_media: bool = False
    _others: dict[Task, Assistant] = field(default_factory=dict)

    def ask(self, text: str) -> Generation:
        """Begin an answer to a message; call `note` with its text afterwards.

        Raises:
            UsageError: If the model does not support the attached media.
            NotFoundError: If media were attached and no model at hand answers questions about them.
        """
        asked = Turn("user", (*self.attached, text))
        self.attached = []
        sampling = self.config.sampling
        sampling = sampling.model_copy(update={"seed": sampling.seed + len(self.turns)})
        config = self.config.model_copy(update={"sampling": sampling})
        who = self.able_to("ask") if self.has_media and not self.is_alone else self.assistant
        told = [Turn("system", (self.system,))] if self.system and who is self.assistant else []
        answer = who.reply([*told, *self.turns, asked], config)
        self.turns.append(asked)
        return answer

    def note(self, text: str) -> None:
        """Add an answer to the turns."""
        self.turns.append(Turn("assistant", (text,)))

    def listen(self, recording: str) -> str:
        """Transcribe a recorded question.

        Raises:
            NotFoundError: If there is no such file.
            UsageError: If its transcript is empty.
        """
        path = _file(recording, "the recording of a question")
        who = self.able_to("transcribe")
        if isinstance(who, MultimodalAssistant):
            text = ChunkedTranscriber(who).transcribe(path).text
        else:
            text = ask(who, "transcribe", [path]).text.strip()
        if not text:
            raise UsageError(f"nothing was understood in '{recording}'; say it again, or type it")
        return text

    def say(self, text: str) -> Speech:
        """Synthesize an answer.

        Raises:
            NotFoundError: If no model at hand synthesizes speech.
        """
        return Speech(self.able_to("speak"), as_sentence(text), USUAL)

    def attach(self, name: str) -> None:
        """Attach a file to the next message.

        Raises:
            NotFoundError: If there is no such file.
        """
        path = _file(name, "the path of an image, a sound, a video or a text")
        self.has_media |= media.probe(path, limits=STREAM_LIMITS).kind != "text"
        self.attached.append(path)

    def clear(self) -> None:
        """Remove all turns and attachments."""
        self.turns, self.attached, self.has_media = [], [], False

    def able_to(self, task: Task) -> Assistant:
        """The assistant, if it was trained for a task, else another model.

        Raises:
            NotFoundError: If there is none; the message names the recipe that makes one.
        """
        if task in self.assistant.capabilities:
            return member_for(self.assistant, task)
        if task not in self._others:
            self._others[task] = self.find(task)
        return self._others[task]


def _file(name: str, what: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise NotFoundError(f"no file '{name}'; give {what}")
    return path
