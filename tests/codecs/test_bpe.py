"""Byte-pair text: nothing is lost, nothing typed becomes special, equal training gives equal tokenizers."""

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
