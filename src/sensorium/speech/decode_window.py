"""Decodes one window of Whisper, and falls back to sampling where the result is not to be trusted.

Input: an encoded window, and the ids of earlier text. Output: a `Hypothesis`, which holds ids of text and
times with their log-probabilities. Greedy decoding comes first. Its text is rejected if it compresses too
well (it repeats itself) or is unlikely. Then the window is sampled, several times at each temperature, until
a text is good or the temperatures are used up.

Reference: arXiv:2212.04356, section 4.5.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from sensorium.core.config import Config
from sensorium.core.runtime import Progress, quiet
from sensorium.generation import Completion, Engine, Memory, Precision, Request, Sampling, fastest_decoder
from sensorium.models.pretrained.whisper import Whisper
from sensorium.speech.timestamp_rules import TimestampRules


class DecodingConfig(Config):
    """How a window is decoded.

    Attributes:
        temperatures: Tried in this order; 0 is greedy.
        num_samples: Samples at each temperature above 0, of which the likeliest is taken.
        max_compression: Compression ratio above which a text repeats itself.
        min_logprob: Mean log-probability below which a text is rejected.
        max_no_speech: Probability of no speech above which an unlikely text is taken for silence.
        seed: Of the random stream.
    """

    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    num_samples: int = Field(default=5, ge=1)
    max_compression: float = 2.4
    min_logprob: float = -1.0
    max_no_speech: float = Field(default=0.6, ge=0, le=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Hypothesis:
    """The decoded text of a window.

    Attributes:
        ids: Text and time tokens.
        language: Its code.
        logprob: Mean log-probability of a token.
        no_speech: Probability that nobody speaks.
        compression: Bytes of the text over its bytes compressed.
        temperature: At which it was sampled.
        logprobs: Log-probability of each token.
    """

    ids: tuple[int, ...]
    language: str
    logprob: float
    no_speech: float
    compression: float
    temperature: float
    logprobs: tuple[float, ...] = ()


class WindowDecoder:
    """Decodes windows, one after another.

    Args:
        whisper: The model.
        config: How to decode.
        progress: Told while kernels are compiled.
    """

    def __init__(self, whisper: Whisper, config: DecodingConfig, progress: Progress = quiet) -> None:
        self._vocabulary, self._config = whisper.vocabulary, config
        self._most_ids = whisper.model.config.decoder.num_positions
        num_rows = config.num_samples if any(config.temperatures) else 1
        precision: Precision = "fp32" if whisper.precision == "fp32" else "bf16"
        self._engine = Engine(
            fastest_decoder(whisper.model.decoder, num_rows, self._most_ids, precision, progress=progress)
        )

    def decode(self, memory: Memory, language: str = "", previous: Sequence[int] = ()) -> Hypothesis:
        """Decode a window.

        Args:
            memory: From `Recogniser.listen`.
            language: Its code; empty: the model detects it.
            previous: Ids of earlier text, the last of which the decoder is given.

        Raises:
            UsageError: If the model does not know the language.
        """
        tried: list[Hypothesis] = []
        for temperature in self._config.temperatures:
            tried.append(self._decode_at(memory, language, previous, temperature))
            if self.is_silence(tried[-1]) or self._is_good(tried[-1]):
                return tried[-1]
        varied = [one for one in tried if one.compression <= self._config.max_compression]
        return max(varied or tried, key=lambda one: one.logprob)

    def is_silence(self, found: Hypothesis) -> bool:
        """Whether the window has no speech: no speech is probable and the text is unlikely."""
        is_likely = found.logprob > self._config.min_logprob
        return found.no_speech > self._config.max_no_speech and not is_likely

    def _is_good(self, found: Hypothesis) -> bool:
        is_varied = found.compression <= self._config.max_compression
        return is_varied and found.logprob >= self._config.min_logprob

    def _decode_at(
        self, memory: Memory, language: str, previous: Sequence[int], temperature: float
    ) -> Hypothesis:
        opening = self._vocabulary.opening(language)
        prompt = self._prompt(previous)
        room = self._most_ids - len(prompt)
        seeds = range(self._config.seed, self._config.seed + (self._config.num_samples if temperature else 1))
        rules = [TimestampRules(self._vocabulary, opening) for _ in seeds]
        requests = [
            Request(
                prompt,
                Sampling(temperature=temperature, seed=seed),
                max_tokens=room,
                stop_ids=(self._vocabulary.end,),
                memory=memory,
                logits_processor=rule,
            )
            for seed, rule in zip(seeds, rules, strict=True)
        ]
        completions = self._engine.run(requests)
        found = [
            self._hypothesis(one, rule, len(opening), temperature)
            for one, rule in zip(completions, rules, strict=True)
        ]
        return max(found, key=lambda one: one.logprob)

    def _hypothesis(
        self, completion: Completion, rules: TimestampRules, num_marks: int, temperature: float
    ) -> Hypothesis:
        ids = tuple(completion.ids[num_marks:])
        codes = {number: code for code, number in self._vocabulary.languages.items()}
        return Hypothesis(
            ids=ids,
            language=codes[completion.ids[0]] if num_marks else "en",
            logprob=rules.finish(ids, completion.reason == "stop"),
            no_speech=rules.no_speech,
            compression=_compression(self._vocabulary.decode(ids).strip()),
            temperature=temperature,
            logprobs=tuple(completion.logprobs[num_marks:]),
        )

    def _prompt(self, previous: Sequence[int]) -> list[int]:
        """The end of the earlier text, at most half of the context, and the start-of-transcript token."""
        shown = list(previous)[-(self._most_ids // 2 - 1) :]
        return [*([self._vocabulary.previous, *shown] if shown else []), self._vocabulary.start]


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))
