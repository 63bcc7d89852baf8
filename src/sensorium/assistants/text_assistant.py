"""An assistant over a language model: chat turns or a text to continue in, text out.

Text files are opened; other media are refused with a message that names an alternative.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.assistants.assistant import (
    PLAIN,
    Generation,
    Output,
    Part,
    Turn,
    WriteConfig,
    answer_once,
    opened,
)
from sensorium.assistants.capabilities import Capabilities
from sensorium.codecs.chat import Message, ids_of
from sensorium.core.errors import UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Engine, Guide, Precision, Request, fastest_decoder
from sensorium.generation.constraint import Grammars
from sensorium.models.pretrained.text_model import TextModel

CONTEXT = 2048
"""Context length in tokens, unless the model's own is shorter."""


class TextAssistant:
    """A language model that answers.

    Args:
        source: The model with its tokenizer.
        name: Its name in messages.
        num_rows: Most answers in a batch.
        context: Context length in tokens.
        precision: Of the decoder's weights.

    Attributes:
        model: The decoder.
        tokenizer: Text to ids and back.
        outputs: ("text",).
        capabilities: Only "text".
        context: Tokens of prompt and answer together.
    """

    outputs: tuple[Output, ...] = ("text",)
    capabilities: Capabilities = MappingProxyType({"text": ()})
    generate = answer_once

    def __init__(
        self,
        source: TextModel,
        name: str,
        *,
        num_rows: int = 1,
        context: int = CONTEXT,
        precision: Precision = "bf16",
    ) -> None:
        self.model, self.tokenizer, self.name = source.model, source.tokenizer, name
        self.context = min(context, source.num_positions)
        self._source, self._num_rows, self._precision = source, num_rows, precision
        self._engine: Engine | None = None

    def with_precision(self, precision: Precision) -> TextAssistant:
        """The same model with weights of another precision: "fp32", "bf16", "int8" or "int4"."""
        return TextAssistant(
            self._source, self.name, num_rows=self._num_rows, context=self.context, precision=precision
        )

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text fits; see `Assistant.fits`."""
        return len(self.tokenizer.encode(text)) <= self.context // 2

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> Engine:
        """Build the engine, once; see `Assistant.prepare`."""
        if self._engine is None:
            decoder = fastest_decoder(
                self.model, self._num_rows, self.context, self._precision, progress=progress
            )
            self._engine = Engine(decoder, self.tokenizer.decode)
        return self._engine

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
            UsageError: If there is anything but text, or the last turn does not fit.
        """
        if to != "text":
            raise UsageError(f"{self.name} generates text, not {to}; {_ELSEWHERE}")
        chat = self._source.chat
        if chat is None:
            raise UsageError(f"{self.name} has no chat template; continue a text with complete()")
        messages = [Message(turn.role, "\n".join(map(self._read, turn.parts))) for turn in turns]
        return self._write(ids_of(chat.within(messages, self._room(config))), config, guide)

    def complete(self, text: str, config: WriteConfig = PLAIN, *, guide: Guide | None = None) -> Generation:
        """Continue a text without a chat template; nothing is generated before the answer is read.

        Raises:
            UsageError: If the text does not fit.
        """
        ids = self.tokenizer.encode(text)
        if not ids:
            raise UsageError("nothing to continue: the text is empty; give at least a word")
        if len(ids) >= self.context:
            raise UsageError(f"{len(ids)} tokens, but {self.context - 1} fit; shorten the text")
        return self._write(ids, config, guide)

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one, at each place of a text."""
        return self.model.score(ids)

    def grammars(self) -> Grammars:
        """Build grammars for constrained decoding.

        Raises:
            MissingExtraError: Without llguidance.
        """
        return Grammars(self.tokenizer.json, self.model.config.vocab_size, self._source.end_ids)

    def _write(self, ids: Sequence[int], config: WriteConfig, guide: Guide | None) -> Generation:
        request = Request(
            ids,
            sampling=config.sampling,
            max_tokens=min(config.max_tokens, self.context - len(ids)),
            stop_ids=self._source.end_ids,
            stops=config.stops,
            guide=guide,
        )
        return Generation(self.prepare().submit(request))

    def _room(self, config: WriteConfig) -> int:
        """Most tokens of a prompt: the context without `max_tokens`, but at least half of the context."""
        return self.context - min(config.max_tokens, self.context // 2)

    def _read(self, part: Part) -> str:
        found = opened(part)
        if not isinstance(found, str):
            raise UsageError(f"{self.name} reads text, got {found!r}; {_ELSEWHERE}")
        return found


_ELSEWHERE = "--model assistant supports images and sound (sensorium train assistant makes one)"
