"""Transcription on a tiny random recogniser: windows, segments, words, silence, languages; files."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tiny_whisper
from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.media.timed_text import TimedWord
from sensorium.models.pretrained.whisper import Whisper, load_whisper
from sensorium.speech.decode_window import DecodingConfig, Hypothesis, WindowDecoder
from sensorium.speech.segments import split, take_words
from sensorium.speech.transcribe import (
    Segment,
    TranscribeConfig,
    Transcriber,
    Transcript,
    load_transcriber,
)
from sensorium.speech.transcript_formats import as_json, write_transcript
from sensorium.speech.word_timestamps import without_pause, word_times
from tiny_whisper import record

GREEDY = TranscribeConfig(temperatures=(0.0,), language="en", min_logprob=-99)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    folder = tmp_path_factory.mktemp("whisper")
    return load_whisper(tiny_whisper.write_hf(folder, tiny_whisper.random_state()))


def memory(tiny: Whisper, seed: int = 0) -> list:
    frames = torch.randn(
        1,
        2 * tiny_whisper.NUM_POSITIONS,
        tiny_whisper.NUM_MELS,
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.inference_mode():
        return tiny.model.encode(frames)


def test_a_transcript_goes_through_the_whole_file_in_order(tiny: Whisper, tmp_path: Path) -> None:
    found = Transcriber(tiny, GREEDY).transcribe(record(tmp_path / "a.wav", 2.3))
    assert found.duration_s == 2.3
    assert found.segments
    starts = [segment.start_s for segment in found.segments]
    assert starts == sorted(starts)
    for number, segment in enumerate(found.segments):
        assert 0 <= segment.start_s < segment.end_s <= 2.3
        assert {word.line for word in segment.words} <= {number}
        spoken = "".join(word.word for word in segment.words)
        assert spoken == "".join(segment.text.split())
    assert "".join(found.text.split()) == "".join("".join(one.text.split()) for one in found.segments)


def test_what_is_heard_later_does_not_change_what_was_written(tiny: Whisper, tmp_path: Path) -> None:
    whole = record(tmp_path / "a.wav", 2.3)
    samples, rate_hz = soundfile.read(whole, dtype="float32")
    soundfile.write(tmp_path / "b.wav", np.concatenate([samples, samples[::-1]]), rate_hz)
    transcriber = Transcriber(tiny, GREEDY)
    first, longer = (transcriber.transcribe(tmp_path / name) for name in ("a.wav", "b.wav"))
    sure = [one for one in first.segments if one.end_s < 1.0]
    assert longer.segments[: len(sure)] == tuple(sure)


def test_silence_is_not_written_down(tiny: Whisper, tmp_path: Path) -> None:
    found = Transcriber(tiny, GREEDY).transcribe(record(tmp_path / "a.wav", 2.3, level=0.0))
    assert found == Transcript("", (), "en", 2.3)


def test_errors_name_the_file(tiny: Whisper, tmp_path: Path) -> None:
    transcriber = Transcriber(tiny, GREEDY)
    with pytest.raises(NotFoundError, match=r"gone\.wav"):
        transcriber.transcribe(tmp_path / "gone.wav")
    (tmp_path / "a.txt").write_text("no sound")
    with pytest.raises(MediaError, match=r"a\.txt.*not a sound"):
        transcriber.transcribe(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="'xx'"):
        Transcriber(tiny, TranscribeConfig(language="xx"))
    with pytest.raises(NotFoundError, match=r"config\.json"):
        load_transcriber(tmp_path)


def test_a_language_is_told_where_none_is_given(tiny: Whisper) -> None:
    decoder = WindowDecoder(tiny, DecodingConfig(temperatures=(0.0,)))
    told = decoder.decode(memory(tiny))
    assert told.language in tiny_whisper.LANGUAGES
    assert told.ids == decoder.decode(memory(tiny), told.language).ids


def test_drafts_that_are_no_good_are_written_again(tiny: Whisper) -> None:
    tried: list[float] = []

    class Watched(WindowDecoder):
        def _decode_at(
            self, memory: list, language: str, previous: list[int], temperature: float
        ) -> Hypothesis:
            tried.append(temperature)
            return super()._decode_at(memory, language, previous, temperature)

    strict = DecodingConfig(temperatures=(0.0, 0.8), num_samples=2, min_logprob=0.0, max_no_speech=1)
    best = Watched(tiny, strict).decode(memory(tiny), "en")
    assert tried == [0.0, 0.8]
    assert best.temperature in tried
    tried.clear()
    lenient = strict.model_copy(update={"min_logprob": -99.0, "max_compression": 99.0})
    Watched(tiny, lenient).decode(memory(tiny), "en")
    assert tried == [0.0]
    again = Watched(tiny, strict).decode(memory(tiny), "en")
    assert again == best  # chance is seeded


def test_unlikely_words_over_no_speech_are_silence(tiny: Whisper) -> None:
    decoder = WindowDecoder(tiny, DecodingConfig(temperatures=(0.0,)))
    draft = Hypothesis((), "en", logprob=-1.5, no_speech=0.7, compression=1.0, temperature=0.0)
    assert decoder.is_silence(draft)
    assert not decoder.is_silence(Hypothesis((), "en", -0.5, 0.7, 1.0, 0.0))
    assert not decoder.is_silence(Hypothesis((), "en", -1.5, 0.5, 1.0, 0.0))


@pytest.mark.parametrize(
    ("ids", "pieces", "done"),
    [
        ([100, 7, 8, 150], [((7, 8), 0.0, 1.0)], 300),
        ([100, 7, 150, 150, 8, 175], [((7,), 0.0, 1.0), ((8,), 1.0, 1.5)], 300),
        ([100, 7, 150, 150, 8], [((7,), 0.0, 1.0)], 100),
        ([100, 7, 250, 250, 8, 260, 260, 9], [((7,), 0.0, 3.0), ((8,), 3.0, 3.2)], 300),
        ([105, 7], [((7,), 0.0, 0.1)], 300),
        ([100, 7], [((7,), 0.0, 3.0)], 300),
        ([], [((), 0.0, 3.0)], 300),
    ],
)
def test_segments_by_their_times(ids: list[int], pieces: list[tuple], done: int) -> None:
    found, frames = split(ids, 100, 300)
    assert [(piece.ids, round(piece.start_s, 3), round(piece.end_s, 3)) for piece in found] == pieces
    assert frames == done


def test_words_are_where_the_decoder_looked(tiny: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.vocabulary.encode(" a red frog")
    words = tiny.vocabulary.words(ids)
    moments = np.cumsum([0, 5, 11, 7])  # tokens at which words begin, and the last has ended

    def look(whole: torch.Tensor, memory: object, heads: object) -> tuple[torch.Tensor, torch.Tensor]:
        shares = torch.full((1, 1, whole.shape[1], 53), 1e-3)
        place = 3  # of the mark before the text, which sees what the first id will say
        for number, word in enumerate(words):
            steps = np.linspace(moments[number], moments[number + 1], len(word.ids) + 1).astype(int)
            for low, high in itertools.pairwise(steps):
                shares[0, 0, place, low:high] = 1.0
                place += 1
        shares[0, 0, place, moments[-1] :] = 1.0
        return shares, torch.zeros(1, whole.shape[1], tiny_whisper.vocab_size())

    monkeypatch.setattr(tiny.model, "cross_attention", look)
    timed = word_times(tiny, memory(tiny), ids, "en", 106)
    assert [word.word for word, _ in timed] == ["a", "red", "frog"]
    starts = [word.start_s for word, _ in timed]
    np.testing.assert_allclose(starts, moments[:-1] / 50, atol=0.041)
    assert abs(timed[-1][0].end_s - moments[-1] / 50) < 0.041
    assert sum(count for _, count in timed) == len(ids)
    assert timed[0][0].confidence == pytest.approx(1 / tiny_whisper.vocab_size(), rel=1e-4)


def test_a_pause_before_a_segment_is_not_its_first_word() -> None:
    words = [TimedWord("Red,", 1.0, 2.5), TimedWord("then", 2.5, 4.5)]
    first, second = without_pause(words, 0.6)
    assert (first.start_s, first.end_s, second) == (1.9, 2.5, words[1])
    assert without_pause(words, 1.5) == words
    assert without_pause([], 0.5) == []


def test_words_are_shared_out_by_their_ids() -> None:
    from collections import deque

    words = deque((TimedWord(name, 0.0, 1.0), count) for name, count in (("a", 2), ("b", 1), ("c", 3)))
    assert [word.word for word in take_words(words, 3)] == ["a", "b"]
    assert [word.word for word in take_words(words, 3)] == ["c"]


TRANSCRIPT = Transcript(
    "Go on. Now & then.",
    (
        Segment("Go on.", 0.0, 1.0, (TimedWord("Go", 0.0, 0.5, 0.9, 0), TimedWord("on.", 0.5, 1.0, 0.8, 0))),
        Segment("Now & then.", 2.0, 3.5, (TimedWord("Now & then.", 2.0, 3.5, 0.7, 1),)),
    ),
    "en",
    4.0,
)


def test_files_by_their_ending(tmp_path: Path) -> None:
    texts = {}
    for ending in ("txt", "json", "srt", "vtt", "TextGrid"):
        write_transcript(TRANSCRIPT, tmp_path / f"a.{ending}")
        texts[ending] = (tmp_path / f"a.{ending}").read_text()
    assert texts["txt"] == "Go on.\nNow & then.\n"
    assert json.loads(texts["json"]) == as_json(TRANSCRIPT)
    assert as_json(TRANSCRIPT)["segments"][0]["words"][1] == {
        "word": "on.",
        "start_s": 0.5,
        "end_s": 1.0,
        "confidence": 0.8,
    }
    assert "00:00:02,000 --> 00:00:03,500\nNow & then." in texts["srt"]
    assert "Now &amp; then." in texts["vtt"]
    with pytest.raises(UsageError, match=r"a\.doc"):
        write_transcript(TRANSCRIPT, tmp_path / "a.doc")
