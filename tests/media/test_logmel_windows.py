"""Windows over a stream: the frames of the whole sound, in the memory of one window."""

import numpy as np
import pytest

from sensorium.media.logmel import HOP, FrameWindows, log_mel

T, M = 37, 13


def sound(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, num_frames * HOP + 7).astype(np.float32)


def blocks(samples: np.ndarray, size: int = 1013) -> list[np.ndarray]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def scaled(frames: np.ndarray) -> np.ndarray:
    return (np.maximum(frames, frames.max() - 8) + 4) / 4


def test_windows_are_parts_of_the_whole() -> None:
    samples = sound(101)
    whole = log_mel(np.pad(samples, (0, 5 * HOP)), num_mels=M)
    windows = FrameWindows(blocks(samples), M, T)
    for start, real in ((0, 37), (11, 37), (11, 37), (64, 37), (70, 31), (100, 1)):
        window = windows.window(start)
        assert window.num_real == real
        part = whole[start : start + real]
        np.testing.assert_allclose(window.frames[:real], scaled(part), atol=1e-5)
        assert window.peak == pytest.approx(part.max(), abs=1e-4)
        assert not window.frames[real:].any()
    assert windows.window(101).num_real == 0


@pytest.mark.parametrize("size", [1, 160, 100_000])
def test_how_blocks_are_cut_changes_nothing(size: int) -> None:
    samples = sound(23)
    windows = FrameWindows(blocks(samples, size), M, T)
    np.testing.assert_array_equal(windows.window(0).frames, FrameWindows([samples], M, T).window(0).frames)


def test_a_stream_is_read_no_further_than_needed() -> None:
    read = 0

    def stream() -> object:
        nonlocal read
        for block in blocks(sound(1000)):
            read += 1
            yield block

    windows = FrameWindows(stream(), M, T)
    windows.window(0)
    assert read <= (T + 4) * HOP / 1013 + 1
    windows.window(500)
    assert len(windows._samples) < (T + 12) * HOP


def test_silence_and_nothing() -> None:
    assert FrameWindows([], M, T).window(0).num_real == 0
    assert FrameWindows([np.zeros(HOP - 1, np.float32)], M, T).window(0).num_real == 0
    assert FrameWindows([np.zeros(5 * HOP, np.float32)], M, T).window(0).peak == -10
