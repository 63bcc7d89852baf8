"""Extension `phrase_table`: puts a draft of the translation before each text that is to be translated.

The draft comes from a phrase table of the training texts. It comes first: so a decoder with a diagonal prior
(`pace`) reads along it. In training some drafts are made as if their own pair were not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from pydantic import Field
from torch import nn

from composed_world import PACKAGE
from composed_world.phrase_table import PhraseTable
from sensorium.core.config import Config, parse
from sensorium.core.runtime import Progress, quiet
from sensorium.encoders import Encoder
from sensorium.models.extensions import Options
from sensorium.models.prompts import parse_translation

if TYPE_CHECKING:  # training is not loaded where a model is only used
    from sensorium.training.generative.batches import Course
    from sensorium.training.generative.examples import Exercise
    from sensorium.training.generative.recipe import GenerativeRecipe, TaskConfig

NAME = "phrase_table"


class PhraseTableConfig(Config):
    """Phrase tables of a model.

    Attributes:
        package: That brings the extension.
        tables: By language that is translated into, in JSON; training fills it in.
    """

    package: str = PACKAGE
    tables: dict[str, str] = Field(default_factory=dict)


class DraftTranslations(nn.Module):
    """Drafts translations.

    Args:
        options: Of `PhraseTableConfig`.
        sources: Not looked at.

    Attributes:
        tables: By language that is translated into.
    """

    def __init__(self, options: Options, sources: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = parse(PhraseTableConfig, options, f"extensions.{NAME}")
        self.tables = {name: PhraseTable.from_json(text) for name, text in self.config.tables.items()}

    @staticmethod
    def check_recipe(options: Options, recipe: GenerativeRecipe) -> None:
        """Refuse drafts of other tasks, and of some translations only: a model drafts all or none."""
        parse(PhraseTableConfig, options, f"extensions.{NAME}")
        others = [one.task for one in recipe.data.tasks if NAME in one.extensions and one.task != "translate"]
        if others:
            raise ValueError(f"drafts are for texts to translate; leave {NAME} out of task '{others[0]}'")
        drafted = {NAME in one.extensions for one in recipe.data.tasks if one.task == "translate"}
        if drafted != {True}:
            raise ValueError(
                "not all tasks to translate have drafts; "
                f'set extensions = ["{NAME}"] in all of them, or leave [model.extensions.{NAME}] out'
            )

    @property
    def options(self) -> Options:
        """What builds it again."""
        return self.config.model_dump(mode="json")

    def transform(self, to: str, instruction: str) -> str:
        """An instruction to translate with its draft; any other as it is."""
        return drafted(instruction, self.tables)

    def example(self, exercise: Exercise, config: TaskConfig) -> Exercise:
        """An exercise with the draft of its translation.

        Three of four, told from the text, are drafted with their own pair known: so the model learns to copy
        what is right. From the others alone it had not learned that after 1,000 steps; from half and half it
        soon wrote German and Chinese of its own, worse than its drafts.
        """
        text, answer = exercise.instruction, exercise.answer
        if not isinstance(answer, str):
            return exercise
        is_known = crc32(f"{text}{answer}".encode()) % 4 > 0
        return replace(exercise, instruction=drafted(text, self.tables, "" if is_known else answer))

    def learn(self, courses: Sequence[Course], progress: Progress = quiet) -> None:
        """Learn the tables from the training texts of the tasks that name this extension."""
        pairs: dict[str, list[tuple[str, str]]] = {}
        for course in courses:
            for sample in course.read(course.train) if NAME in course.config.extensions else ():
                for one in course.exercises(sample):
                    if (found := parse_translation(one.instruction)) is not None:
                        pairs.setdefault(found[0], []).append((found[1], str(one.answer)))
        self.tables = {language: PhraseTable.learned(own) for language, own in sorted(pairs.items())}
        kept = {language: table.to_json() for language, table in self.tables.items()}
        self.config = self.config.model_copy(update={"tables": kept})


def drafted(instruction: str, tables: Mapping[str, PhraseTable], without: str = "") -> str:
    """An instruction to translate with the draft that a phrase table makes; any other as it is.

    Args:
        instruction: Of any task.
        tables: By language translated into.
        without: The translation to be learned: the draft is made as if it were not known (`PhraseTable`).

    Example:
        >>> known = {"fr": PhraseTable([("frog", "grenouille"), ("a frog", "une grenouille")])}
        >>> drafted("To fr: a frog", known), drafted("To fr: a frog", known, "une grenouille.")
        ('une grenouille | To fr: a frog', 'a grenouille | To fr: a frog')
    """
    found = parse_translation(instruction)
    if found is None or found[0] not in tables:
        return instruction
    language, text = found
    return f"{tables[language](text, without=without)} | To {language}: {text}"
