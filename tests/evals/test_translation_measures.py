"""Translations are scored by sacrebleu, with signatures; the glossary takes the longest phrase."""

import pytest
import sacrebleu

from sensorium.core.errors import UsageError
from sensorium.evals.translation import evaluate_translations

TEXTS = ["une grenouille rouge", "un hibou dans un arbre", "deux clés bleues sur la table"]


def test_scores_are_sacrebleus_with_its_signatures() -> None:
    guessed = ["une grenouille verte", "un hibou dans l'arbre", "deux clés sur la table bleue"]
    found = evaluate_translations(guessed, TEXTS, language="fr", num_resamples=50)
    assert found.chrf.mean == pytest.approx(sacrebleu.corpus_chrf(guessed, [TEXTS]).score)
    assert found.bleu.mean == pytest.approx(sacrebleu.corpus_bleu(guessed, [TEXTS]).score)
    assert found.chrf.low < found.chrf.mean < found.chrf.high
    assert found.num_texts == 3
    assert "tok:13a" in found.signatures["bleu"]
    assert all(sacrebleu.__version__ in signature for signature in found.signatures.values())


def test_languages_without_spaces_have_tokenisers_of_their_own() -> None:
    pair = ["一只绿色的青蛙坐在木头上"], ["一只红色的青蛙坐在木头上"]
    chinese = evaluate_translations(*pair, language="zh-CN", num_resamples=20)
    assert "tok:zh" in chinese.signatures["bleu"]
    assert chinese.bleu.mean > 50 > evaluate_translations(*pair, language="fr", num_resamples=20).bleu.mean


def test_a_perfect_translation_scores_a_hundred() -> None:
    found = evaluate_translations(TEXTS, TEXTS, language="fr", num_resamples=20)
    assert (found.chrf.mean, found.bleu.mean) == (pytest.approx(100.0), pytest.approx(100.0))


def test_a_resample_without_any_match_is_no_accident() -> None:
    found = evaluate_translations(["船", "y", "q"], ["船", "猫", "狗"], language="zh", num_resamples=40)
    assert found.chrf.low < found.chrf.mean == pytest.approx(100 / 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="1 translations for 2 references"):
        evaluate_translations(["a"], ["a", "b"], language="fr")
