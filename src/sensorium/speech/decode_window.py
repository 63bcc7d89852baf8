"""What a recogniser writes for one window, and when it is not to be believed.

In: what was heard, and ids that were written before. Out: a draft: ids with times, and how sure they are. The
likeliest ids are taken first; where they repeat themselves (their text compresses too well) or are unlikely,
the window is written again with some chance, several times at each temperature, until a draft is good or the
temperatures are used up (arXiv:2212.04356, section 4.5). Knows no files and no time but the window's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from sensorium.core.config import Config
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Completion, Engine, Memory, Request, Sampling
from sensorium.generation.fastest import Precision, fastest_decoder
from sensorium.generation.timed_text import TimedIds, TimedText
from sensorium.models.pretrained.whisper import Whisper


class DictationConfig(Config):
    """How a window is written.

    Attributes:
        temperatures: Tried in this order; 0 takes the likeliest ids.
        num_samples: Drafts at each temperature above 0, of which the likeliest is taken.
        max_compression: A text that compresses better than this repeats itself.
        min_logprob: Mean log-probability below which a draft is not believed.
        max_no_speech: Odds of no speech above which an unlikely draft is taken for silence.
        seed: Of what is drawn.
    """

    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    num_samples: int = Field(default=5, ge=1)
    max_compression: float = 2.4
    min_logprob: float = -1.0
    max_no_speech: float = Field(default=0.6, ge=0, le=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Draft:
    """What was written for a window.

    Attributes:
        ids: Text and times.
        language: Its code.
        logprob: Mean log-probability of an id.
        no_speech: Odds that nobody speaks.
        compression: Bytes of the text over its bytes compressed.
        temperature: At which it was written.
        logprobs: Log-probability of each id.
    """

    ids: tuple[int, ...]
    language: str
    logprob: float
    no_speech: float
    compression: float
    temperature: float
    logprobs: tuple[float, ...] = ()


class Scribe:
    """Writes windows down, one after another.

    Args:
        whisper: The recogniser.
        config: How.
        progress: Told while machine code is compiled.
    """

    def __init__(self, whisper: Whisper, config: DictationConfig, progress: Progress = quiet) -> None:
        self._vocabulary, self._config = whisper.vocabulary, config
        self._most_ids = whisper.model.config.decoder.num_positions
        num_rows = config.num_samples if any(config.temperatures) else 1
        precision: Precision = "fp32" if whisper.precision == "fp32" else "bf16"
        self._engine = Engine(
            fastest_decoder(whisper.model.decoder, num_rows, self._most_ids, precision, progress=progress)
        )
        words = self._vocabulary
        self._timed = TimedIds(
            words.vocab_size,
            words.end,
            words.no_speech,
            words.no_times,
            words.first_time,
            words.suppressed,
            words.first_suppressed,
        )

    def write(self, memory: Memory, language: str = "", previous: Sequence[int] = ()) -> Draft:
        """Write a window.

        Args:
            memory: From `Recogniser.listen`.
            language: Its code; empty: the model tells.
            previous: Ids of what was said before, the last of which it is shown.

        Raises:
            UsageError: If the model does not know the language.
        """
        drafts: list[Draft] = []
        for temperature in self._config.temperatures:
            drafts.append(self._try(memory, language, previous, temperature))
            if self.is_silence(drafts[-1]) or self._is_good(drafts[-1]):
                return drafts[-1]
        varied = [draft for draft in drafts if draft.compression <= self._config.max_compression]
        return max(varied or drafts, key=lambda draft: draft.logprob)

    def is_silence(self, draft: Draft) -> bool:
        """Whether the window has no speech, whatever was written."""
        is_likely = draft.logprob > self._config.min_logprob
        return draft.no_speech > self._config.max_no_speech and not is_likely

    def _is_good(self, draft: Draft) -> bool:
        is_varied = draft.compression <= self._config.max_compression
        return is_varied and draft.logprob >= self._config.min_logprob

    def _try(self, memory: Memory, language: str, previous: Sequence[int], temperature: float) -> Draft:
        opening = self._vocabulary.opening(language)
        prompt = self._prompt(previous)
        room = self._most_ids - len(prompt)
        seeds = range(self._config.seed, self._config.seed + (self._config.num_samples if temperature else 1))
        rules = [TimedText(self._timed, opening) for _ in seeds]
        requests = [
            Request(
                prompt,
                Sampling(temperature=temperature, seed=seed),
                max_tokens=room,
                stop_ids=(self._vocabulary.end,),
                memory=memory,
                rule=rule,
            )
            for seed, rule in zip(seeds, rules, strict=True)
        ]
        written = self._engine.run(requests)
        drafts = [
            self._draft(one, rule, len(opening), temperature)
            for one, rule in zip(written, rules, strict=True)
        ]
        return max(drafts, key=lambda draft: draft.logprob)

    def _draft(self, written: Completion, rule: TimedText, num_marks: int, temperature: float) -> Draft:
        ids = tuple(written.ids[num_marks:])
        codes = {number: code for code, number in self._vocabulary.languages.items()}
        return Draft(
            ids=ids,
            language=codes[written.ids[0]] if num_marks else "en",
            logprob=rule.finish(ids, written.reason == "stop"),
            no_speech=rule.no_speech,
            compression=_compression(self._vocabulary.decode(ids).strip()),
            temperature=temperature,
            logprobs=tuple(written.logprobs[num_marks:]),
        )

    def _prompt(self, previous: Sequence[int]) -> list[int]:
        """The last of what was said, in half of the room, and the mark that begins a transcript."""
        shown = list(previous)[-(self._most_ids // 2 - 1) :]
        return [*([self._vocabulary.previous, *shown] if shown else []), self._vocabulary.start]


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))
