"""Extension `lexicon`: a model that transcribes or speaks works on phonemes; a lexicon gives the words.

Texts to be spoken are turned into phonemes before the model reads them. Transcripts are learned as phonemes,
and lexicon-constrained decoding finds their words. The lexicon is learned from the training rows and a list
of words, which espeak-ng pronounces. English only.
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
from sensorium.generation.text import Decode
from sensorium.models.extensions import Options

if TYPE_CHECKING:  # training is not loaded where a model is only used
    from sensorium.training.generative.batches import Course
    from sensorium.training.generative.examples import Exercise
    from sensorium.training.generative.recipe import GenerativeRecipe, TaskConfig


class LexiconExtension(nn.Module):
    """Reads and writes phonemes.

    Args:
        options: Of `LexiconConfig`.
        sources: Not looked at.

    Attributes:
        lexicon: Words and their phonemes.
        num_alternatives: Other ids that decoding needs at each place.
    """

    num_alternatives = NUM_ALTERNATIVES

    def __init__(self, options: Options, sources: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = parse(LexiconConfig, options, "extensions.lexicon")
        self.lexicon = Lexicon.from_json(self.config.entries)

    @staticmethod
    def check_recipe(options: Options, recipe: GenerativeRecipe) -> None:
        """Refuse tasks without speech, and word pieces longer than a letter."""
        from sensorium.training.generative.recipe import LETTERS

        parse(LexiconConfig, options, "extensions.lexicon")
        others = {one.task for one in recipe.data.tasks} - {"transcribe", "speak"}
        if others:
            raise ValueError(
                "[model.extensions.lexicon] is for transcribe and speak; "
                f"leave out task '{min(others)}', or it"
            )
        if recipe.data.vocab_size != LETTERS:
            raise ValueError(f"sounds are written letter by letter; set data.vocab_size = {LETTERS}")

    @property
    def options(self) -> Options:
        """What builds it again."""
        return self.config.model_dump(mode="json")

    def transform(self, to: str, instruction: str) -> str:
        """A text to be spoken in phonemes; any other as it is."""
        return self.lexicon.sounds(instruction) if to == "audio" else instruction

    def example(self, exercise: Exercise, config: TaskConfig) -> Exercise:
        """A text to be spoken, or a transcript, in the phonemes that the row holds."""
        if config.task != "speak" and not isinstance(exercise.answer, str):
            return exercise
        if not exercise.sounds:
            raise ConfigError(
                f"{config.table} has no sounds, which a model with a lexicon learns from; make the table "
                "with `sensorium data spoken`, or leave [model.extensions.lexicon] out"
            )
        sounds = unbroken(exercise.sounds)
        if config.task == "speak":
            return replace(exercise, instruction=sounds)
        return replace(exercise, answer=sounds)

    def text_decoder(self, decode: Decode) -> LexiconTextDecoder:
        """Lexicon-constrained decoding of what was written."""
        return LexiconTextDecoder(LexiconDecoder(self.lexicon, self.config.weight), self.lexicon, decode)

    def learn(self, courses: Sequence[Course], progress: Progress = quiet) -> None:
        """Learn the lexicon of the training rows, unless the options bring one."""
        if not self.config.entries:
            self.lexicon = learn_lexicon(courses, progress)
            self.config = self.config.model_copy(update={"entries": self.lexicon.to_json()})


def learn_lexicon(courses: Sequence[Course], progress: Progress = quiet) -> Lexicon:
    """Words and phonemes of what the training rows say, and those of a list of words, in the same voices.

    Raises:
        FetchError: If espeak-ng or the list is not to be had.
    """
    spoken: list[tuple[str, str]] = []
    varieties: set[str] = set()
    for course in courses:
        for sample in course.read(course.train, words_only=True):
            texts = [one for one in sample.texts if is_asked(one.language, "text", course.config.languages)]
            spoken += [(one.text, str(sample.meta.get("sounds", ""))) for one in texts]
            varieties.add(str(sample.meta.get("voice", "en")).partition("+")[0])
    listed = [(variety, word) for word in words(progress) for variety in sorted(varieties)]
    alone = [
        (word, espeak.phonemes(word, variety))
        for variety, word in track(listed, len(listed), "pronouncing words", progress)
    ]
    is_heard = any(course.config.task == "transcribe" for course in courses)
    return Lexicon.learned(spoken, alone, is_ordered=is_heard)
