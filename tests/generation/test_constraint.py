"""Constrained output parses, however hot; ids that no continuation could follow are never chosen."""

import json
import re
import sys

import pytest
import torch
from tiny_decoders import tiny_model

from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.generation import Engine, PlainDecoder, Request, Sampling
from sensorium.generation.constraint import Grammars

pytest.importorskip("llguidance")
BPE = Bpe(train_bpe(['{"name": "a red frog", "count": 12}', "yes no, maybe"] * 9, 300))
END, V = 2, BPE.vocab_size + 3
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "count": {"type": "integer", "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(BPE.json, V, [END])


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(PlainDecoder(tiny_model(vocab_size=V), 3, 211), BPE.decode)


def write(engine: Engine, guides: list) -> list[str]:
    requests = [
        Request([5, 7], Sampling(temperature=float(seed), seed=seed), stop_ids=[END], guide=guide, lookup=3)
        for seed, guide in enumerate(guides)
    ]
    found = engine.run(requests)
    assert all(one.reason == "stop" for one in found)
    return [one.text for one in found]


def test_json_of_a_schema(engine: Engine, grammars: Grammars) -> None:
    texts = write(engine, [grammars.json_schema(SCHEMA) for _ in range(5)])
    for text in texts:
        found = json.loads(text)
        assert found.keys() == {"name", "count"}
        assert len(found["name"]) <= 5
        assert isinstance(found["count"], int)
        assert found["count"] <= 99
    assert len(set(texts)) > 1


def test_a_regular_expression(engine: Engine, grammars: Grammars) -> None:
    pattern = r"[0-9]{2,4}-(ab|é)+x"
    assert all(re.fullmatch(pattern, text) for text in write(engine, [grammars.regex(pattern)] * 1))
    for text in write(engine, [grammars.regex(r"\d{3}(, \d{3}){2}") for _ in range(4)]):
        assert re.fullmatch(r"\d{3}(, \d{3}){2}", text)


def test_a_choice(engine: Engine, grammars: Grammars) -> None:
    options = ["yes", "no", 'may"be\n', "🦩 \\"]
    texts = write(engine, [grammars.choice(options) for _ in range(9)])
    assert set(texts) <= set(options)
    assert len(set(texts)) > 1


def test_without_a_guide_it_does_not_parse(engine: Engine) -> None:
    [found] = engine.run([Request([5, 7], Sampling(temperature=1.0), max_tokens=31)])
    with pytest.raises(ValueError, match=r"Expecting|Extra|Invalid"):
        json.loads(found.text)


def test_ids_beyond_the_tokenizer_are_never_allowed(grammars: Grammars) -> None:
    allowed = grammars.regex(".*").allowed()
    assert allowed.shape == (V,)
    assert not allowed[BPE.vocab_size :].any()
    assert allowed[END]
    assert not torch.equal(allowed, grammars.regex("a").allowed())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda grammars: grammars.regex("(a"), "not a supported grammar"),
        (lambda grammars: grammars.json_schema({"type": "colour"}), "colour"),
        (lambda grammars: grammars.json_schema("{"), "not a supported JSON schema"),
        (lambda grammars: grammars.choice([]), "a choice needs strings"),
        (lambda grammars: Grammars(BPE.json, V, []), "needs an id to end with"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(grammars: Grammars, make, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make(grammars)
    assert "\n" not in str(caught.value)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r'pip install "sensorium\[constrained\]"'):
        Grammars(BPE.json, V, [END])
