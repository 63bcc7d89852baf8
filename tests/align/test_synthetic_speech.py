"""Words warped onto a recording: made-up words of known sounds, at other paces, with gaps and music."""

import numpy as np
import pytest

from sensorium.align import synthetic_speech as speech
from sensorium.align.mfcc import FRAMES_A_SECOND, AudioFeatures, audio_features, mfcc, silence
from sensorium.align.synthetic_speech import Script, Stop, align_speech
from sensorium.core.errors import UsageError

MELS = 40
QUIET_DB = -90.0


def sounds(count: int, number: int = 0) -> np.ndarray:
    """Spectra that differ like vowels and consonants do: smooth over the bands, (count, 40)."""
    waves = np.cos(np.pi * np.arange(1, 9)[:, None] * (np.arange(MELS) + 0.5) / MELS)
    return np.random.default_rng(number).standard_normal((count, 8)) @ waves * 0.45


def say(
    shapes: np.ndarray, lengths: np.ndarray, tilt: float = 0.0, noise: float = 0.05, number: int = 0
) -> AudioFeatures:
    """One sound after another, each for so many frames, by a voice of its own."""
    frames = np.repeat(shapes, lengths, axis=0) + tilt * np.linspace(-1, 1, MELS)
    frames = frames + noise * np.random.default_rng(number).standard_normal(frames.shape)
    return AudioFeatures(frames.astype(np.float32), np.full(len(frames), -20.0, np.float32))


def hush(num_frames: int) -> AudioFeatures:
    return AudioFeatures(
        np.full((num_frames, MELS), -9.0, np.float32), np.full(num_frames, QUIET_DB, np.float32)
    )


def joined(*parts: AudioFeatures) -> AudioFeatures:
    return AudioFeatures(
        np.concatenate([part.mels for part in parts]), np.concatenate([part.level_db for part in parts])
    )


def case(
    num_words: int, stops: list[Stop], gaps: dict[int, AudioFeatures], pace: float = 1.4, number: int = 0
) -> tuple[AudioFeatures, Script, np.ndarray]:
    """A script of words of five sounds of four frames, its recording, and where each word lies in it."""
    shapes = sounds(5 * num_words, number).reshape(num_words, 5, MELS)
    spoken = say(shapes.reshape(-1, MELS), np.full(5 * num_words, 4))
    script = Script(spoken, np.repeat(np.arange(num_words), 20), stops)
    rng = np.random.default_rng(number + 1)
    parts, truth, at = [hush(23)], [], 23
    for word in range(num_words):
        lengths = np.maximum(2, np.round(4 * pace * rng.uniform(0.7, 1.3, 5))).astype(int)
        said = say(shapes[word], lengths, tilt=0.6, noise=0.15, number=word)
        truth.append((at, at + len(said)))
        parts += [said, *([gaps[word]] if word in gaps else [])]
        at += len(said) + (len(gaps[word]) if word in gaps else 0)
    return joined(*parts, hush(29)), script, np.array(truth)


def errors(recording: AudioFeatures, script: Script, truth: np.ndarray) -> np.ndarray:
    found = align_speech(recording, script)
    return np.abs(np.array([(word.start, word.stop) for word in found]) - truth)


def long_stops(num_words: int, every: int) -> list[Stop]:
    return ["long" if word % every == every - 1 else "none" for word in range(num_words)]


@pytest.mark.parametrize("pace", [0.8, 1.0, 2.3])
def test_words_at_another_pace_by_another_voice(pace: float) -> None:
    recording, script, truth = case(13, long_stops(13, 4), {3: hush(40), 7: hush(90)}, pace)
    assert errors(recording, script, truth).max() <= 3
    assert min(word.confidence for word in align_speech(recording, script)) > 0.7


def test_sounds_between_passages_are_passed_over() -> None:
    music = say(sounds(30, number=99), np.full(30, 7), number=5)
    recording, script, truth = case(12, long_stops(12, 4), {3: music, 7: joined(hush(30), music, hush(20))})
    assert errors(recording, script, truth).max() <= 5


def test_sounds_that_are_told_from_speech_are_left_out_even_where_words_could_hide() -> None:
    hum = say(sounds(3, number=4), np.full(3, 40), number=5)
    recording, script, truth = case(8, long_stops(8, 4), {3: joined(hush(5), hum, hush(5))})
    speech = np.ones(len(recording), np.float32)
    begin = truth[3, 1] + 5
    speech[begin : begin + len(hum)] = 0
    told = AudioFeatures(recording.mels, recording.level_db, speech)
    assert errors(told, script, truth).max() <= 4


def test_a_pause_where_the_text_has_no_stop() -> None:
    recording, script, truth = case(9, long_stops(9, 9), {4: hush(60)})
    assert errors(recording, script, truth).max() <= 3


def test_a_coarse_walk_first_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = {word: hush(30) for word in range(9, 80, 10)}
    recording, script, _ = case(83, long_stops(83, 10), gaps)
    exact = align_speech(recording, script)
    monkeypatch.setattr(speech, "_EXACT_CELLS", 1)
    monkeypatch.setattr(speech, "_BAND_FRAMES", 100)
    assert align_speech(recording, script) == exact


def test_loudness_of_the_recording_changes_nothing() -> None:
    recording, script, _ = case(7, long_stops(7, 3), {2: hush(30)})
    louder = AudioFeatures(recording.mels + np.float32(0.8), recording.level_db + np.float32(8))
    assert align_speech(louder, script) == align_speech(recording, script)


def test_another_text_has_low_confidence() -> None:
    recording, script, _ = case(13, long_stops(13, 4), {3: hush(40)})
    _, other, _ = case(13, long_stops(13, 4), {}, number=77)
    right = np.mean([word.confidence for word in align_speech(recording, script)])
    wrong = np.mean([word.confidence for word in align_speech(recording, other)])
    assert wrong < 0.75 < 0.9 < right


def test_a_word_that_was_not_synthesised_lies_between_its_neighbours() -> None:
    recording, script, _ = case(5, long_stops(5, 5), {})
    skipped = Script(
        script.features, np.where(script.word_of > 1, script.word_of + 1, script.word_of), ["none"] * 6
    )
    found = align_speech(recording, skipped)
    assert found[2].start == found[2].stop == found[1].stop
    assert (found[2].confidence, found[2].is_wildcard) == (0.0, True)


def test_what_cannot_be_aligned_is_told() -> None:
    recording, script, _ = case(7, long_stops(7, 3), {})
    with pytest.raises(UsageError, match="silent"):
        align_speech(hush(200), script)
    with pytest.raises(UsageError, match="no word"):
        align_speech(recording, Script(script.features, np.full(len(script.features), -1), []))
    short = AudioFeatures(recording.mels[:50], recording.level_db[:50])
    with pytest.raises(UsageError, match="longer than the sound"):
        align_speech(short, script)


def test_silence_is_told_beside_noise_and_after_something_loud() -> None:
    level = np.float32([-60] * 100 + [-20] * 100 + [-60] * 100)
    share = silence(level)
    assert share[:95].min() == 1
    assert share[105:195].max() == 0
    assert share[205:].min() == 1


def test_extremes_around_each_place_equal_the_plain_ones() -> None:
    from sensorium.align.mfcc import _around

    values = np.random.default_rng(0).standard_normal(113)
    for width in (1, 2, 7, 50, 300):
        for best in (np.minimum, np.maximum):
            found = _around(values, width, best)
            for place in range(len(values)):
                part = values[max(0, place - width // 2) : max(0, place - width // 2 + width)]
                if place < width // 2:
                    part = values[: place - width // 2 + width]
                assert found[place] == best.reduce(part), (width, place)


def test_blocks_of_any_size_are_heard_alike() -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_000 * 3 + 77)).astype(np.float32)
    whole = audio_features([samples])
    parts = audio_features(np.split(samples, [1, 999, 30_011]))
    np.testing.assert_array_equal(whole.mels, parts.mels)
    assert len(whole) == 3 * FRAMES_A_SECOND
    with pytest.raises(UsageError, match="20 ms"):
        audio_features([samples[:300]])


def test_cepstra_do_not_hear_the_voice() -> None:
    mels = say(sounds(31), np.full(31, 3)).mels
    everything = np.ones(len(mels), bool)
    louder = mfcc(mels + np.float32(1), everything)
    np.testing.assert_allclose(louder, mfcc(mels, everything), atol=1e-3)
    other = (mels + 0.7 * np.cos(np.linspace(0, 3, MELS)) + 0.3).astype(np.float32)
    difference = np.abs(mfcc(mels, everything) - mfcc(other, everything)).mean()
    assert difference < 0.3 * np.abs(mfcc(mels, everything)).mean()  # not 0: what is faint is cut
