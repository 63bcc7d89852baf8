"""A multimodal language model as a run of it begins: what training texts and an earlier run give at first.

In: a recipe and its opened tasks. Out: the recipe's model with word pieces of the training texts, with the
weights of the run that it starts from, and with what its extensions learn from the training data. Does not
train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sensorium.codecs import Codec, train_bpe
from sensorium.core.errors import CheckpointError, ConfigError
from sensorium.core.registry import Registry
from sensorium.core.runtime import Progress, quiet
from sensorium.data.questions import questions_of
from sensorium.data.table.sample import is_asked
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.models.prompts import instruction
from sensorium.training.generative.batches import Course
from sensorium.training.generative.recipe import GenerativeRecipe

_ROWS_FOR_WORDS = 4000
"""Rows of each task whose texts the word pieces are learned from."""


def build_multimodal(
    recipe: GenerativeRecipe,
    courses: Sequence[Course],
    codecs: Mapping[str, Codec[Any]] | None = None,
) -> tuple[MultimodalLM, set[str]]:
    """Build the recipe's model as it starts; word pieces that it lacks are learned from training texts.

    Returns:
        The model, and the names of what it took over from the run that the recipe starts from.
    """
    first = open_first(recipe.start) if recipe.start else None
    config = with_word_pieces(recipe.model, courses, recipe.data.vocab_size, first)
    for name, codec in ({} if codecs is None else codecs).items():
        known = {"num_codes": codec.vocab_size, "num_positions": _num_places(codec)}
        writer = config.decoders[name].model_copy(update=known)  # type: ignore[index]
        config = config.model_copy(update={"decoders": {**config.decoders, name: writer}})
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = MultimodalLM(config)
    read_as_written(model)
    return model, set() if first is None else take_over(model, first.tensors)


def _num_places(codec: Codec[Any]) -> int:
    """Places of a writer of this codec's ids, the start's among them; 0 where their number is not known."""
    return 1 + round(codec.rate) if codec.modality == "image" and codec.rate else 0


@torch.no_grad()
def read_as_written(model: MultimodalLM) -> None:
    """Let pieces that a text encoder reads start in the directions of those that the writer writes.

    Only where both know the same pieces, in one width. To write what was read is then one map for all pieces,
    and not something to be learned of each.
    """
    if "text" not in model.sources or "text" not in model.decoders:
        return
    read = getattr(model.sources["text"], "embedding", None)
    written = getattr(model.decoder("text").model, "embedding", None)
    known = model.config.sources["text"].options.get("tokenizer_json")
    if not isinstance(read, nn.Embedding) or not isinstance(written, nn.Embedding):
        return
    same = known == model.config.decoders["text"].tokenizer_json
    if same and read.weight.shape == written.weight.shape:
        read.weight.copy_(written.weight * (read.weight.std() / written.weight.std()))


def with_word_pieces(
    config: MultimodalLMConfig, courses: Sequence[Course], vocab_size: int, first: First | None = None
) -> MultimodalLMConfig:
    """Give text encoders and writers without a tokenizer one that is learned from the training texts.

    A run that starts from another takes over the other's.
    """
    values = config.model_dump()
    text, writer = values["sources"].get("text"), values["decoders"].get("text")
    needs_encoder = text is not None and text["encoder"].startswith("text-")
    lacking = [text["options"]] if needs_encoder and "tokenizer_json" not in text["options"] else []
    if writer is not None and not writer["tokenizer_json"] and not writer.get("pretrained"):
        lacking.append(writer)
    if not lacking:
        return config
    known = "" if first is None else first.tokenizer_json
    tokenizer = known or train_bpe(_texts(courses), vocab_size)
    for one in lacking:
        one["tokenizer_json"] = tokenizer
    return MultimodalLMConfig.model_validate(values)


@runtime_checkable
class Learns(Protocol):
    """An extension that learns from training data before the run begins."""

    def learn(self, courses: Sequence[Course], progress: Progress) -> None:
        """Learn from the training rows of tasks, which hold the tokens of frozen encoders.

        Raises:
            ConfigError: If there is nothing to learn from.
        """


def learn_extensions(model: MultimodalLM, courses: Sequence[Course], progress: Progress = quiet) -> None:
    """Let the extensions of a model learn, and keep what they learned in its configuration."""
    for one in model.extensions.values():
        if isinstance(one, Learns):
            one.learn(courses, progress)
    model.store_extension_options()


@dataclass(frozen=True)
class First:
    """What a run takes over from another.

    Attributes:
        tensors: Under the names of a multimodal model.
        tokenizer_json: Its word pieces; "" if it has none of its own.
    """

    tensors: Mapping[str, Tensor]
    tokenizer_json: str


STARTS: Registry[First] = Registry("start")
"""What gives the start of a run, by the class of the model that it starts from."""


@STARTS.register("MultimodalLM")
def _from_multimodal(model: MultimodalLM) -> First:
    encoder, writer = model.config.sources.get("text"), model.config.decoders.get("text")
    found = "" if encoder is None else str(encoder.options.get("tokenizer_json", ""))
    return First(model.state_dict(), found or ("" if writer is None else writer.tokenizer_json))


def open_first(folder: str) -> First:
    """Open the run to start from.

    Raises:
        CheckpointError: If nothing installed starts from a model of its kind.
    """
    model: nn.Module = load(Path(folder).expanduser())
    kind = type(model).__name__
    if kind not in STARTS:
        raise CheckpointError(f"{folder} holds a {kind}; a run starts from {' or '.join(STARTS)}")
    return STARTS.get(kind)(model)


@torch.no_grad()
def take_over(model: nn.Module, given: Mapping[str, Tensor]) -> set[str]:
    """Copy what has the same name and shape; the names of what has.

    Raises:
        ConfigError: If nothing has.
    """
    state = model.state_dict()
    same = {name for name, tensor in given.items() if name in state and state[name].shape == tensor.shape}
    if not same:
        raise ConfigError("nothing of `start` fits the recipe's model; leave it out, or use its sizes")
    for name in same:
        state[name].copy_(given[name])
    return same


def _texts(courses: Sequence[Course]) -> Iterator[str]:
    for course in courses:
        for sample in course.read(course.train[:_ROWS_FOR_WORDS], words_only=True):
            asked = [course.config.source_language, *course.config.languages]
            taken = [one for one in sample.texts if is_asked(one.language, "text", asked)]
            for caption in taken if course.config.languages else sample.texts:
                yield instruction(course.config.task, caption.text, caption.language or "en")
                yield caption.text
            for one in questions_of(sample):
                yield from (one.question, one.answer)
