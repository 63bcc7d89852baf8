"""Extension `phrase_table`: puts a draft translation before each text to translate.

The draft comes from a phrase table of the training texts. It stands first, so that a decoder with a diagonal
prior (`pace`) follows it. In training, some drafts are made without their own pair.
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

if TYPE_CHECKING:  # training is not imported for inference
    from sensorium.training.generative.batches import TaskData
    from sensorium.training.generative.examples import Example
    from sensorium.training.generative.recipe import GenerativeRecipe, TaskConfig

NAME = "phrase_table"


class PhraseTableConfig(Config):
    """Options of the extension.

    Attributes:
        package: Distribution that provides the extension.
        tables: Phrase tables by target language, in JSON; set by training.
    """

    package: str = PACKAGE
    tables: dict[str, str] = Field(default_factory=dict)


class DraftTranslations(nn.Module):
    """Adds draft translations to instructions.

    Args:
        options: Of `PhraseTableConfig`.
        sources: Not used.

    Attributes:
        tables: Phrase tables by target language.
    """

    def __init__(self, options: Options, sources: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = parse(PhraseTableConfig, options, f"extensions.{NAME}")
        self.tables = {name: PhraseTable.from_json(text) for name, text in self.config.tables.items()}

    @staticmethod
    def check_recipe(options: Options, recipe: GenerativeRecipe) -> None:
        """Refuse drafts for other tasks, or for only some of the translation tasks."""
        parse(PhraseTableConfig, options, f"extensions.{NAME}")
        others = [one.task for one in recipe.data.tasks if NAME in one.extensions and one.task != "translate"]
        if others:
            raise ValueError(f"drafts are for translation tasks; leave {NAME} out of task '{others[0]}'")
        drafted = {NAME in one.extensions for one in recipe.data.tasks if one.task == "translate"}
        if drafted != {True}:
            raise ValueError(
                "not all translation tasks have drafts; "
                f'set extensions = ["{NAME}"] in all of them, or leave [model.extensions.{NAME}] out'
            )

    @property
    def options(self) -> Options:
        """Options that build an equal extension."""
        return self.config.model_dump(mode="json")

    def transform(self, to: str, instruction: str) -> str:
        """Add a draft to an instruction to translate; others are unchanged."""
        return drafted(instruction, self.tables)

    def example(self, example: Example, config: TaskConfig) -> Example:
        """Add a draft to a training example.

        Three of four drafts, chosen by a hash of the text, use the example's own pair, so that the model
        learns to copy correct drafts. Without them it had not learned to copy after 1,000 steps. With one
        half of them its own German and Chinese were worse than the drafts.
        """
        text, answer = example.instruction, example.answer
        if not isinstance(answer, str):
            return example
        is_known = crc32(f"{text}{answer}".encode()) % 4 > 0
        return replace(example, instruction=drafted(text, self.tables, "" if is_known else answer))

    def learn(self, tasks: Sequence[TaskData], progress: Progress = quiet) -> None:
        """Build the tables from the training texts of the tasks that name this extension."""
        pairs: dict[str, list[tuple[str, str]]] = {}
        for data in tasks:
            for sample in data.read(data.train) if NAME in data.config.extensions else ():
                for one in data.examples(sample):
                    if (found := parse_translation(one.instruction)) is not None:
                        pairs.setdefault(found[0], []).append((found[1], str(one.answer)))
        self.tables = {language: PhraseTable.learned(own) for language, own in sorted(pairs.items())}
        kept = {language: table.to_json() for language, table in self.tables.items()}
        self.config = self.config.model_copy(update={"tables": kept})


def drafted(instruction: str, tables: Mapping[str, PhraseTable], without: str = "") -> str:
    """Add a phrase table's draft to an instruction to translate; others are unchanged.

    Args:
        instruction: Of any task.
        tables: Phrase tables by target language.
        without: A translation that the draft must not use; see `PhraseTable`.

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
