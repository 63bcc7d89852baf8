"""Train a multimodal language model from a recipe: tables in, a run's folder with a measured model out.

Composes `training` with `evals`, as `tasks.train` does for joint embeddings; the loop is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sensorium import __version__
from sensorium.codecs import Codec, train_bpe
from sensorium.core.config import to_toml
from sensorium.core.errors import CheckpointError, ConfigError, TrainingError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.data.questions import questions_of
from sensorium.data.sample import is_asked
from sensorium.data.split import split
from sensorium.data.vectors import Ragged
from sensorium.models.checkpoint import load
from sensorium.models.glossary import Glossary
from sensorium.models.grounder import Grounder
from sensorium.models.handover import from_grounder
from sensorium.models.instructions import WRITER_OF, instruction, to_translate
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.tasks.measure_generative import evaluate
from sensorium.training.corpus import open_table
from sensorium.training.exercises import media_of, rows_for
from sensorium.training.generative import GenerativeRecipe, NextId, TaskConfig
from sensorium.training.lessons import Course, Lessons, Teacher
from sensorium.training.loop import Evaluation, Job, Outcome, fit
from sensorium.training.recipe import HeldOut
from sensorium.training.shelves import cached_codes, cached_tokens
from sensorium.training.state import STATE

_ROWS_FOR_WORDS = 4000
"""Rows of each task whose texts the word pieces are learned from."""


def train_generative(
    recipe: GenerativeRecipe, folder: Path, *, resume: bool = False, progress: Progress = quiet
) -> tuple[Outcome, int]:
    """Train a multimodal language model.

    Returns:
        How the run ended, and how many rows could not be used.

    Raises:
        ConfigError: If a table does not hold what its task needs.
        TrainingError: If nothing trains or nothing is held out.
    """
    courses = [open_course(one, recipe.seed, progress) for one in recipe.data.tasks]
    codecs = open_codecs(recipe.model)
    model, brought = build_multimodal(recipe, courses, codecs)
    teacher = Teacher(model, recipe.data.pack)
    courses = [fill_shelves(one, model, codecs, teacher.failures, progress) for one in courses]
    if not (folder / STATE).exists():
        write_atomic(folder / "recipe.toml", to_toml(recipe.model_dump(mode="json", exclude_none=True)))
    tables = {f"{n}.{one.config.table}": _digest(one) for n, one in enumerate(courses)}
    job = Job(
        model=model,
        batches=Lessons(courses, teacher, batch_size=recipe.train.batch_size, seed=recipe.seed),
        loss=NextId(recipe.smoothing),
        train=recipe.train,
        seed=recipe.seed,
        folder=folder,
        identity={**recipe.model_dump(mode="json"), "tables": tables},
        evaluate=lambda trained: evaluate(
            trained, courses, recipe.data.max_measured, recipe.data.max_written
        ),
        card=lambda found, step: card(recipe, model, courses, found, step),
        progress=progress,
        brought=brought,
    )
    outcome = fit(job, resume=resume)
    if teacher.failures:
        lines = ({"row": row, "stage": "train", "reason": why} for row, why in teacher.failures.items())
        write_atomic(
            folder / "errors.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
        )
    return outcome, len(teacher.failures)


def open_course(config: TaskConfig, seed: int, progress: Progress = quiet) -> Course:
    """Open a task's table and divide its rows.

    Raises:
        ConfigError: If the table does not hold what the task needs, or a source to hold out does not occur.
        TrainingError: If nothing trains, or nothing is held out.
    """
    table = open_table(config.table, progress)
    if isinstance(config.test, HeldOut):
        sources = np.array(table.column("source"))
        unknown = set(config.test.sources) - set(sources.tolist())
        if unknown:
            known = ", ".join(sorted(set(sources.tolist())))
            raise ConfigError(f"data.test.source: no row has source '{min(unknown)}'; known: {known}")
        train = np.flatnonzero(~np.isin(sources, config.test.sources))
        test = {name: np.flatnonzero(sources == name) for name in config.test.sources}
    else:
        parts = split(table.groups, test=config.test, seed=seed)
        train, test = parts["train"], {"held out": parts["test"]}
    useful = rows_for(config.task, table)
    held_out = {name: np.intersect1d(rows, useful) for name, rows in test.items()}
    kept = Course(config, table, np.intersect1d(train, useful), held_out)
    if len(kept.train) == 0 or not all(len(rows) for rows in kept.test.values()):
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in kept.test.items())
        raise TrainingError(
            f"task '{config.task}' over {config.table}: {len(kept.train)} rows train, held out: {counts}; "
            "each needs some"
        )
    kept.check_types()
    return kept


def open_codecs(config: MultimodalLMConfig) -> dict[str, Codec[Any]]:
    """The codecs that writers of images and sound name, by kind of output.

    Raises:
        NotFoundError: If one is not there; `sensorium train codec-image` makes it.
        CheckpointError: If it is no codec of that kind.
    """
    found: dict[str, Codec[Any]] = {}
    for name, writer in config.decoders.items():
        if writer.codec:
            codec = load(Path(writer.codec).expanduser())
            if not isinstance(codec, Codec) or codec.modality != name:
                raise CheckpointError(f"{writer.codec} holds no codec of {name}; train one: codec-{name}")
            found[name] = codec
    return found


def fill_shelves(
    course: Course,
    model: MultimodalLM,
    codecs: Mapping[str, Codec[Any]],
    failures: dict[str, str],
    progress: Progress = quiet,
) -> Course:
    """Compute what frozen encoders and codecs give for the rows of a course, or read it where it is known."""
    config, table = course.config, course.table
    tokens: dict[str, Ragged] = {}
    codes: Ragged | None = None
    failed: list[tuple[int, str]] = []
    field_of = {"audio": "speech"} if config.task == "transcribe" else {}
    for name, source in model.config.sources.items():
        field = field_of.get(name, name)
        if source.frozen and field in table.fields and name in media_of(config.task):
            tokens[name], missed = cached_tokens(
                table, field, model.source(name), source.encoder, config.languages, progress
            )
            failed += missed
    if config.task in ("draw", "speak"):
        field, codec = "image" if config.task == "draw" else "speech", codecs[WRITER_OF[config.task]]
        codes, missed = cached_codes(table, field, codec, config.languages, progress)
        failed += missed
    failures |= {f"{config.table} {row}": reason for row, reason in failed}
    return replace(course, tokens=tokens, codes=codes)


def build_multimodal(
    recipe: GenerativeRecipe, courses: Sequence[Course], codecs: Mapping[str, Codec[Any]] | None = None
) -> tuple[MultimodalLM, set[str]]:
    """Build the recipe's model as it starts; word pieces that it lacks are learned from training texts.

    Returns:
        The model, and the names of what it took over from the run that the recipe starts from.
    """
    first = open_first(recipe.start) if recipe.start else None
    config = with_word_pieces(recipe.model, courses, recipe.data.vocab_size, first)
    config = config.model_copy(update={"glossaries": glossaries(courses)})
    for name, codec in ({} if codecs is None else codecs).items():
        known = {"num_codes": codec.vocab_size, "num_places": _num_places(codec)}
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


def glossaries(courses: Sequence[Course]) -> dict[str, str]:
    """Glossaries of the training texts of the courses that ask for drafts, by language, in JSON."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for course in courses:
        for sample in course.read(course.train) if course.config.drafts else ():
            for one in course.exercises(sample):
                if (found := to_translate(one.instruction)) is not None:
                    pairs.setdefault(found[0], []).append((found[1], str(one.answer)))
    return {language: Glossary.learned(own).to_json() for language, own in sorted(pairs.items())}


@dataclass(frozen=True)
class First:
    """What a run takes over from another.

    Attributes:
        tensors: Under the names of a multimodal model.
        tokenizer_json: Its word pieces; "" if it has none of its own.
    """

    tensors: Mapping[str, Tensor]
    tokenizer_json: str


def open_first(folder: str) -> First:
    """Open the run to start from: a multimodal model, or a grounder.

    Raises:
        CheckpointError: If it is of another kind.
    """
    model = load(Path(folder).expanduser())
    if isinstance(model, Grounder):
        return First(from_grounder(model), str(model.config.text.options.get("tokenizer_json", "")))
    if not isinstance(model, MultimodalLM):
        kind = type(model).__name__
        raise CheckpointError(f"{folder} holds a {kind}; start from a multimodal model or a grounder")
    encoder, writer = model.config.sources.get("text"), model.config.decoders.get("text")
    found = "" if encoder is None else str(encoder.options.get("tokenizer_json", ""))
    return First(model.state_dict(), found or ("" if writer is None else writer.tokenizer_json))


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


def _digest(course: Course) -> str:
    return hashlib.sha256("".join(course.table.ids).encode()).hexdigest()[:16]


def card(
    recipe: GenerativeRecipe,
    model: MultimodalLM,
    courses: Sequence[Course],
    found: Evaluation | None,
    step: int,
) -> str:
    """The card of a trained model, in Markdown."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    ways = f"{', '.join(model.sources)} in; {', '.join(model.decoders)} out"
    parts = [f"# Multimodal language model: {ways}", ""]
    parts += [
        f"Made by sensorium {__version__}, {datetime.now(UTC):%Y-%m-%d}; {trained:,} numbers trained.",
        "",
        "## Data",
        "",
    ]
    for one in courses:
        licence = one.table.info.get("licence") or "licence not recorded"
        held_out = ", ".join(f"{name} ({len(rows):,})" for name, rows in one.test.items())
        parts.append(
            f"- {one.config.task} over {one.config.table}: {len(one.train):,} rows trained ({licence}); "
            f"held out: {held_out}."
        )
    parts += ["", "## Recipe", "", "```toml"]
    parts += [to_toml(recipe.model_dump(mode="json", exclude_none=True)).strip(), "```", ""]
    parts += [f"## Figures on at most {recipe.data.max_measured} rows of each, step {step}", ""]
    for name, figures in ({} if found is None else found.metrics).items():
        shown = ", ".join(
            f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in figures.items()
        )
        parts.append(f"- {name}: {shown}.")
    parts += [
        "",
        "## Limits",
        "",
        "- It knows the words, the pictures and the sounds of its tables, and no others.",
        "",
    ]
    return "\n".join(parts)
