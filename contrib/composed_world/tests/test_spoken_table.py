"""Spoken sentences: parts share neither texts nor voices; a stopped run goes on where it was."""

import json
from pathlib import Path

import numpy as np
import pytest

from composed_world import spoken_table as spoken
from composed_world.sentences import SOURCES, Source, sentences
from composed_world.spoken_table import HELD_OUT_VOICES, VOICES, Line, Plan, make_spoken, script
from sensorium import media
from sensorium.cli import main
from sensorium.core.errors import TableError, UsageError
from sensorium.data.collections import wordnet
from sensorium.data.table.sample import normalise
from sensorium.data.table.table import Table
from sensorium.media.encoding import encode_sound

PLAN = Plan(num_train=61, num_test=13, sentences=("scenes",), seed=3)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of sentences about scenes, which take long to make: "Yes." and numbered ones."""

    def read(num: int, seed: int, progress: object) -> list[str]:
        return ["Yes.", *(f"This is sentence {seed * 1000 + number}." for number in range(1, num))]

    monkeypatch.setitem(SOURCES, "scenes", Source(read, "CC0-1.0"))


@pytest.fixture
def hum(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of espeak-ng, a hum as long as the text; remembers what was said."""
    said: list[str] = []

    def say(line: Line, rate_hz: int) -> np.ndarray:
        said.append(line.uri)
        time = np.arange(len(line.text) * 160, dtype=np.float32) / rate_hz
        return 0.3 * np.sin(2 * np.pi * (100 + line.pitch) * time).astype(np.float32)

    monkeypatch.setattr(spoken, "say", say)
    monkeypatch.setattr(spoken.espeak, "prepare", lambda progress: None)
    monkeypatch.setattr(spoken.espeak, "phonemes", lambda text, variety: f"{variety}: {text}")
    return said


@pytest.mark.usefixtures("counted")
def test_parts_share_neither_texts_nor_voices() -> None:
    lines = list(script(PLAN))
    by_part = {part: [line for line in lines if line.part == part] for part in spoken.PARTS}
    assert {part: len(found) for part, found in by_part.items()} == {"train": 61, "texts": 13, "voices": 13}
    texts = {part: {normalise(line.text) for line in found} for part, found in by_part.items()}
    assert not texts["train"] & (texts["texts"] | texts["voices"])
    assert not set(VOICES) & set(HELD_OUT_VOICES)
    assert {line.voice for line in by_part["train"] + by_part["texts"]} <= set(VOICES)
    assert {line.voice for line in by_part["voices"]} <= set(HELD_OUT_VOICES)
    assert all(len(text.split()) > 2 for text in texts["texts"] | texts["voices"])
    assert any(len(text.split()) <= 2 for text in texts["train"])


@pytest.mark.usefixtures("counted")
def test_a_longer_script_begins_with_the_shorter_one() -> None:
    longer = {line.uri: line for line in script(Plan(97, 17, ("scenes",), seed=3))}
    assert all(longer[line.uri] == line for line in script(PLAN))
    assert next(iter(script(Plan(61, 13, ("scenes",), seed=4)))).voice != next(iter(script(PLAN))).voice


def test_sentences_come_once_and_in_order() -> None:
    few, many = sentences("scenes", 11, 5), sentences("scenes", 29, 5)
    assert many[:11] == few
    assert len(set(many)) == 29
    assert {text[-1] for text in many} == {".", "?"}
    with pytest.raises(UsageError, match="no sentences from 'poems'; known: scenes, stamps, prose"):
        sentences("poems", 1)


@pytest.mark.parametrize("format", spoken.FORMATS)
def test_what_was_said_can_be_heard(format: str) -> None:
    samples = 0.5 * np.sin(np.arange(8009, dtype=np.float32) / 7)
    opened = media.open(encode_sound(media.Audio(samples[:, None], 16_000), f".{format}"))
    assert isinstance(opened, media.Audio)
    assert (opened.sample_rate_hz, opened.samples.shape) == (16_000, (8009, 1))
    assert np.abs(opened.samples[500:-500, 0] - samples[500:-500]).max() < (0.1 if format == "ogg" else 1e-4)


@pytest.mark.usefixtures("counted")
def test_a_stopped_run_goes_on_and_another_plan_is_refused(tmp_path: Path, hum: list[str]) -> None:
    path = tmp_path / "t.lance"
    table, failed = make_spoken(path, Plan(7, 3, ("scenes",)))
    assert (len(table), failed, len(hum)) == (13, 0, 13)
    before = table.ids
    table, _ = make_spoken(path, Plan(11, 3, ("scenes",)))
    assert (len(table), len(hum), table.ids[:13]) == (17, 17, before)
    row = table.rows([16])[0]
    assert (row.source, row.group) == ("spoken", normalise(row.texts[0].text))
    assert row.licence == "CC0-1.0"
    assert row.meta["sounds"] == f"{row.meta['voice'].partition('+')[0]}: {row.texts[0].text}"
    assert row.duration_s == pytest.approx(len(row.texts[0].text) / 100)
    with pytest.raises(TableError, match="choose another path, or the same options"):
        make_spoken(path, Plan(7, 3, ("scenes",), format="ogg"))
    with pytest.raises(UsageError, match="no format 'mp3'"):
        make_spoken(path, Plan(7, 3, ("scenes",), format="mp3"))


@pytest.mark.usefixtures("counted")
def test_one_voice_reads_all_rows_alike(tmp_path: Path, hum: list[str]) -> None:
    plan = Plan(61, 13, ("scenes",), voice="en-gb+f2", seed=3)
    lines = list(script(plan))
    assert {(line.voice, line.words_per_minute, line.pitch) for line in lines} == {(("en-gb", "f2"), 150, 50)}
    assert [(line.uri, line.text) for line in lines] == [
        (line.uri, line.text) for line in script(PLAN) if line.part != "voices"
    ]
    make_spoken(tmp_path / "t.lance", plan)
    with pytest.raises(TableError, match="voice en-gb; 16000 Hz"):
        make_spoken(tmp_path / "t.lance", Plan(61, 13, ("scenes",), voice="en-gb", seed=3))


@pytest.mark.usefixtures("counted")
def test_what_is_not_heard_is_told(
    tmp_path: Path, hum: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say = spoken.say
    silent = np.zeros(0, np.float32)
    monkeypatch.setattr(spoken, "say", lambda line, hz: silent if line.uri[-1] == "1" else say(line, hz))
    words = ["-o", str(tmp_path / "t.lance"), "-n", "5", "--held-out", "2", "--sentences", "scenes", "--json"]
    assert main(["data", "spoken", *words]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["failed"]) == (6, 3)
    failures = (tmp_path / "errors.jsonl").read_text().splitlines()
    assert len(failures) == 3
    assert "0.0 s of speech for" in failures[0]


def test_examples_of_wordnet_are_sentences(tmp_path: Path) -> None:
    line = '00001740 03 n 01 entity 0 | that; "she saw  the red fox"; "42 of them are here"; "too short"\n'
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        (tmp_path / name).write_text(line)
    assert wordnet.read_folder(tmp_path) == ["She saw the red fox."]


@pytest.mark.network
@pytest.mark.slow
def test_espeak_says_it_in_every_voice(tmp_path: Path) -> None:
    plan = Plan(3, 2, ("stamps", "prose"), seed=1)
    table, failed = make_spoken(tmp_path / "t.lance", plan)
    assert (len(table), failed) == (7, 0)
    with pytest.raises(UsageError, match="no variant 'f77'"):
        make_spoken(tmp_path / "u.lance", Plan(3, 2, ("stamps",), voice="en-gb+f77"))
    assert not (tmp_path / "u.lance").exists()
    texts = list(script(plan))
    for voice in (*VOICES, *HELD_OUT_VOICES):
        line = Line("a", "train", texts[0].text, "", "prose", voice, 150, 50)
        assert len(spoken.say(line, 16_000)) > 5000
    assert isinstance(Table.open(tmp_path / "t.lance").rows([0])[0].speech[0].data, bytes)
