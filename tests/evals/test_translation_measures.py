"""Translations are scored by sacrebleu, with signatures; the glossary takes the longest phrase."""

import pytest
import sacrebleu

from sensorium.core.errors import UsageError
from sensorium.evals.translation import evaluate_translations
from sensorium.models.glossary import Glossary

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


def test_the_glossary_takes_the_longest_phrase_and_copies_the_rest() -> None:
    colours = [("red", "rouge"), ("red", "rouges"), ("red", "rouges")]
    known = Glossary([("fire", "feu"), ("Fire engine.", "camion de pompiers."), *colours, ("ein", "a")])
    assert known("A red fire engine; FIRE!") == "A rouges camion de pompiers; feu!"
    assert known("red fire engine") == "rouges camion de pompiers"
    assert (known(""), len(known)) == ("", 4)
    assert Glossary([("青蛙", "frog"), ("绿", "green")])("绿青蛙。") == "green frog。"
    assert Glossary([("frog", "青蛙"), ("green", "绿")])("green frog, old") == "绿青蛙, old"
    assert Glossary([("青蛙。", "A frog.")])("一青蛙") == "一 A frog"


def test_a_glossary_can_forget_one_pair_and_be_kept() -> None:
    pairs = [("a frog", "une grenouille"), ("frog", "grenouille"), ("frog", "grenouille"), ("frog", "raine")]
    known = Glossary.from_json(Glossary(pairs).to_json())
    assert known("A frog.", without="une grenouille.") == "A grenouille."
    assert known("A frog", without="quelque chose") == "une grenouille"
    assert known("frog", without="grenouille") == "grenouille"  # once more, and as often as the other
    assert Glossary(pairs[:1])("a frog", without="une grenouille") == "a frog"
    assert (len(known), known("frogs  ")) == (2, "frogs  ")


def test_words_of_longer_texts_are_learned_and_phrases_come_first() -> None:
    pairs = [
        ("a red frog", "une grenouille rouge"),
        ("the frog", "la grenouille"),
        ("a red key", "une clé rouge"),
    ]
    known = Glossary.from_json(Glossary.learned(pairs).to_json())
    assert known("a key.") == "une clé."
    assert known("the frog") == "la grenouille"
    assert known("a blue frog", without="x") == "une blue grenouille"
    assert Glossary(pairs)("a key.") == "a key."
    stops = [("青！", "frog!"), ("红！", "red!"), ("绿", "green!"), ("青", "frog")]
    assert Glossary.learned(stops)("青 蓝！") == "frog 蓝!"  # a stop stands for no word, nor a word for it
