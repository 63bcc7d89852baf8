"""Word and character error rates of transcripts, by jiwer after one normaliser.

In: transcripts and what was said. Out: error rates over all words with intervals, and the kinds of errors.
`normalise_transcript` is the one normaliser, for both sides: compatibility forms (NFKC), lower case, hyphens
and slashes as spaces, apostrophes and other punctuation dropped, whole and decimal numbers as English words
("1,250.5" -> "one thousand two hundred fifty point five"). It does not expand abbreviations or contractions:
"Dr" is not "doctor". Figures by other normalisers (Whisper's, NIST's) differ by a few tenths. Knows no model.
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
    """What was measured, over all utterances together.

    Attributes:
        wer: Word error rate: (substitutions + deletions + insertions) / words said; may exceed 1.
        cer: The same of characters, spaces among them.
        substitutions: Words.
        deletions: Words.
        insertions: Words.
        num_words: Words said.
        num_utterances: Transcripts.
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
    """Measure transcripts.

    Args:
        predicted: What was heard.
        expected: What was said, at least one word each after normalising.
        groups: Utterances of one number (a speaker, a text) are drawn together by the bootstrap.
        seed: Of the bootstrap.

    Raises:
        UsageError: If there are not equally many, or nothing was said in one.
        MissingExtraError: If jiwer is not installed.
    """
    if len(predicted) != len(expected) or not expected:
        raise UsageError(
            f"{len(predicted)} transcripts of {len(expected)} utterances; expected one each, at least one"
        )
    heard, said = ([normalise_transcript(text) for text in texts] for texts in (predicted, expected))
    if not all(said):
        place = said.index("")
        raise UsageError(f"utterance {place} ('{expected[place]}') has no word; leave it out")
    jiwer = require("jiwer", "evals")
    words, characters = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
    units = np.arange(len(said)) if groups is None else groups
    return Transcription(
        wer=_rate(_errors(words.alignments), [len(text.split()) for text in said], units, seed),
        cer=_rate(_errors(characters.alignments), [len(text) for text in said], units, seed),
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        num_words=sum(len(text.split()) for text in said),
        num_utterances=len(said),
    )


def normalise_transcript(text: str) -> str:
    """The form in which transcripts are compared.

    Example:
        >>> normalise_transcript("It’s 1,250.5 well-known  FROGS!")
        'its one thousand two hundred fifty point five well known frogs'
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    parted = re.sub(r"[-‐-―/_]", " ", spell_numbers(folded))
    kept = "".join(char for char in parted if char.isspace() or unicodedata.category(char)[0] in "LMN")
    return " ".join(kept.split())


def _errors(alignments: Sequence[Sequence[object]]) -> list[int]:
    """Edits of each utterance."""
    return [sum(_num_edits(chunk) for chunk in chunks) for chunks in alignments]


def _num_edits(chunk: object) -> int:
    """Edits of a stretch of an alignment: a substitution, insertion or deletion of so many words."""
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
    """Sum of errors over sum of lengths: the mean over words of the errors that each stands for."""
    counts = np.asarray(lengths)
    values = np.repeat(np.asarray(errors, dtype=np.float64) / counts, counts)
    return bootstrap_interval(values, groups=np.repeat(units, counts), seed=seed)
