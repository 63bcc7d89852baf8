"""Timed words as files: formats against their rules, and reading back what was written."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align.text_lines import split_lines, stop_of
from sensorium.core.errors import UsageError
from sensorium.media.timed_text import (
    TimedWord,
    cues,
    to_json,
    to_labels,
    to_srt,
    to_textgrid,
    to_vtt,
    write_words,
)

WORDS = [
    TimedWord("Une", 0.52, 0.7, 0.9, 0),
    TimedWord("grenouille.", 0.7, 1.4, 0.8, 0),
    TimedWord('"Où', 3.0, 3.2, 0.7, 1),
    TimedWord("<ça>", 3.2, 3.2, 0.0, 1),
    TimedWord('va?"', 3661.5, 3662.0, 0.5, 1),
]

times = st.lists(st.floats(0, 500), min_size=2, max_size=40).map(sorted)


def made_of(moments: list[float]) -> list[TimedWord]:
    pairs = itertools.pairwise(moments)
    return [TimedWord(f"w{n}", start, end, 1.0, n // 7) for n, (start, end) in enumerate(pairs)]


def test_srt_counts_and_uses_commas() -> None:
    assert to_srt(WORDS).split("\n\n") == [
        "1\n00:00:00,520 --> 00:00:01,400\nUne grenouille.",
        '2\n00:00:03,000 --> 00:00:03,300\n"Où <ça>',
        '3\n01:01:01,500 --> 01:01:02,000\nva?"\n',
    ]


def test_vtt_has_its_head_and_escapes() -> None:
    text = to_vtt(WORDS)
    assert text.startswith("WEBVTT\n\n00:00:00.520 --> 00:00:01.400\nUne grenouille.\n")
    assert "&lt;ça&gt;" in text


def test_labels_are_three_columns() -> None:
    rows = [line.split("\t") for line in to_labels(WORDS).splitlines()]
    assert rows[1] == ["0.700000", "1.400000", "grenouille."]
    assert all(len(row) == 3 for row in rows)


@settings(max_examples=50, deadline=None)
@given(times)
def test_textgrid_intervals_fill_the_time(moments: list[float]) -> None:
    words = made_of(moments)
    tiers = to_textgrid(words).split("    item [")[1:]
    assert len(tiers) == 2
    for tier in tiers:
        bounds = re.findall(r"xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text", tier)
        assert int(re.search(r"intervals: size = (\d+)", tier)[1]) == len(bounds)  # type: ignore[index]
        assert float(bounds[0][0]) == 0
        assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
        assert float(bounds[-1][1]) == pytest.approx(max(words[-1].end_s, 0.01 * len(words)), abs=1e-3)
        assert all(float(end) > float(start) for start, end in bounds)
        held = " ".join(re.findall(r'text = "(w[^"]*)"', tier))
        assert held == " ".join(word.word for word in words)


def test_words_without_a_length_get_one_from_their_neighbours() -> None:
    words = [TimedWord("That's", 0.0, 0.38), TimedWord("it.", 0.38, 0.38), TimedWord("Well", 0.38, 0.38)]
    found = re.findall(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "(\w.*)"', to_textgrid(words))
    assert found[1:] == [("0.000", "0.360", "That's"), ("0.360", "0.370", "it."), ("0.370", "0.380", "Well")]


def test_cues_that_begin_together_are_all_shown() -> None:
    words = [TimedWord(text, 2.0, 2.0, 1.0, line) for line, text in enumerate(("One.", "Two.", "Three."))]
    shown = [(cue.text, cue.start_s, cue.end_s) for cue in cues(words)]
    assert shown == [("One.", 2.0, 2.1), ("Two.", 2.1, 2.2), ("Three.", 2.2, 2.3)]


@pytest.mark.parametrize("write", [to_json, to_srt, to_vtt, to_textgrid, to_labels])
@pytest.mark.parametrize("time_s", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(write: Callable[..., str], time_s: float) -> None:
    for word in (TimedWord("it", time_s, 1.0), TimedWord("it", 0.0, time_s)):
        with pytest.raises(UsageError, match="the word 'it' stands"):
            write([word])


def test_textgrid_doubles_quotes() -> None:
    assert 'text = """Où"' in to_textgrid(WORDS)


@settings(max_examples=50, deadline=None)
@given(times)
def test_cues_keep_every_word_and_never_overlap(moments: list[float]) -> None:
    words = made_of(moments)
    shown = cues(words)
    assert " ".join(cue.text for cue in shown) == " ".join(word.word for word in words)
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(shown))
    assert all(len(cue.text) <= 84 for cue in shown)


def test_cues_break_at_sentences_pauses_and_width() -> None:
    long = [TimedWord("abcdefghi", n / 10, n / 10 + 0.1) for n in range(20)]
    assert [len(cue.text.split()) for cue in cues(long)] == [8, 8, 4]
    assert "\n" in to_srt(long).split("\n\n")[0].split("-->")[1].split("\n", 1)[1]
    chinese = [TimedWord(char, n / 2, n / 2 + 0.5) for n, char in enumerate("青蛙。")]
    assert cues(chinese)[0].text == "青蛙。"


def test_the_ending_chooses_the_format(tmp_path: Path) -> None:
    for ending, begin in ((".json", "["), (".srt", "1\n"), (".VTT", "WEBVTT"), (".TextGrid", "File type")):
        write_words(WORDS, tmp_path / f"out{ending}")
        assert (tmp_path / f"out{ending}").read_text("utf-8").startswith(begin)
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert found[0] == {"word": "Une", "start_s": 0.52, "end_s": 0.7, "confidence": 0.9}
    with pytest.raises(UsageError, match=r"\.TextGrid"):
        write_words(WORDS, tmp_path / "out.doc")


def test_lines_end_where_sentences_do() -> None:
    lines = split_lines("Dr. Who came at 3.5 p.m. today. “Really?” Yes\n\nand left, said e.g. Ann")
    assert [line.text for line in lines] == [
        "Dr. Who came at 3.5 p.m. today.",
        "“Really?”",
        "Yes",
        "and left, said e.g. Ann",
    ]
    assert [word.stop for word in lines[3].words] == ["none", "short", "none", "none", "long"]
    assert all(line.text[word.place :].startswith(word.text) for line in lines for word in line.words)


def test_characters_are_words_where_there_are_no_spaces() -> None:
    assert [word.text for word in split_lines("我有 3 只青蛙！Yes，好")[0].words] == [
        "我",
        "有",
        "3",
        "只",
        "青",
        "蛙！",
    ]
    assert stop_of("蛙！") == "long"
    assert [word.text for word in split_lines("Il chante ! « Ça va » ?")[1].words] == ["«", "Ça", "va » ?"]
    assert split_lines("") == split_lines(" \n\t") == []


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_no_character_of_any_text_is_lost(text: str) -> None:
    words = [word.text for line in split_lines(text) for word in line.words]
    assert "".join("".join(words).split()) == "".join(text.split())
