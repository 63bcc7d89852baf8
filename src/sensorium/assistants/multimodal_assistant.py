"""An assistant over a `MultimodalLM`: text, images, sounds and videos in; text, an image or speech out.

The texts of the last turn are the instruction. Of each modality the latest medium is in view, also one of an
earlier turn. Generated codes are decoded to media by their codecs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.assistants.assistant import PLAIN, Generation, Output, Turn, WriteConfig, answer_once, opened
from sensorium.assistants.capabilities import Capabilities, capabilities_of
from sensorium.codecs import Codec
from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Engine, Guide, Precision
from sensorium.generation.multimodal import (
    CONTEXT,
    DecodedStream,
    TextDecoder,
    engine_of,
    requests,
    text_decoder_of,
)
from sensorium.media.types import Audio, Image, Media, Video
from sensorium.models import checkpoint
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import (
    batch_of,
    fits_prompt,
    max_audio_s,
    prepare,
    target_px,
    transform_prompt,
)
from sensorium.models.prompts import DECODER_OF, TEMPLATES

_ROUND_S = 0.1
_PICTURES_AT_ONCE = 8
"""Batch size of image generation: sequences are short, and often several per text are wanted."""
_MODALITY: Mapping[type[Media], str] = {Image: "image", Audio: "audio", Video: "video"}


class MultimodalAssistant:
    """A multimodal model that answers.

    Args:
        model: In evaluation mode.
        name: Its name in messages.
        codecs: Codec of each kind of output that is not text.
        context: Most ids of a sequence.
        capabilities: Tasks that it was trained for; None: all that it has decoders for.
        precision: Of a pretrained decoder's weights; our own decoders are small and stay in fp32.

    Attributes:
        model: The model.
        outputs: Kinds of answers: text, and media that it has a codec for.
        hears_s: Most seconds of sound in a request; None: any.
    """

    generate = answer_once

    def __init__(
        self,
        model: MultimodalLM,
        name: str,
        codecs: Mapping[str, Codec[Any]],
        *,
        capabilities: Capabilities | None = None,
        context: int = CONTEXT,
        precision: Precision = "bf16",
    ) -> None:
        self.model, self.name = model, name
        self._codecs, self._context, self._precision = codecs, context, precision
        kinds: tuple[Output, ...] = ("text", "image", "audio")
        self.outputs = tuple(
            one for one in kinds if one in model.decoders and (one == "text" or one in codecs)
        )
        taught: Capabilities = dict.fromkeys(TEMPLATES, ()) if capabilities is None else capabilities
        self.capabilities: Capabilities = {
            task: taught[task] for task in taught if DECODER_OF[task] in model.decoders
        }
        self.hears_s = max_audio_s(model)
        self._engines: dict[str, Engine] = {}

    def with_precision(self, precision: Precision) -> MultimodalAssistant:
        """The same model, its pretrained decoder with weights of another precision."""
        other = copy.copy(self)
        other._precision, other._engines = precision, {}
        return other

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
            UsageError: If the model does not support the media, or the text is too long.
        """
        self._check(to)
        given, texts = self._read(turns)
        instruction = "\n".join(texts) or TEMPLATES["transcribe" if set(given) == {"audio"} else "caption"]
        if not self.fits(instruction, to):
            raise UsageError(f"the text is too long for {self.name}; shorten it")
        instruction = transform_prompt(self.model, to, instruction)
        batch = batch_of(self.model, [0], [prepare(self.model, given)], [instruction])
        (request,) = requests(self.model, to, batch, [instruction], sampling=config.sampling)
        room = min(config.max_tokens, self._context - len(request.prompt))
        if room < 1:
            raise UsageError(
                f"a message of {len(request.prompt)} tokens, media included, but {self.name} "
                f"has room for {self._context - 1}; shorten it"
            )
        codec = None if to == "text" else self._codecs[to]
        if codec is None:
            decoder = self._text_decoder
            if decoder is not None and (guide is not None or config.stops):
                raise UsageError(
                    f"{self.name} decodes its text at the end; give no stop strings, choices or schema"
                )
            request = replace(request, max_tokens=room, stops=config.stops, guide=guide)
            stream = self.prepare(to).submit(request)
            return Generation(stream if decoder is None else DecodedStream(stream, decoder))
        if guide is not None or config.stops:
            raise UsageError(f"stop strings, choices and schemas are for text, not for {to}; leave them out")
        length = int(codec.rate) if to == "image" and codec.rate is not None else None
        rule = CodesOnly(codec.vocab_size, length is not None)
        request = replace(request, logits_processor=rule, max_tokens=room if length is None else length)
        return Generation(self.prepare(to).submit(request), codec)

    def logits(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Score every id as the next one by the text decoder, without any medium."""
        return self.model.decoder("text").model.score(ids)

    def fits(self, text: str, to: Output = "text") -> bool:
        """Whether a text fits; see `Assistant.fits`."""
        return fits_prompt(self.model, to, transform_prompt(self.model, to, text), self._context // 2)

    def prepare(self, to: Output = "text", progress: Progress = quiet) -> Engine:
        """Build the engine of an output, once; see `Assistant.prepare`."""
        if to not in self._engines:
            self._engines[to] = engine_of(
                self.model,
                to,
                num_rows=_PICTURES_AT_ONCE if to == "image" else 1,
                capacity=self._context,
                precision=self._precision if self.model.decoder(to).config.pretrained else "fp32",
                progress=progress,
            )
        return self._engines[to]

    @cached_property
    def _text_decoder(self) -> TextDecoder | None:
        """Makes the text of an answer at its end; None: the tokenizer does."""
        return text_decoder_of(self.model)

    def _check(self, to: Output) -> None:
        """Refuse an output that the model does not generate, or whose codec is missing."""
        if to in self.outputs:
            return
        if to in self.model.decoders:
            place = self.model.config.decoders[to].codec
            raise UsageError(
                f"{self.name} generates {to} codes, but their codec {place} is missing; "
                f"put its folder into that of {self.name}"
            )
        raise UsageError(f"{self.name} generates {', '.join(self.outputs)}, not {to}; train a {to} decoder")

    def _read(self, turns: Sequence[Turn]) -> tuple[dict[str, Media], list[str]]:
        """The latest medium of each modality, and the texts of the last turn.

        Raises:
            UsageError: If two media of one modality come in one turn, or a system message.
        """
        if any(turn.role == "system" for turn in turns):
            raise UsageError(f"{self.name} was not trained on system messages; leave it out")
        enough_px = target_px(self.model, "image") if "image" in self.model.sources else None
        given: dict[str, Media] = {}
        texts: list[str] = []
        for number, turn in enumerate(turns):
            seen: dict[str, Media] = {}
            for part in turn.parts if turn.role == "user" else ():
                found = opened(part, enough_px)
                if isinstance(found, str):
                    texts += [found] if number == len(turns) - 1 else []
                    continue
                views = self._views(found)
                if twice := set(seen) & set(views):
                    raise UsageError(
                        f"{self.name} accepts one {min(twice)} at a time; ask about each on its own"
                    )
                seen |= views
            given |= seen
        return given, texts

    def _views(self, medium: Media) -> dict[str, Media]:
        """A medium by modality; without a video encoder, a video is its middle frame and the sound there.

        Raises:
            UsageError: If a sound is longer than `hears_s`.
        """
        sources = self.model.sources
        if isinstance(medium, Video) and "video" not in sources:
            views: dict[str, Media] = {"image": Image(medium.frames[len(medium.frames) // 2], medium.uri)}
            if medium.audio is not None:
                views["audio"] = _middle(medium.audio, self.hears_s)
            return {name: view for name, view in views.items() if name in sources} or {"video": medium}
        heard_s = self.hears_s
        if isinstance(medium, Audio) and heard_s is not None and medium.duration_s > heard_s + _ROUND_S:
            raise UsageError(
                f"{self.name} accepts {heard_s:g} s of sound at a time, got {medium.duration_s:.0f} s; "
                f"split the sound: --every {heard_s:g}, or assistants.ask.moments"
            )
        if isinstance(medium, Image) and "image" not in sources and "video" in sources:
            return {"video": medium}
        return {_MODALITY[type(medium)]: medium}


def _middle(sound: Audio, longest_s: float | None) -> Audio:
    """The middle `longest_s` of a sound."""
    surplus = 0 if longest_s is None else len(sound.samples) - int(longest_s * sound.sample_rate_hz)
    start = max(surplus, 0) // 2
    samples = sound.samples[start : len(sound.samples) - (max(surplus, 0) - start)]
    return Audio(samples, sound.sample_rate_hz, sound.uri)


def with_codecs(model: MultimodalLM, folder: Path) -> MultimodalAssistant:
    """Build an assistant from a trained model and the codecs that its configuration names.

    Args:
        model: The model.
        folder: Of its run. A codec is looked for in it, then at the configured path; without its codec an
            output is not available.

    Raises:
        CheckpointError: If a codec is damaged.
    """
    codecs: dict[str, Codec[Any]] = {}
    for name, writer in model.config.decoders.items():
        places = [folder / Path(writer.codec).name, Path(writer.codec).expanduser()] if writer.codec else []
        for place in places:
            try:
                found: Any = checkpoint.load(place)
            except NotFoundError:
                continue
            codecs[name] = found
            break
    return MultimodalAssistant(model, folder.name, codecs, capabilities=capabilities_of(folder))


@dataclass(frozen=True)
class CodesOnly:
    """Masks ids that no codec can decode: the start token, and an end token that comes too early.

    Attributes:
        num_codes: Of the codec; the start and the end are the two ids after them.
        is_fixed: Whether the length is fixed, so that the end token is never generated.
    """

    num_codes: int
    is_fixed: bool

    def __call__(self, scores: Float[Tensor, " V"], generated: Sequence[int]) -> Float[Tensor, " V"]:
        """Set the scores of forbidden next ids to minus infinity."""
        changed = scores.clone()
        changed[self.num_codes] = -torch.inf
        if self.is_fixed or not generated:
            changed[self.num_codes :] = -torch.inf
        return changed
