"""Word and character error rates (WER, CER) of transcripts, by jiwer.

Input: transcripts and references. Output: error rates over all words with intervals, and counts of errors by
kind. `normalise_transcript` is applied to both sides: NFKC, lower case, hyphens and slashes as spaces, no
other punctuation, integers and decimals as English words ("1,250.5" -> "one thousand two hundred fifty point
five"). Abbreviations and contractions are not expanded, unlike in Whisper's normaliser; error rates by other
normalisers (Whisper's, NIST's) differ by a few tenths of a percent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import UsageError
from sensorium.core.numbers import spell_numbers
from sensorium.core.runtime import require
from sensorium.evals.bootstrap import Interval, bootstrap_interval


@dataclass(frozen=True)
class Transcription:
    """Result of `evaluate_transcripts`, over all utterances.

    Attributes:
        wer: Word error rate: (substitutions + deletions + insertions) / words of the reference; may exceed 1.
        cer: Character error rate, spaces included.
        substitutions: Number of words.
        deletions: Number of words.
        insertions: Number of words.
        num_words: Words of the references.
        num_utterances: Number of transcripts.
    """

    wer: Interval
    cer: Interval
    substitutions: int
    deletions: int
    insertions: int
    num_words: int
    num_utterances: int


def evaluate_transcripts(
    predicted: Sequence[str],
    expected: Sequence[str],
    *,
    groups: Int64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Transcription:
    """Compute error rates of transcripts.

    Args:
        predicted: Transcripts.
        expected: References, each of at least one word after normalisation.
        groups: Group (speaker, text) of each utterance; see `bootstrap_interval`.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If the lengths differ, or a reference has no word.
        MissingExtraError: If jiwer is not installed.
    """
    if len(predicted) != len(expected) or not expected:
        raise UsageError(
            f"{len(predicted)} transcripts of {len(expected)} utterances; expected one each, at least one"
        )
    hypotheses, references = (
        [normalise_transcript(text) for text in texts] for texts in (predicted, expected)
    )
    if "" in references:
        place = references.index("")
        raise UsageError(f"utterance {place} ('{expected[place]}') has no word; leave it out")
    jiwer = require("jiwer", "evals")
    words, characters = (
        jiwer.process_words(references, hypotheses),
        jiwer.process_characters(references, hypotheses),
    )
    units = np.arange(len(references)) if groups is None else groups
    return Transcription(
        wer=_rate(_errors(words.alignments), [len(text.split()) for text in references], units, seed),
        cer=_rate(_errors(characters.alignments), [len(text) for text in references], units, seed),
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        num_words=sum(len(text.split()) for text in references),
        num_utterances=len(references),
    )


def normalise_transcript(text: str) -> str:
    """Normalise a transcript for comparison.

    Example:
        >>> normalise_transcript("It’s 1,250.5 well-known  FROGS!")
        'its one thousand two hundred fifty point five well known frogs'
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    parted = re.sub(r"[-‐-―/_]", " ", spell_numbers(folded))
    kept = "".join(char for char in parted if char.isspace() or unicodedata.category(char)[0] in "LMN")
    return " ".join(kept.split())


def _errors(alignments: Sequence[Sequence[object]]) -> list[int]:
    """Number of edits of each utterance."""
    return [sum(_num_edits(chunk) for chunk in chunks) for chunks in alignments]


def _num_edits(chunk: object) -> int:
    """Number of words (or characters) substituted, inserted or deleted in one chunk of an alignment."""
    if getattr(chunk, "type", "equal") == "equal":
        return 0
    spans = (
        int(getattr(chunk, f"{side}_end_idx")) - int(getattr(chunk, f"{side}_start_idx"))
        for side in ("ref", "hyp")
    )
    return max(spans)


def _rate(
    errors: Sequence[int], lengths: Sequence[int], units: Int64[np.ndarray, " n"], seed: int
) -> Interval:
    """Sum of errors over sum of lengths, as a mean over words, each with the error rate of its utterance."""
    counts = np.asarray(lengths)
    values = np.repeat(np.asarray(errors, dtype=np.float64) / counts, counts)
    return bootstrap_interval(values, groups=np.repeat(units, counts), seed=seed)
