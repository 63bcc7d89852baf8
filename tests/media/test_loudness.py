"""Level and speech of a sound track, whatever the blocks in which it comes."""

import numpy as np
import pytest

from sensorium.media.loudness import RATE_HZ, SILENCE_DB, LoudnessMeter


def heard(samples: np.ndarray, block: int = 1024):
    listener = LoudnessMeter()
    for start in range(0, len(samples), block):
        listener.add(samples[start : start + block].astype(np.float32))
    return listener.finish()


def test_levels_are_root_mean_squares():
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 440 * times_s) * np.repeat([1.0, 0.1, 0.0], RATE_HZ)
    track = heard(tone)
    np.testing.assert_allclose(track.level_db[:10], -3.01, atol=0.02)
    np.testing.assert_allclose(track.level_db[10:20], -23.01, atol=0.02)
    np.testing.assert_array_equal(track.level_db[20:], SILENCE_DB)
    assert track.between(0, 1)[0] == pytest.approx(-3.01, abs=0.02)
    assert track.between(0, 2)[0] == pytest.approx(10 * np.log10((0.5 + 0.005) / 2), abs=0.02)
    assert track.between(99, 100) == (SILENCE_DB, 0.0)


@pytest.mark.parametrize("block", [1, 313, 50_000, 10**6])
def test_blocks_do_not_matter(block):
    samples = np.random.default_rng(0).normal(size=1009 if block == 1 else 500_009) * 0.1
    whole, parts = heard(samples, 10**9), heard(samples, block)
    np.testing.assert_allclose(parts.level_db, whole.level_db, atol=1e-4)
    np.testing.assert_allclose(parts.speech, whole.speech, atol=1e-4)
    assert len(parts.level_db) == -(-len(samples) // 1600)


def test_something_like_speech_is_told_from_noise_and_chords():
    """Voiced and unvoiced bursts at the rate of syllables, against what goes on evenly."""
    rng, times_s = np.random.default_rng(0), np.arange(10 * RATE_HZ) / RATE_HZ
    noise = rng.normal(size=len(times_s))
    voice = sum(np.sin(2 * np.pi * 120 * k * times_s) / k for k in range(1, 25))
    turn = (times_s * 4.3) % 1
    spoken = np.where(turn < 0.6, voice * np.sin(np.pi * turn / 0.6), 0)
    spoken += np.where(turn > 0.75, np.diff(noise, append=0) * 0.3, 0)
    chord = sum(np.sin(2 * np.pi * 220 * ratio * times_s) for ratio in (1, 1.25, 1.5))
    likelihood = [float(np.median(heard(0.1 * sound).speech)) for sound in (spoken, chord, noise)]
    assert likelihood[0] > 0.6
    assert max(likelihood[1:]) < 0.2


def test_loudness_does_not_matter_for_speech():
    sound = np.random.default_rng(1).normal(size=5 * RATE_HZ) * np.repeat([1, 0.01] * 20, RATE_HZ // 8)
    np.testing.assert_allclose(heard(0.5 * sound).speech, heard(0.25 * sound).speech, atol=0.05)


def test_nothing_heard():
    track = LoudnessMeter().finish()
    assert len(track.level_db) == len(track.speech) == 0
    assert track.between(0, 1) == (SILENCE_DB, 0.0)
