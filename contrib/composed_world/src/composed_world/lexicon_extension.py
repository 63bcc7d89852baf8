"""Extension `lexicon`: a model that transcribes or speaks works on phonemes; a lexicon gives the words.

Texts to speak are converted to phonemes before the model reads them. Transcripts are generated as phonemes,
and lexicon-constrained decoding converts them to words. The lexicon is learned from the training rows and a
list of words, which espeak-ng pronounces. English only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from composed_world.lexicon import Lexicon, LexiconConfig
from composed_world.lexicon_decoding import NUM_ALTERNATIVES, LexiconDecoder, LexiconTextDecoder
from composed_world.pronunciation import unbroken
from sensorium.core.config import parse
from sensorium.core.errors import ConfigError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections import espeak
from sensorium.data.collections.word_list import words
from sensorium.data.table.sample import is_asked
from sensorium.encoders import Encoder
from sensorium.generation.detokenizer import Decode
from sensorium.models.extensions import Options

if TYPE_CHECKING:  # training is not imported for inference
    from sensorium.training.generative.batches import TaskData
    from sensorium.training.generative.examples import Example
    from sensorium.training.generative.recipe import GenerativeRecipe, TaskConfig


class LexiconExtension(nn.Module):
    """Converts text to phonemes and back.

    Args:
        options: Of `LexiconConfig`.
        sources: Not used.

    Attributes:
        lexicon: Words and pronunciations.
        num_alternatives: Number of likeliest ids that decoding needs for each position.
    """

    num_alternatives = NUM_ALTERNATIVES

    def __init__(self, options: Options, sources: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = parse(LexiconConfig, options, "extensions.lexicon")
        self.lexicon = Lexicon.from_json(self.config.entries)

    @staticmethod
    def check_recipe(options: Options, recipe: GenerativeRecipe) -> None:
        """Refuse tasks without speech, and a vocabulary of more than letters."""
        from sensorium.training.generative.recipe import LETTERS

        parse(LexiconConfig, options, "extensions.lexicon")
        others = {one.task for one in recipe.data.tasks} - {"transcribe", "speak"}
        if others:
            raise ValueError(
                "[model.extensions.lexicon] is for transcribe and speak; "
                f"leave out task '{min(others)}', or it"
            )
        if recipe.data.vocab_size != LETTERS:
            raise ValueError(f"phonemes are generated letter by letter; set data.vocab_size = {LETTERS}")

    @property
    def options(self) -> Options:
        """Options that build an equal extension."""
        return self.config.model_dump(mode="json")

    def transform(self, to: str, instruction: str) -> str:
        """Convert a text to speak to phonemes; others are unchanged."""
        return self.lexicon.sounds(instruction) if to == "audio" else instruction

    def example(self, example: Example, config: TaskConfig) -> Example:
        """Replace a text to speak, or a transcript, by the phonemes of the row."""
        if config.task != "speak" and not isinstance(example.answer, str):
            return example
        if not example.sounds:
            raise ConfigError(
                f"{config.table} has no phonemes, which a lexicon is learned from; make the table "
                "with `sensorium data spoken`, or leave [model.extensions.lexicon] out"
            )
        sounds = unbroken(example.sounds)
        if config.task == "speak":
            return replace(example, instruction=sounds)
        return replace(example, answer=sounds)

    def text_decoder(self, decode: Decode) -> LexiconTextDecoder:
        """Build the lexicon-constrained decoder."""
        return LexiconTextDecoder(LexiconDecoder(self.lexicon, self.config.weight), self.lexicon, decode)

    def learn(self, tasks: Sequence[TaskData], progress: Progress = quiet) -> None:
        """Learn the lexicon from the training rows, unless the options have one."""
        if not self.config.entries:
            self.lexicon = learn_lexicon(tasks, progress)
            self.config = self.config.model_copy(update={"entries": self.lexicon.to_json()})


def learn_lexicon(tasks: Sequence[TaskData], progress: Progress = quiet) -> Lexicon:
    """Learn a lexicon from the training rows and a list of words, pronounced in the same voices.

    Raises:
        FetchError: If espeak-ng or the list cannot be fetched.
    """
    spoken: list[tuple[str, str]] = []
    varieties: set[str] = set()
    for data in tasks:
        for sample in data.read(data.train, text_only=True):
            texts = [one for one in sample.texts if is_asked(one.language, "text", data.config.languages)]
            spoken += [(one.text, str(sample.meta.get("sounds", ""))) for one in texts]
            varieties.add(str(sample.meta.get("voice", "en")).partition("+")[0])
    listed = [(variety, word) for word in words(progress) for variety in sorted(varieties)]
    alone = [
        (word, espeak.phonemes(word, variety))
        for variety, word in track(listed, len(listed), "pronouncing words", progress)
    ]
    is_heard = any(data.config.task == "transcribe" for data in tasks)
    return Lexicon.learned(spoken, alone, is_ordered=is_heard)
