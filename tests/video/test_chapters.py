"""Chapters begin at cuts, and their files are what players and editors read."""

import itertools
import json
import re

import av
import numpy as np
from test_highlights import film_of

from sensorium.video.captions import measured_caption
from sensorium.video.chapters import (
    Chapter,
    clock,
    find_chapters,
    titled,
    to_edl,
    to_ffmetadata,
    to_json,
    to_webvtt,
)
from sensorium.video.features import DIM

AWKWARD = [
    Chapter(0.0, 59.9996, "A & B <i> --> c"),
    Chapter(59.9996, 3723.5, "a=b; #c \\ d\nnew line"),
    Chapter(3723.5, 3724.0, "Frosch · 青蛙"),
]


def test_chapters_begin_where_the_content_changes():
    rng = np.random.default_rng(0)
    shots = [(5.0 * n, 5.0 * n + 5) for n in range(24)]
    centres = rng.normal(size=(3, DIM))
    looks = np.repeat(centres, 8, axis=0) + 0.2 * rng.normal(size=(24, DIM))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    assert [chapter.start_s for chapter in find_chapters(film_of(shots, looks=looks))] == [0, 40, 80]


def test_chapters_cover_the_film_and_are_not_too_short():
    rng = np.random.default_rng(1)
    for length in (3.0, 17.0, 300.0):
        edges = np.sort(np.concatenate([[0, length], rng.uniform(0, length, 29)])).tolist()
        looks = rng.normal(size=(30, DIM))
        chapters = find_chapters(film_of(list(itertools.pairwise(edges)), looks=looks))
        assert chapters[0].start_s == 0
        assert chapters[-1].end_s == length
        assert all(a.end_s == b.start_s for a, b in itertools.pairwise(chapters))
        assert len(chapters) == 1 or min(c.end_s - c.start_s for c in chapters) >= 12
    assert len(find_chapters(film_of([(0.0, 500.0)]))) == 1


def test_ffmpeg_reads_the_metadata(tmp_path):
    path = tmp_path / "chapters.ffmeta"
    path.write_text(to_ffmetadata(AWKWARD, "film; #1 = best"), encoding="utf-8")
    with av.open(str(path), format="ffmetadata") as file:
        marks, title = file.chapters(), file.metadata["title"]
    assert title == "film; #1 = best"
    assert [mark["metadata"]["title"] for mark in marks] == [" ".join(c.title.split()) for c in AWKWARD]
    for mark, chapter in zip(marks, AWKWARD, strict=True):
        assert float(mark["start"] * mark["time_base"]) == round(chapter.start_s, 3)
        assert float(mark["end"] * mark["time_base"]) == round(chapter.end_s, 3)


def test_ffmpeg_reads_the_webvtt(tmp_path):
    path = tmp_path / "chapters.vtt"
    path.write_text(to_webvtt(titled(AWKWARD, [c.title for c in AWKWARD])), encoding="utf-8")
    with av.open(str(path)) as file:
        cues = [
            (packet.pts, packet.duration, bytes(packet).decode()) for packet in file.demux() if packet.size
        ]
    assert [start for start, _, _ in cues] == [0, 60_000, 3_723_500]
    assert cues[0][1] == 60_000
    assert [text.count("-->") for _, _, text in cues] == [0, 0, 0]
    assert cues[2][2] == "Frosch · 青蛙"


def test_json_chapters():
    found = json.loads(to_json(AWKWARD, "film"))
    assert found["version"] == "1.2.0"
    assert [c["startTime"] for c in found["chapters"]] == [0.0, 60.0, 3723.5]
    assert found["chapters"][2]["title"] == "Frosch · 青蛙"


def test_the_edit_list_adds_up():
    stretches = [Chapter(1.0, 2.52, "one"), Chapter(10.0, 10.01, "two"), Chapter(3599.0, 3600.5, "three")]
    lines = to_edl(stretches, "film", 29.97, "film é.mp4").splitlines()
    codes = [re.findall(r"\d\d:\d\d:\d\d:\d\d", line) for line in lines if re.match(r"\d{3} ", line)]

    def frames(code: str) -> int:
        hours, minutes, seconds, rest = map(int, code.split(":"))
        assert rest < 30
        return ((hours * 60 + minutes) * 60 + seconds) * 30 + rest

    position = 0
    for source_in, source_out, record_in, record_out in codes:
        assert frames(record_in) == position
        position = frames(record_out)
        assert frames(source_out) - frames(source_in) == position - frames(record_in) > 0
    assert len(codes) == 3
    assert all(line.isascii() for line in lines)


def test_clocks():
    assert [clock(t) for t in (0, 59.4, 59.6, 3599.9)] == ["0:00", "0:59", "1:00", "1:00:00"]
    assert clock(3599.9996, 3) == "01:00:00.000"


def test_titles_and_measured_words():
    assert [c.title for c in titled(AWKWARD, ["", " a\n b ", "c"])] == ["Chapter 1", "a b", "c"]
    shots = [(0.0, 4.0), (4.0, 8.0)]
    film = film_of(shots, motion=[12, 1], brightness=np.repeat([30.0, 200.0], 16))
    assert measured_caption(film, 0.0, 4.0) == "1 shot, lively, dark"
    assert measured_caption(film, 4.0, 8.0) == "1 shot, still, bright"
    assert measured_caption(film, 0.0, 8.0) == "2 shots"
