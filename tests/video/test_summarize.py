"""Whole summaries: files that agree with each other, any video that opens, queries in the joint space."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sensorium import media
from sensorium.assistants.ask import AssistantCaptioner
from sensorium.assistants.load import load_assistant
from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.data.table.table import Table
from sensorium.evals.rank_correlation import spearman
from sensorium.media.frames import frames
from sensorium.models.embed import embed_table
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.video.captions import Captioner, NearestCaptioner
from sensorium.video.summarize import SummaryRequest, summarize
from sensorium.video.summary_files import write_summary
from tiny_assistants import write_picture, write_run
from tiny_films import beeps, highlight_film, scene, write_film
from tiny_world import TINY_NAMES, draw_shape

FILES = {
    "reel.mp4",
    "keyframes.png",
    "chapters.vtt",
    "chapters.ffmeta",
    "chapters.json",
    "reel.edl",
    "summary.md",
    "summary.json",
}


def shape_film(path: Path, names: tuple[str, ...], seconds: float = 1.2) -> Path:
    """Each shape for a while, one after another."""
    parts = []
    for name in names:
        picture = np.asarray(media.open(draw_shape(name)).pixels)
        parts.append(np.repeat(picture[None], round(seconds * 10), axis=0))
    return write_film(path, np.concatenate(parts), rate=10)


def test_the_files_agree(tmp_path):
    highlight_film(tmp_path / "film.mp4", 2, num_segments=12)
    summary = summarize(tmp_path / "film.mp4", SummaryRequest(length="8s"))
    report = write_summary(summary, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == report
    lengths = [one["end_s"] - one["start_s"] for one in report["chosen"]]
    assert sum(lengths) <= 8.001
    *_, last = frames(report["reel"])
    assert last.end_s == pytest.approx(sum(lengths), abs=0.11)
    assert report["shots"][0]["start_s"] == 0
    assert report["shots"][-1]["end_s"] == report["chapters"][-1]["end_s"] == report["duration_s"]
    assert report["captions"] == "measured"
    with Image.open(tmp_path / "out" / "keyframes.png") as sheet:
        assert min(sheet.size) > 400
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "film.mp4" in text
    assert "described by what was measured" in text


@pytest.mark.parametrize("name", ["a red circle", "a blue square"])
def test_a_query_finds_what_it_names(tmp_path, tiny_model: JointEmbedding, name: str):
    film = shape_film(tmp_path / "film.mp4", TINY_NAMES, seconds=2.4)
    summary = summarize(film, SummaryRequest(length="2.5s", query=name, model=tiny_model))
    middles_s = (np.arange(8) + 0.5) * 2.4
    found = summary.scores_at(middles_s)
    assert TINY_NAMES[int(found.argmax())] == name
    _, colour, shape = name.split()
    graded = [2 * (other == name) + (colour in other) + (shape in other) / 2 for other in TINY_NAMES]
    assert spearman(found, np.array(graded)) >= 0.6
    shown = {int(one.start_s / 2.4 + 0.01): one for one in summary.chosen}
    assert "relevance" in shown[TINY_NAMES.index(name)].reasons


def test_chapters_borrow_the_nearest_captions(tmp_path, tiny_model: JointEmbedding, tiny_table: Table):
    with pytest.raises(NotFoundError, match="no vectors"):
        NearestCaptioner(tiny_table, tiny_model)
    embed_table(tiny_table, tiny_model)
    captions = NearestCaptioner(tiny_table, tiny_model)
    assert isinstance(captions, Captioner)
    assert captions.caption([media.open(draw_shape("a green circle"))]) == "a green circle"
    german = NearestCaptioner(tiny_table, tiny_model, language="de")
    assert german.caption([media.open(draw_shape("a red circle"))]) == "nummer 0"
    film = shape_film(tmp_path / "film.mp4", ("a green circle",))
    summary = summarize(film, SummaryRequest(model=tiny_model, captioner=captions))
    assert [chapter.title for chapter in summary.chapters] == ["a green circle"]
    report = write_summary(summary, tmp_path / "out")
    assert report["captions"] == "nearest"
    assert "measured" not in (tmp_path / "out" / "summary.md").read_text()


class Counting:
    """A captioner as a language model would be passed."""

    def __init__(self) -> None:
        self.seen = 0

    def caption(self, pictures):
        self.seen += len(pictures)
        return "  two\nlines "


def test_a_model_says_what_it_sees_each_thing_once(tmp_path, monkeypatch):
    assistant = load_assistant(write_run(tmp_path / "seeing", {"caption": ["en"]}))
    one, other = (media.open(write_picture(tmp_path / f"{n}.png", n)) for n in (1, 2))
    captions, counting = AssistantCaptioner(assistant), Counting()
    alone = [captions.caption([picture]) for picture in (one, other)]
    assert alone[0] != alone[1]
    assert captions.caption([one, one, other]) == "; ".join(alone)
    with pytest.raises(UsageError, match="for a model that describes media, train one"):
        AssistantCaptioner(load_assistant(write_run(tmp_path / "blind", {"translate": ["fr"]})))
    monkeypatch.setattr("sensorium.assistants.ask.ask", lambda *_, **__: SimpleNamespace(text=" "))
    assert captions.caption([one]) == ""
    assert AssistantCaptioner(assistant, counting).caption([one, other]) == "  two\nlines "
    assert counting.seen == 2


def test_any_captioner_may_be_passed(tmp_path):
    captioner = Counting()
    film = write_film(tmp_path / "film.mp4", scene(1, 50))
    summary = summarize(film, SummaryRequest(captioner=captioner))
    assert [chapter.title for chapter in summary.chapters] == ["two lines"]
    assert captioner.seen >= 1


@pytest.mark.parametrize(
    ("name", "frames_of", "options"),
    [
        ("mute.mp4", scene(1, 60), {}),
        ("one.mp4", scene(1, 1), {}),
        ("odd.mkv", scene(1, 30, (63, 37)), {"sound": beeps(1.2, [0.5])}),
        ("turned.mp4", scene(1, 40), {"rotation": 90, "sound": beeps(1.6, [0.5])}),
        ("varying.mkv", scene(1, 30), {"stamps_ms": np.cumsum(np.arange(30) * 7 + 20).tolist()}),
        ("tiny.mkv", scene(1, 12, (2, 2)), {}),
        ("black.mp4", np.zeros((40, 36, 64, 3), np.uint8), {}),
    ],
)
def test_any_video_is_summarised(tmp_path, name, frames_of, options):
    film = write_film(tmp_path / name, frames_of, **options)
    report = write_summary(summarize(film), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert report["has_sound"] == ("sound" in options)
    assert list(frames(report["reel"]))
    assert len(report["chosen"]) >= 1


def test_a_corrupt_tail_is_left_out(tmp_path):
    whole = write_film(tmp_path / "whole.mkv", np.concatenate([scene(1, 60), scene(2, 60)]))
    content = whole.read_bytes()
    rest = np.random.default_rng(0).integers(0, 256, len(content) // 4, np.uint8).tobytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 3 // 4] + rest)
    report = write_summary(summarize(tmp_path / "cut.mkv"), tmp_path / "out")
    assert 2.4 < report["duration_s"] < 4.8


def test_what_cannot_be_summarised(tmp_path):
    film = write_film(tmp_path / "film.mp4", scene(1, 5))
    for error, request in [
        (UsageError, SummaryRequest(query="a frog")),
        (UsageError, SummaryRequest(length="long")),
    ]:
        with pytest.raises(error):
            summarize(film, request)
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(MediaError, match="not a video"):
        summarize(tmp_path / "text.mp4")
    with pytest.raises(NotFoundError):
        summarize(tmp_path / "none.mp4")


def test_an_interrupt_leaves_no_half_files(tmp_path):
    highlight_film(tmp_path / "film.mp4", 2, num_segments=6)
    summary = summarize(tmp_path / "film.mp4", SummaryRequest(length="8s"))

    def interrupt(done, total, message):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_summary(summary, tmp_path / "out", progress=interrupt)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == FILES - {"reel.mp4", "summary.json"}
