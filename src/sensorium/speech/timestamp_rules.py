"""Whisper's timestamp rules as a logits processor, and the probabilities by which a transcript is judged.

A transcript is `<|0.00|> text <|2.40|><|2.40|> text ...`. It begins with task tokens and a time. Times come
in pairs, except for the last, and never decrease. If all time tokens together are likelier than any text
token, a time follows. Ids that break these rules are masked.

Reference: `ApplyTimestampRules` of Whisper's code.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.models.pretrained.whisper_vocabulary import WhisperVocabulary


class TimestampRules:
    """The logits processor of one transcript.

    Args:
        vocabulary: Ids of text, times and task tokens.
        opening: Task tokens that come first, in order; each may be one of several ids.
        most_first: Largest first time, in steps of the time tokens.

    Attributes:
        no_speech: Probability of no speech; set by the first step.
    """

    def __init__(
        self, vocabulary: WhisperVocabulary, opening: Sequence[Collection[int]] = (), most_first: int = 50
    ) -> None:
        self._ids, self._opening, self._most_first = vocabulary, opening, most_first
        self._is_timed = all(vocabulary.no_times not in ids for ids in opening)
        self._mask = torch.zeros(vocabulary.vocab_size)
        self._mask[[*vocabulary.suppressed, vocabulary.no_times]] = -torch.inf
        self._logprobs: list[float] = []
        self._last: Tensor | None = None
        self.no_speech = 0.0

    def __call__(self, scores: Float[Tensor, " V"], generated: Sequence[int]) -> Float[Tensor, " V"]:
        """Mask the ids that may not follow."""
        scores = scores.float()
        if not generated:
            self.no_speech = float((scores[self._ids.no_speech] - scores.logsumexp(0)).exp())
        if len(generated) < len(self._opening):
            places = torch.tensor(sorted(self._opening[len(generated)]), device=scores.device)
            return torch.full_like(scores, -torch.inf).index_copy(0, places, scores[places])
        text = generated[len(self._opening) :]
        self._add_logprobs(text[-1:])
        allowed = scores + self._mask.to(scores.device)
        if not text:
            allowed[list(self._ids.first_suppressed)] = -torch.inf
        if self._is_timed:
            self._mask_times(allowed, text)
        self._last = allowed
        return allowed

    def finish(self, text: Sequence[int], is_ended: bool) -> float:
        """Return the mean log-probability of the ids of a finished transcript, with its end token.

        Args:
            text: Generated ids, without the opening.
            is_ended: Whether it ended by the end token, not by its length.
        """
        self._add_logprobs([self._ids.end] if is_ended else text[-1:])
        return sum(self._logprobs) / (len(text) + 1)

    def _add_logprobs(self, chosen: Sequence[int]) -> None:
        """Keep the log-probability of the chosen id among the ids that were allowed."""
        if self._last is not None:
            self._logprobs += [float(self._last[one] - self._last.logsumexp(0)) for one in chosen]

    def _mask_times(self, scores: Float[Tensor, " V"], text: Sequence[int]) -> None:
        first_time = self._ids.first_time
        if not text:
            scores[:first_time] = -torch.inf
            scores[first_time + self._most_first + 1 :] = -torch.inf
            return
        is_time = [one >= first_time for one in text[-2:]]
        if is_time[-1]:
            if is_time[0]:  # a pair, or the very first time
                scores[first_time:] = -torch.inf
            else:
                scores[: self._ids.end] = -torch.inf
        times = [one for one in text if one >= first_time]
        # Only the second time of a pair may equal the time before it.
        is_second = is_time[-1] and not is_time[0]
        scores[first_time : times[-1] + (0 if is_second else 1)] = -torch.inf
        if scores[first_time:].logsumexp(0) > scores[:first_time].max():
            scores[:first_time] = -torch.inf
