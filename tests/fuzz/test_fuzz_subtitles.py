"""Subtitles of any words at any times: small strict readers find every word, in order, with a length."""

import itertools
import json
import os
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.core.errors import UsageError
from sensorium.media.timed_text import TimedWord, to_json, to_labels, to_srt, to_textgrid, to_vtt

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "120"))
HOSTILE = [
    *("\n\n2\n00:00:01,000 --> 00:00:09,000\nx", "00:00:01.000 --> 00:00:02.000", "-->", "NOTE x", "WEBVTT"),
    *(
        "<b>",
        "&amp;",
        '"',
        '"\n    item [9]:',
        "",
        "\x00",
        "\ud800",
        "\u2028",
        "a\tb",
        "\r",
        "42",
        "{\\an8}",
        "字",
    ),
]
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=12), st.from_regex(r"\w{1,9}[.,]?", fullmatch=True)
)
times = st.one_of(st.floats(-5, 20), st.sampled_from([0.0, -0.0, 0.38, 1.0, 1e6, 359999.9996]), st.floats())
timed = st.builds(TimedWord, texts, times, times, st.floats(0, 1), st.integers(0, 2))


def said(words: list[TimedWord]) -> list[str]:
    """What a file of one row a word can hold of them: runs of visible characters."""
    text = " ".join(
        re.sub("[\x00-\x08\x0e-\x1b\x7f]", "", re.sub("[\ud800-\udfff]", "\ufffd", w.word)) for w in words
    )
    return list("".join(text.split()))


def cues_of(text: str, point: str) -> list[tuple[float, float, str]]:
    """Blocks between blank lines: times and text."""
    found = []
    for block in filter(None, re.split(r"\n\n+", text.strip("\n"))):
        head, *rows = block.split("\n")
        clock = rf"(\d\d+):(\d\d):(\d\d){point}(\d\d\d)"
        match = re.fullmatch(f"{clock} --> {clock}", head)
        assert match, block
        assert rows, block
        assert not any("-->" in row for row in rows), block
        numbers = [int(number) for number in match.groups()]
        moments = [3600 * h + 60 * m + s + ms / 1000 for h, m, s, ms in (numbers[:4], numbers[4:])]
        found.append((*moments, " ".join(rows)))
    return found


def check(found: list[tuple[float, float, str]], words: list[TimedWord]) -> None:
    assert list("".join("".join(text for *_, text in found).split())) == said(words)
    assert all(start < end for start, end, _ in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 120, suppress_health_check=list(HealthCheck)
)
@given(st.lists(timed, max_size=12))
def test_every_word_is_kept(words: list[TimedWord]) -> None:
    if not all(abs(word.start_s) < 1e9 and abs(word.end_s) < 1e9 for word in words):
        for write in (to_json, to_srt, to_vtt, to_textgrid, to_labels):
            try:
                write(words)
            except UsageError as error:
                refused = str(error)
                assert "\n" not in refused
            else:
                raise AssertionError(write)
        return
    rows = [re.sub(r"^\d+\n", "", block) for block in to_srt(words).split("\n\n")]
    check(
        [(a, b, text.replace("\u2060", "")) for a, b, text in cues_of("\n\n".join(rows), ",")],
        words_without_joiner(words),
    )
    head, _, body = to_vtt(words).partition("\n")
    assert head == "WEBVTT"
    plain = [
        (a, b, t.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        for a, b, t in cues_of(body, r"\.")
    ]
    check(plain, words)
    for tier in to_textgrid(words).split("    item [")[1:]:
        intervals = re.findall(r'xmin = (.+)\n +xmax = (.+)\n +text = "((?:[^"]|"")*)"\n', tier)
        assert int(re.search(r"intervals: size = (\d+)", tier)[1]) == len(intervals)  # type: ignore[index]
        check([(float(a), float(b), text.replace('""', '"')) for a, b, text in intervals], words)
    labels = [row.split("\t") for row in to_labels(words).split("\n")[:-1]]
    assert list("".join("".join(text for *_, text in labels).split())) == said(words)
    assert all(0 <= float(start) <= float(end) for start, end, _ in labels)
    assert len(json.loads(to_json(words).encode())) == len(words)


def words_without_joiner(words: list[TimedWord]) -> list[TimedWord]:
    return [TimedWord(word.word.replace("\u2060", ""), word.start_s, word.end_s) for word in words]
