"""Builds the multimodal language model of a recipe with its initial state.

In: a recipe and its opened tasks. Out: the model, with a tokenizer trained on the training texts if it names
none, the weights of the run that it starts from, and the state that its extensions learn from the training
data.
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
from sensorium.training.generative.batches import TaskData
from sensorium.training.generative.recipe import GenerativeRecipe

_ROWS_FOR_WORDS = 4000
"""Rows of each task whose texts train the tokenizer."""


def build_multimodal(
    recipe: GenerativeRecipe,
    tasks: Sequence[TaskData],
    codecs: Mapping[str, Codec[Any]] | None = None,
) -> tuple[MultimodalLM, set[str]]:
    """Build the recipe's model; if it names no tokenizer, one is trained on the training texts.

    Returns:
        The model, and the names of the parameters that come from the run named in `start`.
    """
    start = open_start(recipe.start) if recipe.start else None
    config = with_tokenizer(recipe.model, tasks, recipe.data.vocab_size, start)
    for name, codec in ({} if codecs is None else codecs).items():
        known = {"num_codes": codec.vocab_size, "num_positions": _num_places(codec)}
        decoder = config.decoders[name].model_copy(update=known)  # type: ignore[index]
        config = config.model_copy(update={"decoders": {**config.decoders, name: decoder}})
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = MultimodalLM(config)
    copy_decoder_embedding(model)
    return model, set() if start is None else load_matching(model, start.tensors)


def _num_places(codec: Codec[Any]) -> int:
    """Positions of a decoder of this codec's ids, with that of the start; 0 if their number varies."""
    return 1 + round(codec.rate) if codec.modality == "image" and codec.rate else 0


@torch.no_grad()
def copy_decoder_embedding(model: MultimodalLM) -> None:
    """Initialise the text encoder's embedding by the decoder's, rescaled, if they share tokenizer and width.

    Copying input words to the output is then one linear map for all words.
    """
    if "text" not in model.sources or "text" not in model.decoders:
        return
    source = getattr(model.sources["text"], "embedding", None)
    target = getattr(model.decoder("text").model, "embedding", None)
    tokenizer = model.config.sources["text"].options.get("tokenizer_json")
    if not isinstance(source, nn.Embedding) or not isinstance(target, nn.Embedding):
        return
    same = tokenizer == model.config.decoders["text"].tokenizer_json
    if same and source.weight.shape == target.weight.shape:
        source.weight.copy_(target.weight * (source.weight.std() / target.weight.std()))


def with_tokenizer(
    config: MultimodalLMConfig, tasks: Sequence[TaskData], vocab_size: int, start: Start | None = None
) -> MultimodalLMConfig:
    """Give text encoder and decoder a tokenizer if they have none: the starting run's, or a new one."""
    values = config.model_dump()
    text, decoder = values["sources"].get("text"), values["decoders"].get("text")
    needs_encoder = text is not None and text["encoder"].startswith("text-")
    lacking = [text["options"]] if needs_encoder and "tokenizer_json" not in text["options"] else []
    if decoder is not None and not decoder["tokenizer_json"] and not decoder.get("pretrained"):
        lacking.append(decoder)
    if not lacking:
        return config
    known = "" if start is None else start.tokenizer_json
    tokenizer = known or train_bpe(_texts(tasks), vocab_size)
    for one in lacking:
        one["tokenizer_json"] = tokenizer
    return MultimodalLMConfig.model_validate(values)


@runtime_checkable
class Learns(Protocol):
    """An extension that learns from training data before the run begins."""

    def learn(self, tasks: Sequence[TaskData], progress: Progress) -> None:
        """Learn from the training rows of tasks, which have the cached outputs of frozen encoders.

        Raises:
            ConfigError: If there is nothing to learn from.
        """


def learn_extensions(model: MultimodalLM, tasks: Sequence[TaskData], progress: Progress = quiet) -> None:
    """Let the extensions of a model learn, and store their state in its configuration."""
    for one in model.extensions.values():
        if isinstance(one, Learns):
            one.learn(tasks, progress)
    model.store_extension_options()


@dataclass(frozen=True)
class Start:
    """Initial state from another run.

    Attributes:
        tensors: By parameter name of a multimodal model.
        tokenizer_json: Its tokenizer; "" if it has none of its own.
    """

    tensors: Mapping[str, Tensor]
    tokenizer_json: str


STARTS: Registry[Start] = Registry("start")
"""Builders of the initial state, by the class of the model in `start`."""


@STARTS.register("MultimodalLM")
def _from_multimodal(model: MultimodalLM) -> Start:
    encoder, decoder = model.config.sources.get("text"), model.config.decoders.get("text")
    found = "" if encoder is None else str(encoder.options.get("tokenizer_json", ""))
    return Start(model.state_dict(), found or ("" if decoder is None else decoder.tokenizer_json))


def open_start(folder: str) -> Start:
    """Load the run to start from.

    Raises:
        CheckpointError: If no builder takes its class of model.
    """
    model: nn.Module = load(Path(folder).expanduser())
    kind = type(model).__name__
    if kind not in STARTS:
        raise CheckpointError(f"{folder} holds a {kind}; a run starts from {' or '.join(STARTS)}")
    return STARTS.get(kind)(model)


@torch.no_grad()
def load_matching(model: nn.Module, given: Mapping[str, Tensor]) -> set[str]:
    """Copy the tensors with a known name and the same shape; returns their names.

    Raises:
        ConfigError: If there are none.
    """
    state = model.state_dict()
    same = {name for name, tensor in given.items() if name in state and state[name].shape == tensor.shape}
    if not same:
        raise ConfigError("nothing of `start` fits the recipe's model; leave it out, or use its sizes")
    for name in same:
        state[name].copy_(given[name])
    return same


def _texts(tasks: Sequence[TaskData]) -> Iterator[str]:
    for data in tasks:
        for sample in data.read(data.train[:_ROWS_FOR_WORDS], text_only=True):
            asked = [data.config.source_language, *data.config.languages]
            taken = [one for one in sample.texts if is_asked(one.language, "text", asked)]
            for caption in taken if data.config.languages else sample.texts:
                yield instruction(data.config.task, caption.text, caption.language or "en")
                yield caption.text
            for one in questions_of(sample):
                yield from (one.question, one.answer)
