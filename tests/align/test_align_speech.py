"""Speech alignment from files to words: by emissions without a synthesiser, by espeak-ng with it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium.align.forced_alignment import align_speech, guess_language, read_emissions, read_text
from sensorium.core.errors import MediaError, NotFoundError, SensoriumError, UsageError

LABELS = ["<pad>", "|", *"abcdefghijklmnopqrstuvwxyz"]


def write_emissions(path: Path, heard: str, **changes: object) -> Path:
    """Emissions of a recogniser that is nearly sure; `_` is the blank."""
    probs = np.full((len(heard), len(LABELS)), 0.002)
    for frame, char in enumerate(heard):
        probs[frame, 0 if char == "_" else LABELS.index(char)] = 1
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    np.savez(path, **({"log_probs": log_probs, "labels": LABELS, "frame_s": 0.02} | changes))
    return path


def test_emissions_give_times_and_digits_get_what_is_left(tmp_path: Path) -> None:
    file = write_emissions(tmp_path / "e.npz", "__the_|three|ca_ts_|sit____", separator=1)
    words = align_speech(tmp_path / "unused.wav", "The 3 cats\nsit.", emissions=file)
    assert [word.word for word in words] == ["The", "3", "cats", "sit."]
    assert [word.line for word in words] == [0, 0, 0, 1]
    assert [(word.start_s, word.end_s) for word in words] == [
        (0.04, 0.1),
        (0.14, 0.24),
        (0.26, 0.36),
        (0.4, 0.46),
    ]
    assert min(words[0].confidence, words[2].confidence, words[3].confidence) > 0.9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": LABELS[:-1]}, "27 labels"),
        ({"frame_s": 0}, "positive frame_s"),
        ({"log_probs": np.zeros(3)}, "expected"),
        ({"blank": 99}, "blank"),
    ],
)
def test_wrong_emissions_are_told(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    file = write_emissions(tmp_path / "e.npz", "_a_", **changes)
    with pytest.raises(UsageError, match=said):
        align_speech(tmp_path / "unused.wav", "a", emissions=file)


def test_files_that_are_no_emissions(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="npz"):
        read_emissions(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(UsageError, match="expected"):
            read_emissions(tmp_path / name)


def test_text_comes_from_words_or_files(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ein Hund und eine Katze", "utf-8")
    assert guess_language(tmp_path / "t.txt") == ("de", True)
    assert read_text("no_such_file.txt") == "no_such_file.txt"
    with pytest.raises(NotFoundError):
        read_text(tmp_path / "none.txt")
    soundfile.write(tmp_path / "s.wav", np.zeros(800), 8000)
    with pytest.raises(MediaError, match="expected a text"):
        read_text(tmp_path / "s.wav")


def test_no_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no words"):
        align_speech(tmp_path / "a.wav", " \n ")


TEXT = "The frog sat by the river. It had 3 small stones!\nThen the rain came, and the frog went home."


def spoken(
    rate_hz: int, channels: int = 1, gap_s: float = 1.5
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Sentences of TEXT by another voice and pace, with silence between; the place of each sentence."""
    import soxr

    from sensorium.align.text_lines import split_lines
    from sensorium.data.collections.espeak import speak

    parts, places, at = [np.zeros(rate_hz)], [], 1.0
    for line in split_lines(TEXT):
        speech = speak(line.text, "en-gb", variant="f2", words_per_minute=140, pitch=70)
        said = soxr.resample(speech.samples, speech.rate_hz, rate_hz)
        places.append((at, at + speech.words[-1].stop_s))
        parts += [said, np.zeros(round(gap_s * rate_hz))]
        at += len(said) / rate_hz + gap_s
    noise = np.random.default_rng(0).standard_normal((sum(map(len, parts)), channels)) * 1e-3
    return np.concatenate(parts)[:, None] * 0.5 + noise, places


@pytest.mark.network
@pytest.mark.parametrize(
    ("rate_hz", "channels", "ending"), [(44_100, 2, "flac"), (8_000, 1, "wav"), (16_000, 1, "ogg")]
)
def test_sentences_of_another_voice_are_found(
    tmp_path: Path, rate_hz: int, channels: int, ending: str
) -> None:
    samples, places = spoken(rate_hz, channels)
    file = tmp_path / f"speech.{ending}"
    soundfile.write(file, samples, rate_hz)
    words = align_speech(file, TEXT)
    for number, (start_s, end_s) in enumerate(places):
        own = [word for word in words if word.line == number]
        assert abs(own[0].start_s - start_s) < 0.1
        assert abs(own[-1].end_s - end_s) < 0.15
    assert [word.word for word in words] == TEXT.split()
    assert np.mean([word.confidence for word in words]) > 0.8


@pytest.mark.network
def test_the_wrong_words_are_not_trusted(tmp_path: Path) -> None:
    samples, _ = spoken(16_000)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    right = align_speech(tmp_path / "a.wav", TEXT, language="en")
    text = "Ωραία ημέρα για έναν περίπατο στο δάσος. Η θάλασσα είναι ήσυχη σήμερα το πρωί."
    wrong = align_speech(tmp_path / "a.wav", text, language="el")
    assert np.mean([word.confidence for word in wrong]) < np.mean([word.confidence for word in right]) - 0.2


@pytest.mark.network
def test_bad_sounds_and_texts_are_one_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(32_000), 16_000)
    noise = np.random.default_rng(0).standard_normal(16_000)
    soundfile.write(tmp_path / "steady.wav", 0.1 * noise, 16_000)
    soundfile.write(tmp_path / "short.wav", 0.1 * noise * np.sin(np.arange(16_000) / 500) ** 4, 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEnothing")
    cases = [
        ("silent.wav", "A frog.", "en", "silent"),
        ("steady.wav", "A frog.", "en", "steady noise"),
        ("short.wav", "A frog " * 50, "en", "longer than the sound"),
        ("short.wav", "A frog.", "tlh-x", "does not support"),
        ("short.wav", "— …", "en", "no word"),
        ("broken.wav", "A frog.", "en", "broken.wav"),
        ("none.wav", "A frog.", "en", "none.wav"),
    ]
    for name, text, language, said in cases:
        with pytest.raises(SensoriumError, match=said) as raised:
            align_speech(tmp_path / name, text, language=language)
        assert "\n" not in str(raised.value)
