"""BLEU and chrF of translations, by sacrebleu.

In: translations and references. Out: corpus scores, 0..100, with 95 % intervals by sacrebleu's own bootstrap,
and the signatures that make them comparable (Post, arXiv:1804.08771). Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core.errors import UsageError
from sensorium.core.runtime import require
from sensorium.evals.bootstrap import Interval

_TOKENISERS = {"zh": "zh", "ja": "char", "th": "char"}
"""sacrebleu's tokenisers of languages without spaces; others get its default, 13a."""


@dataclass(frozen=True)
class Translation:
    """What was measured.

    Attributes:
        chrf: chrF2.
        bleu: BLEU-4; of short texts chrF says more.
        signatures: sacrebleu's, by measure.
        num_texts: Texts measured.
    """

    chrf: Interval
    bleu: Interval
    signatures: dict[str, str]
    num_texts: int


def evaluate_translations(
    predicted: Sequence[str], references: Sequence[str], *, language: str, num_resamples: int = 1000
) -> Translation:
    """Measure translations into one language.

    Args:
        predicted: Translations.
        references: One for each.
        language: Into which; it decides how BLEU finds words.
        num_resamples: Of the bootstrap, >= 2.

    Raises:
        UsageError: If there are not equally many, or none.
        MissingExtraError: If sacrebleu is not installed.
    """
    if len(predicted) != len(references) or not predicted:
        raise UsageError(
            f"{len(predicted)} translations for {len(references)} references; expected one each, at least one"
        )
    sacrebleu = require("sacrebleu", "evals")
    tokeniser = _TOKENISERS.get(language.split("-")[0], "13a")
    measures = {
        "chrf": sacrebleu.CHRF(),
        "bleu": sacrebleu.BLEU(tokenize=tokeniser, effective_order=False, force=True),
    }
    for measure in measures.values():
        _let_scores_be_of_one_type(measure)
    scores = {
        name: measure.corpus_score(list(predicted), [list(references)], n_bootstrap=num_resamples)
        for name, measure in measures.items()
    }
    signatures = {name: str(measure.get_signature()) for name, measure in measures.items()}
    return Translation(_interval(scores["chrf"]), _interval(scores["bleu"]), signatures, len(predicted))


def _let_scores_be_of_one_type(measure: Any) -> None:
    """Resamples without a match score 0 as a float, the others as float32; sacrebleu cannot average both."""
    compute = measure._compute_score_from_stats

    def compute_plain(stats: Any) -> Any:
        score = compute(stats)
        score.score = float(score.score)
        return score

    measure._compute_score_from_stats = compute_plain


def _interval(score: Any) -> Interval:
    """The score, and 95 % of its bootstrap around it."""
    return Interval(float(score.score), float(score._mean - score._ci), float(score._mean + score._ci))
