"""What is to be written: targets are answers and nothing else, packed rows hold the same sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.losses import IGNORED
from sensorium.models.sequences import TokenBatch, TokenSequence, packed, padded

ids = st.lists(st.integers(3, 40), max_size=7)
parts = st.lists(st.tuples(ids, ids, st.integers(0, 5)), min_size=1, max_size=9)


def sequels(given_: list[tuple[list[int], list[int], int]]) -> list[TokenSequence]:
    return [TokenSequence([1, *prompt], [*answer, 2], row) for prompt, answer, row in given_]


def lessons_of(writing: TokenBatch) -> list[tuple[int, list[int], list[int], list[int]]]:
    """Each sequence as it lies there: row of the memory, what is read, its places, what is learned."""
    found = []
    for row in range(len(writing.ids)):
        for place, memory_row in enumerate(writing.memory_rows[row].tolist()):
            if memory_row < 0:
                continue
            own = writing.mask[row].clone()
            if writing.segments is not None:
                own &= writing.segments[row] == place
            parts = (writing.ids[row][own], writing.positions[row][own], writing.targets[row][own])
            found.append((memory_row, *(part.tolist() for part in parts)))
    return sorted(found)


@given(parts, st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_packed_rows_hold_the_sequences_of_padded_ones(given_: list, num_positions: int) -> None:
    given_ = sequels(given_)
    one, other = padded(given_), packed(given_, num_positions)
    assert lessons_of(one) == lessons_of(other)
    assert other.mask.sum() == one.mask.sum()
    assert other.ids.shape[1] <= max(num_positions, one.ids.shape[1])
    assert len(other.ids) <= len(one.ids)


@given(parts)
@settings(deadline=None, max_examples=40)
def test_only_answers_are_targets(given_: list) -> None:
    given_ = sequels(given_)
    for memory_row, read, places, learned in lessons_of(padded(given_)):
        assert places == list(range(len(read)))
        whole = [one for one in given_ if one.row == memory_row and [*one.prompt, *one.answer][:-1] == read]
        for one in whole:
            if learned == [IGNORED] * (len(one.prompt) - 1) + list(one.answer):
                break
        else:
            pytest.fail(f"{learned} is no answer")


def test_padding_is_neither_read_nor_learned() -> None:
    writing = padded([TokenSequence([1], [5, 6, 7, 2], 0), TokenSequence([1, 4], [2], 1)])
    assert writing.mask.sum(dim=1).tolist() == [4, 2]
    assert (writing.targets[~writing.mask] == IGNORED).all()
    assert writing.targets[1].tolist() == [IGNORED, 2, IGNORED, IGNORED]


def test_a_prompt_without_answer_is_read_whole_but_its_last() -> None:
    assert (padded([TokenSequence([1, 3, 4], [], 0)]).targets == IGNORED).all()


def test_packing_fills_rows() -> None:
    many = [TokenSequence([1], [5] * (3 + number % 5), 0) for number in range(20)]
    writing = packed(many, 16)
    assert writing.mask.float().mean() > 0.85
    assert torch.equal(writing.mask, writing.segments < writing.memory_rows.shape[1])
