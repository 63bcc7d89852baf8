"""BLEU and chrF of translations, by sacrebleu.

Input: translations and references. Output: corpus scores, 0..100, with 95 % intervals of sacrebleu's
bootstrap, and sacrebleu's signatures, which make scores comparable (Post, arXiv:1804.08771).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core.errors import UsageError
from sensorium.core.runtime import require
from sensorium.evals.bootstrap import Interval

_TOKENISERS = {"zh": "zh", "ja": "char", "th": "char"}
"""sacrebleu's tokenisers of languages without spaces; other languages use its default, 13a."""


@dataclass(frozen=True)
class Translation:
    """Result of `evaluate_translations`.

    Attributes:
        chrf: chrF2; more reliable than BLEU for short texts.
        bleu: BLEU-4.
        signatures: sacrebleu's signature of each metric.
        num_texts: Number of texts.
    """

    chrf: Interval
    bleu: Interval
    signatures: dict[str, str]
    num_texts: int


def evaluate_translations(
    predicted: Sequence[str], references: Sequence[str], *, language: str, num_resamples: int = 1000
) -> Translation:
    """Score translations into one language.

    Args:
        predicted: Translations.
        references: One for each.
        language: Target language; selects the tokeniser of BLEU.
        num_resamples: Bootstrap samples, >= 2.

    Raises:
        UsageError: If the lengths differ, or there are none.
        MissingExtraError: If sacrebleu is not installed.
    """
    if len(predicted) != len(references) or not predicted:
        raise UsageError(
            f"{len(predicted)} translations for {len(references)} references; expected one each, at least one"
        )
    sacrebleu = require("sacrebleu", "evals")
    tokeniser = _TOKENISERS.get(language.split("-")[0], "13a")
    metrics = {
        "chrf": sacrebleu.CHRF(),
        "bleu": sacrebleu.BLEU(tokenize=tokeniser, effective_order=False, force=True),
    }
    intervals = {}
    for name, metric in metrics.items():
        _convert_scores_to_float(metric)
        score = metric.corpus_score(list(predicted), [list(references)], n_bootstrap=num_resamples)
        low, high = score._mean - score._ci, score._mean + score._ci
        intervals[name] = Interval(float(score.score), float(low), float(high))
    signatures = {name: str(metric.get_signature()) for name, metric in metrics.items()}
    return Translation(**intervals, signatures=signatures, num_texts=len(predicted))


def _convert_scores_to_float(metric: Any) -> None:
    """Bootstrap scores are float without a match, else float32; sacrebleu cannot average a mix of both."""
    compute = metric._compute_score_from_stats

    def compute_float(stats: Any) -> Any:
        score = compute(stats)
        score.score = float(score.score)
        return score

    metric._compute_score_from_stats = compute_float
