"""Byte-pair text: nothing is lost, nothing typed becomes special, equal training gives equal tokenizers."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.codecs import Bpe, train_bpe
from sensorium.core.errors import CheckpointError, UsageError

TEXTS = ["low lower lowest", "a newer newest thing", "grün wie ein Frosch", "青蛙坐在池塘边"] * 5
BPE = Bpe(train_bpe(TEXTS, 400))
LOWER = Bpe(train_bpe(TEXTS, 400, lowercase=True))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_decoding_gives_the_text_back(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text
    assert BPE.decode(BPE.encode(text, with_special=False)) == text


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=60))
def test_lower_case_training_gives_lower_case_back(text: str) -> None:
    assert LOWER.decode(LOWER.encode(text)) == text.lower()


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<pad>", "<start>", "<end>", " ", "frog", "low", "<"]), max_size=9))
def test_typed_special_tokens_stay_text(parts: list[str]) -> None:
    ids = BPE.encode("".join(parts), with_special=False)
    assert not {0, 1, 2} & set(ids)
    assert BPE.decode(ids) == "".join(parts)


@settings(deadline=None)
@given(st.lists(st.integers(0, BPE.vocab_size - 1), max_size=30))
def test_any_ids_decode(ids: list[int]) -> None:
    assert isinstance(BPE.decode(ids), str)


def test_special_tokens_stand_at_the_ends() -> None:
    assert BPE.encode("low") == [1, *BPE.encode("low", with_special=False), 2]
    assert BPE.encode("") == [1, 2]


def test_frequent_words_become_few_ids() -> None:
    assert len(BPE.encode("low lower", with_special=False)) < len("low lower") / 2


def test_training_is_deterministic_and_bounded() -> None:
    assert train_bpe(TEXTS, 400) == BPE.json
    assert Bpe(train_bpe(TEXTS, 270)).vocab_size == 270
    with pytest.raises(UsageError, match="vocab_size=100 is less than the 259"):
        train_bpe(TEXTS, 100)


def test_saved_is_loaded_equal(tmp_path: Path) -> None:
    BPE.save(tmp_path / "tokenizer.json")
    assert Bpe.load(tmp_path / "tokenizer.json").json == BPE.json


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer at"):
        Bpe.load(tmp_path / "none.json")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        Bpe("{}")


def changed(**values: object) -> str:
    """The trained tokenizer with other values; those of the model by `model_...`."""
    whole = json.loads(BPE.json)
    for key, value in values.items():
        place, name = (whole["model"], key[6:]) if key.startswith("model_") else (whole, key)
        place[name] = value
    return json.dumps(whole)


PROCESSOR = json.loads(BPE.json)["post_processor"]
TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    "values",
    [
        {"post_processor": PROCESSOR | {"special_tokens": {}}},  # the library panics when it encodes
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # and when it reads
        {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}},
        {"normalizer": {"type": "Unheard"}},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "("},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        {"model_merges": None},
        {"model_merges": [["zz", "yy"]]},
        {"model_vocab": {}},
        {"model_vocab": {"a": -1}},
        {"model_vocab": {"a": "b"}},
        {"model_vocab": {"a": 0, "b": 0}, "model_merges": []},
        {"model_unk_token": "<none>", "model_vocab": {"a": 0}, "model_merges": []},
        {"model_dropout": 2.0},
        {"added_tokens": [{"id": 999, "content": "<x>", **TOKEN}]},  # the library would give it another id
        {"added_tokens": [{"id": 5, "content": "<x>", **TOKEN}]},
        {"added_tokens": [{"content": "<x>", **TOKEN}]},
        *[{key: 3} for key in json.loads(BPE.json)],
    ],
)
def test_what_the_library_fails_over_is_one_error(values: dict) -> None:
    with pytest.raises(CheckpointError) as caught:
        Bpe(changed(**values))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(BPE.json.encode()[:30] + b"\xa2" + BPE.json.encode()[30:])
    with pytest.raises(CheckpointError, match="not UTF-8 at byte 30"):
        Bpe.load(path)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UsageError, match="half a surrogate pair"):
        BPE.encode("a \ud800")


def test_merge_dropout_is_off() -> None:
    assert Bpe(changed(model_dropout=0.5)).encode("lower newest") == BPE.encode("lower newest")


def test_ids_without_a_piece_decode_to_nothing() -> None:
    padded = Bpe(BPE.json, num_ids=BPE.vocab_size + 40)
    low = BPE.encode("low", with_special=False)
    assert padded.vocab_size == BPE.vocab_size + 40
    assert padded.decode([BPE.vocab_size, *low, padded.vocab_size - 1]) == "low"
    assert pickle.loads(pickle.dumps(padded)).vocab_size == padded.vocab_size
    with pytest.raises(UsageError, match="is not a code"):
        padded.decode([padded.vocab_size])
    holes = Bpe(changed(model_vocab=json.loads(BPE.json)["model"]["vocab"] | {"zzz": 900}))
    assert holes.vocab_size == 901
    assert holes.decode([899, *low, 900]) == "lowzzz"


def test_a_special_token_that_is_an_ordinary_piece_is_spelt_out() -> None:
    vocab = json.loads(BPE.json)["model"]["vocab"]
    number = len(vocab)
    special = Bpe(
        changed(
            model_vocab=vocab | {"STOP": number},
            model_ignore_merges=True,  # as Llama 3's: a word that is a piece is that piece
            added_tokens=[*json.loads(BPE.json)["added_tokens"], {"id": number, "content": "STOP", **TOKEN}],
        )
    )
    for text in ("STOP", "a low STOP", "STOPSTOP STOP"):
        assert number not in special.encode(text)
        assert special.encode(text)[0] == 1
        assert special.decode(special.encode(text)) == text
