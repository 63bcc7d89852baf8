"""Loss and recipe of multimodal language models.

A recipe mixes tasks, each over a media table and with a weight. The loss is cross-entropy of the next id over
the answer, whether the ids are of text or of a codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import normpath
from typing import Protocol, runtime_checkable

from pydantic import Field, model_validator

from sensorium.core.config import Config
from sensorium.losses import next_id_loss
from sensorium.models.extensions import Options, find
from sensorium.models.multimodal_lm import DecoderOutput, MultimodalLM, MultimodalLMConfig
from sensorium.models.prompts import DECODER_OF, Task
from sensorium.models.sequences import DecoderBatch
from sensorium.training.criterion import Objective
from sensorium.training.recipe import HeldOut, Test, TrainConfig

LETTERS = 260
"""Size of a byte-level vocabulary, with the special ids."""


@runtime_checkable
class ChecksRecipe(Protocol):
    """A builder of extensions that checks recipes."""

    def check_recipe(self, options: Options, recipe: GenerativeRecipe) -> None:
        """Raise a `ValueError` if the extension does not fit the recipe's tasks."""


class TaskConfig(Config):
    """One task of a mixture.

    Attributes:
        task: ask, caption, transcribe, text, translate, draw or speak.
        table: Name of a collection, or a path.
        weight: Share of the batches, relative to the other tasks.
        test: Held-out sources, each measured separately, or a share of the groups.
        languages: Languages of answers, or of texts and clips if the answer is a medium; empty: all.
        source_language: Source language of translations.
        types: Types of questions; empty: all.
        extensions: Extensions of the model that learn from this task.
        per_row: Most examples of a row in a batch, drawn anew in each epoch; they share its media.
        max_tokens: Longest answer in ids; longer examples are left out.
    """

    task: Task
    table: str
    weight: float = Field(default=1.0, gt=0)
    test: Test = 0.1
    languages: list[str] = Field(default_factory=lambda: ["en"])
    source_language: str = "en"
    types: list[str] = Field(default_factory=list)
    extensions: list[str] = Field(default_factory=list)
    per_row: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _only_questions_have_types(self) -> TaskConfig:
        if self.types and self.task not in ("ask", "text"):
            raise ValueError(f"types are those of questions; leave them out of task '{self.task}'")
        return self

    @property
    def held_out(self) -> float | frozenset[str]:
        """`test` in a form that compares equal: a share, or the set of sources."""
        return frozenset(self.test.sources) if isinstance(self.test, HeldOut) else self.test


class GenerativeData(Config):
    """Which rows.

    Attributes:
        tasks: The mixture.
        vocab_size: Size of the vocabulary trained on the training texts if the model names no tokenizer.
        max_measured: Held-out rows of each source that are measured during training.
        max_written: Rows of these whose captions, transcripts or translations are generated and measured.
        pack: Ids in a packed row of several sequences; 0: one sequence a row. Packing pays if lengths differ
            much.
    """

    tasks: list[TaskConfig] = Field(min_length=1)
    vocab_size: int = Field(default=1024, ge=LETTERS)
    max_measured: int = Field(default=100, ge=1)
    max_written: int = Field(default=32, ge=0)
    pack: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _hold_out_the_same(self) -> GenerativeData:
        """No task may train on rows that another holds out."""
        first: dict[str, TaskConfig] = {}
        for one in self.tasks:
            known = first.setdefault(normpath(one.table), one)
            if known.held_out != one.held_out:
                raise ValueError(
                    f"tasks '{known.task}' and '{one.task}' over {one.table} hold out different rows, so one "
                    "would train on what the other is measured on; name the same test in both"
                )
        return self


class GenerativeRecipe(Config):
    """A training run of a multimodal language model.

    Attributes:
        task: "generate": what tells this recipe from others.
        seed: Names every random choice.
        data: Which tasks.
        model: Encoders, fusion, writers.
        smoothing: Label smoothing.
        start: A run whose word pieces, and weights where names and shapes agree, are taken over: of the same
            kind, or a grounder, which knows pictures and words already.
        train: How.
    """

    task: str = Field(default="generate", pattern="^generate$")
    seed: int = Field(default=0, ge=0)
    data: GenerativeData
    model: MultimodalLMConfig
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    start: str = ""
    train: TrainConfig

    @model_validator(mode="after")
    def _extensions_fit(self) -> GenerativeRecipe:
        for one in self.data.tasks:
            for name in one.extensions:
                if name not in self.model.extensions:
                    raise ValueError(
                        f"task '{one.task}' teaches '{name}', but there is no [model.extensions.{name}]"
                    )
        for name, options in self.model.extensions.items():
            builder = find(name, options)
            if isinstance(builder, ChecksRecipe):
                builder.check_recipe(options, self)
        return self

    @model_validator(mode="after")
    def _has_writers(self) -> GenerativeRecipe:
        writers = {str(name): writer for name, writer in self.model.decoders.items()}
        for one in self.data.tasks:
            if DECODER_OF[one.task] not in writers:
                raise ValueError(
                    f"task '{one.task}' writes {DECODER_OF[one.task]}, but there is no "
                    f"[model.decoders.{DECODER_OF[one.task]}]"
                )
            if DECODER_OF[one.task] != "text" and not writers[DECODER_OF[one.task]].codec:
                raise ValueError(
                    f"task '{one.task}' needs model.decoders.{DECODER_OF[one.task]}.codec: a codec's folder"
                )
        if self.data.pack and any(writer.diagonal_slope for writer in writers.values()):
            raise ValueError("a decoder with diagonal_slope needs one sequence per row; leave data.pack out")
        if self.data.pack and self.model.mode == "prefix":
            raise ValueError("data.pack needs mode = 'memory'; packed sequences cannot each have a prefix")
        return self


@dataclass(frozen=True)
class NextId:
    """Cross-entropy of the next id.

    Attributes:
        smoothing: Label smoothing.
    """

    smoothing: float = 0.0

    def __call__(self, model: MultimodalLM, outputs: DecoderOutput, batch: DecoderBatch) -> Objective:
        """Compute the mean loss of the target ids."""
        matrix = model.decoder(batch.decoder).model.output_matrix
        loss = next_id_loss(outputs.hidden, matrix, outputs.targets, smoothing=self.smoothing)
        return Objective(loss, {batch.task or batch.decoder: loss})

    def log_values(self, model: MultimodalLM) -> Mapping[str, float]:
        """Mean opening of the gates of cross-attention."""
        gates = [
            gate.detach().tanh().abs().mean()
            for name, gate in model.named_parameters()
            if "memory_gate" in name
        ]
        return {"gates": float(sum(float(gate) for gate in gates) / len(gates))} if gates else {}

    def bad_rows(self, outputs: DecoderOutput, batch: DecoderBatch) -> list[int]:
        """Rows with a hidden vector that is not finite."""
        wrong = ~outputs.hidden.detach().isfinite().all(dim=1)
        return sorted({int(row) for row in outputs.rows[wrong]})
