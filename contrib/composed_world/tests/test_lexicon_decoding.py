"""Words for sounds: the best of all words, told by trying all of them."""

import itertools
import math
from functools import cache

import numpy as np
import pytest

from composed_world import lexicon_decoding
from composed_world.lexicon import END, START, Lexicon
from composed_world.lexicon_decoding import LexiconDecoder
from multimodal_world import build, media
from sensorium.codecs.bpe import train_bpe
from sensorium.generation.multimodal import DecodedStream, engine_of, requests, text_decoder_of

KNOWN = Lexicon.learned(
    [
        ("The frog.", "D@ fr0g"),
        ("A fog.", "a# f0g"),
        ("Of the fog, a frog.", "VvD@ f0g | a# fr0g"),
        ("See the sea.", "si: D@ si:"),
        ("A sea of fog.", "a# si: Vv f0g"),
    ]
)
WEIGHT = 0.5


def certain(sounds: str) -> list[dict[str, float]]:
    return [{letter: 0.0} for letter in sounds]


def test_what_was_heard_rightly_is_spelt_rightly() -> None:
    speller = LexiconDecoder(KNOWN, WEIGHT)
    assert speller(certain("VvD@f0g a#fr0g")) == ["of", "the", "fog", "a", "frog"]
    assert speller(certain("si:D@si:")) == ["see", "the", "sea"]
    assert speller(certain("")) == []


def test_odds_at_a_place_and_words_around_it_decide() -> None:
    speller = LexiconDecoder(KNOWN, WEIGHT)
    heard = [*certain("D@f"), {"0": math.log(0.6), "r": math.log(0.4)}, *certain("0g")]
    assert speller(heard) == ["the", "frog"]
    unsure = [dict.fromkeys(one, -0.1) | {"x": -2.0} for one in certain("D@f0g")]
    assert speller(unsure) == ["the", "fog"]


@pytest.mark.parametrize("sounds", ["D@frg", "D@fr00g", "xD@fr0g", "D@ fr0g"])
def test_a_letter_too_few_too_many_or_wrong_is_forgiven(sounds: str) -> None:
    assert LexiconDecoder(KNOWN, WEIGHT)(certain(sounds)) == ["the", "frog"]


@cache
def phrases() -> tuple[tuple[str, str, float], ...]:
    return tuple(
        (phrase, sounds, math.log(count / sum(found.values())))
        for phrase, found in KNOWN.readings.items()
        for sounds, count in found.items()
    )


def cost_of(sounds: str, heard: list[dict[str, float]]) -> float:
    """Best score of a way to write sounds: letters at their place, lacking, or beyond; not two lacking."""

    @cache
    def best(place: int, done: int) -> float:
        if place == len(heard):
            return 0.0 if done == len(sounds) else -math.inf
        found = best(place + 1, done) + lexicon_decoding._BEYOND
        odds = heard[place]
        if done < len(sounds):
            found = max(found, odds.get(sounds[done], lexicon_decoding._OTHER) + best(place + 1, done + 1))
        if done + 1 < len(sounds) and sounds[done + 1] in odds:
            found = max(found, lexicon_decoding._LACKING + odds[sounds[done + 1]] + best(place + 1, done + 2))
        return found

    return best(0, 0)


def score_of(combined: tuple[tuple[str, str, float], ...], heard: list[dict[str, float]]) -> float:
    words = [word for phrase, _, _ in combined for word in phrase.split()]
    order = sum(KNOWN.log_odds(*pair) for pair in itertools.pairwise([START, *words, END]))
    # a letter that is lacking does not reach over the end of a word, so words are divided in every way
    return WEIGHT * (order + sum(odds for _, _, odds in combined)) + divided(combined, heard)


def divided(combined: tuple[tuple[str, str, float], ...], heard: list[dict[str, float]]) -> float:
    if not combined:
        return lexicon_decoding._BEYOND * len(heard)
    return max(
        cost_of(combined[0][1], heard[:size]) + divided(combined[1:], heard[size:])
        for size in range(len(heard) + 1)
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_other_words_are_better(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon_decoding, "_BEHIND", math.inf)
    monkeypatch.setattr(lexicon_decoding, "_MOST", 10**6)
    rng = np.random.default_rng(seed)
    letters = sorted({letter for _, sounds, _ in phrases() for letter in sounds})
    truth = "".join(phrases()[rng.integers(len(phrases()))][1] for _ in range(2))[:7]
    heard = []
    for letter in truth:
        others = rng.choice(letters, 2, replace=False)
        odds = np.log(rng.dirichlet([4, 1, 1]))
        heard.append(dict(zip([*others, letter], odds[[1, 2, 0]].tolist(), strict=True)))
    found = LexiconDecoder(KNOWN, WEIGHT)(heard)
    scores = {
        combined: score_of(combined, heard)
        for num in range(4)
        for combined in itertools.product(phrases(), repeat=num)
    }
    best = max(scores, key=scores.__getitem__)
    assert found == [word for phrase, _, _ in best for word in phrase.split()]


def test_a_model_with_a_lexicon_writes_words_streamed_or_not() -> None:
    letters = train_bpe(["D@fr0g a#f0g"], 260)
    decoders = {"text": {"tokenizer_json": letters, "width": 24, "num_heads": 2, "depth": 2}}
    known = {"entries": KNOWN.to_json(), "weight": WEIGHT}
    model = build(decoders=decoders, extensions={"lexicon": known})
    text_decoder = text_decoder_of(model)
    assert text_decoder is not None
    engine = engine_of(model, "text", num_rows=2, capacity=64)
    asked = requests(model, "text", media(), ["What is said?"] * 3, max_tokens=12)
    done = [text_decoder(one) for one in engine.run(asked)]
    streams = [DecodedStream(engine.submit(one), text_decoder) for one in asked]
    pieces = [list(stream) for stream in streams]
    assert ["".join(piece.text for piece in of) for of in pieces] == [one.text for one in done]
    assert [[choice.id for piece in of for choice in piece.choices] for of in pieces] == [
        one.ids for one in done
    ]
    assert [stream.result().text for stream in streams] == [one.text for one in done]
    assert [list(stream) for stream in streams] == [[], [], []]  # nothing comes twice
    assert text_decoder_of(build()) is None
