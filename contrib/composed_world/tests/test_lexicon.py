"""Words and their sounds: what is learned from sentences, and what is made of words that were not learned."""

import math

import pytest

from composed_world.lexicon import END, START, Lexicon
from composed_world.pronunciation import unbroken

SPOKEN = [
    ("The frog.", "D@ fr0g"),
    ("A frog sits in the grass!", "a# fr0g sIts InD@ graas"),
    ("Is the grass green?", "Iz D@ graas gri:n"),
    ("Is Ann's frog green?", "Iz anz fr0g gri:n"),
    ("The green grass, the frog - and Ann.", "D@ gri:n graas | D@ fr0g | and an"),
    *[("In the grass sits a frog.", "InD@ graas sIts a# fr0g")] * 3,
]
ALONE = [
    ("in", "In"),
    ("Ann", "an"),
    ("pond", "p0nd"),
    ("pond", "pAnd"),
    ("b", "bi:"),
    ("five", "faIv"),
    ("ice cream", "aIs kri:m"),
]
"""Words of a list; what is more than one is left out."""


@pytest.fixture(scope="module")
def known() -> Lexicon:
    return Lexicon.learned(SPOKEN, ALONE)


def test_words_that_are_spoken_as_one_are_found(known: Lexicon) -> None:
    assert known.readings["in the"] == {"InD@": 4}
    assert known.readings["the"] == {"D@": 4}
    assert known.readings["ann's"] == {"anz": 1}
    assert "ice cream" not in known.readings


def test_a_word_of_several_sounds_and_what_is_far_from_all_that_is_known() -> None:
    usual = [("three", "Tri:"), ("cats", "kats")]
    found = Lexicon.learned(
        [("Three cats 32.", "Tri: kats T3:ti tu:"), ("Cats, three.", "kats | fOks wO:ks")], usual
    )
    assert found.readings["cats"] == {"kats": 2}
    assert found.readings["three"] == {"Tri:": 1}  # once by itself; "fOks wO:ks" is no reading of it


def test_a_reading_that_hardly_ever_occurs_is_a_slip() -> None:
    spoken = [("The frog.", "D@ fr0g")] * 399 + [("The frog.", "D@ fr0")]
    assert Lexicon.learned(spoken).readings["frog"] == {"fr0g": 399}


def test_sounds_of_a_text_are_the_usual_ones_with_its_pauses(known: Lexicon) -> None:
    assert known.sounds("In the grass, the FROG…") == "InD@graas D@fr0g"
    assert known.sounds("Ann's frog - green!") == "anzfr0ggri:n"
    assert known.sounds(" ?! ") == ""


def test_a_word_may_sound_otherwise_before_a_vowel_and_a_pause_may_stand_without_a_mark() -> None:
    spoken = [
        ("The owl but the frog.", "DI aUl | bVt D@ fr0g"),
        ("The ape, the pond but the ice.", "DI eIp | D@ p0nd | bVt DI aIs"),
        ("The frog but the ice.", "D@ fr0g bVt DI aIs"),
        ("The frog.", "D@ fr0g"),
        ("The pond.", "D@ p0nd"),
    ]
    found = Lexicon.learned(spoken, [("eye", "aI")])
    assert found.sounds("The frog but the eye") == "D@fr0g bVtDIaI"
    assert found.sounds("But the frog, the, but") == "bVtD@fr0g D@ bVt"
    few = Lexicon.learned(spoken[:1])
    assert few.sounds("the owl") == "DIaUl"  # heard first; once is not enough to be another sound


def test_an_unknown_word_is_made_of_known_ones(known: Lexicon) -> None:
    assert known.sounds("frogpond") == "fr0gp0nd"
    assert known.sounds("bb") == "bi:bi:"
    assert known.sounds("gräss frög") == "graasfr0g"
    assert known.sounds("жаба") == ""
    assert known.sounds("1,250.5") == known.sounds("one thousand two hundred fifty point five")


@pytest.mark.parametrize("before", [START, "the", "frog", "pond", "never seen"])
def test_odds_of_all_words_are_at_most_one(known: Lexicon, before: str) -> None:
    words = {word for phrase in known.readings for word in phrase.split()} | {END}
    odds = {word: math.exp(known.log_odds(before, word)) for word in words}
    assert 0.5 < sum(odds.values()) <= 1
    assert min(odds.values()) > 0
    assert Lexicon().log_odds("the", "frog") < 0


def test_what_followed_is_likelier_than_what_did_not(known: Lexicon) -> None:
    assert known.log_odds("the", "grass") > known.log_odds("the", "sits")
    assert known.log_odds("the", "sits") > known.log_odds("the", "pond")


def test_the_odds_are_those_of_the_formula() -> None:
    found = Lexicon.learned([("A b.", "a b"), ("A c.", "a c")])
    backoff = 1 / (5 + 3)  # of 5 pairs one ends in b; three words are known
    assert math.exp(found.log_odds("a", "b")) == pytest.approx((1 - 0.75) / 2 + 0.75 * 2 / 2 * backoff)


def test_a_text_counts_once_however_often_it_is_spoken() -> None:
    once, often = Lexicon.learned(SPOKEN), Lexicon.learned(SPOKEN + SPOKEN[:1] * 5)
    assert once.log_odds("the", "frog") == often.log_odds("the", "frog")
    assert often.readings["frog"]["fr0g"] == once.readings["frog"]["fr0g"] + 5


def test_what_only_speaks_knows_no_order(known: Lexicon) -> None:
    mute = Lexicon.learned(SPOKEN, ALONE, is_ordered=False)
    assert mute.readings == known.readings
    assert mute.sounds("In the pond.") == known.sounds("In the pond.")
    assert len(mute.to_json()) < len(known.to_json())


def test_sentences_are_written_as_they_were_read(known: Lexicon) -> None:
    assert known.sentence(["the", "frog", "and", "ann's", "pond"]) == "The frog and Ann's pond."
    assert known.sentence(["is", "ann", "green"]) == "Is Ann green?"
    assert known.sentence([]) == ""


def test_it_comes_back_whole(known: Lexicon) -> None:
    again = Lexicon.from_json(known.to_json())
    assert again.to_json() == known.to_json()
    assert again.sounds("in the pond") == known.sounds("in the pond")
    assert again.log_odds("the", "frog") == known.log_odds("the", "frog")
    assert Lexicon.from_json("").readings == {}


def test_gaps_are_left_out_but_for_pauses() -> None:
    assert unbroken("D@ fr0g | and an") == "D@fr0g andan"
    assert unbroken(" | ") == unbroken("") == ""
