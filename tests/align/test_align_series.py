"""Series against known warps: recordings, videos, numbers, and what is written from them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sensorium.align.align_series import align_series
from sensorium.align.plots import draw_alignment
from sensorium.align.time_stretch import stretch, write_warped
from sensorium.core.errors import MediaError, NotFoundError, UsageError

RATE_HZ = 16_000


def melody(duration_s: float, number: int = 0) -> np.ndarray:
    """Notes of random pitch and length, like nothing that repeats."""
    rng = np.random.default_rng(number)
    parts, total = [], 0.0
    while total < duration_s:
        length = rng.uniform(0.1, 0.4)
        times = np.arange(int(length * RATE_HZ)) / RATE_HZ
        pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
        parts.append(
            sum(np.sin(2 * np.pi * k * pitch * times) / k for k in (1, 2, 3, 5)) * np.exp(-4 * times)
        )
        total += len(times) / RATE_HZ
    tune = 0.2 * np.concatenate(parts)[: int(duration_s * RATE_HZ)]
    return (tune + 1e-4 * rng.standard_normal(len(tune))).astype(np.float32)[:, None]


def clock(duration_s: float, longer: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Moments of a longer version, and what is heard of the original then: now faster, now slower."""
    ends = np.linspace(0, duration_s * longer, 200)
    swing = 0.25 * np.sin(2 * np.pi * ends / (duration_s * longer) * 2)
    return ends, np.clip(np.maximum.accumulate(ends / longer + swing), 0, duration_s)


def write_movie(path: Path, times_s: np.ndarray, moments_s: np.ndarray) -> None:
    """Frames of one scene, a ball on a circle before a changing sky, each shown at its time."""
    rows, columns = np.mgrid[:48, :64]
    with av.open(str(path), "w") as out:
        track = out.add_stream("libx264", rate=30)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.time_base = track.time_base = Fraction(1, 90_000)
        for time_s, moment_s in zip(times_s, moments_s, strict=True):
            y, x = 24 + 16 * np.sin(moment_s * 2.1), 32 + 22 * np.cos(moment_s * 2.1)
            sky = (np.array([90, 120, 160]) + 70 * np.sin(moment_s * np.array([0.5, 0.31, 0.83])))[None, None]
            pixels = np.broadcast_to(sky, (48, 64, 3)).copy()
            pixels[(rows - y) ** 2 + (columns - x) ** 2 < 40] = (250, 220, 40)
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    tune = melody(8.0)
    soundfile.write(folder / "a.wav", tune, RATE_HZ)
    soundfile.write(folder / "b.flac", stretch(tune, RATE_HZ, clock(8.0), 9.6), RATE_HZ)
    return folder / "a.wav", folder / "b.flac"


def test_a_stretched_recording_is_found_and_stretched_back(sounds: tuple[Path, Path], tmp_path: Path) -> None:
    found = align_series(*sounds)
    moments_b, moments_a = clock(8.0)
    truth = np.interp(found.a.times_s, moments_a + 1e-9 * np.arange(200), moments_b)
    assert np.median(np.abs(found.times_b_s - truth)) < 0.03
    assert np.quantile(np.abs(found.times_b_s - truth), 0.95) < 0.1
    assert found.confidence.mean() > 0.8
    write_warped(found, tmp_path / "w.wav")
    warped, rate_hz = soundfile.read(tmp_path / "w.wav")
    assert (len(warped), rate_hz) == (8 * RATE_HZ, RATE_HZ)
    again = align_series(sounds[0], tmp_path / "w.wav")
    assert np.median(np.abs(again.times_b_s - again.a.times_s)) < 0.03


def test_a_sound_lies_within_a_longer_one(sounds: tuple[Path, Path], tmp_path: Path) -> None:
    tune, _ = soundfile.read(sounds[0], dtype="float32")
    soundfile.write(tmp_path / "part.wav", tune[3 * RATE_HZ : 6 * RATE_HZ], RATE_HZ)
    found = align_series(tmp_path / "part.wav", sounds[0], open_begin=True, open_end=True)
    assert np.abs(found.times_b_s - found.a.times_s - 3).max() < 0.1


def test_stretching_keeps_pitch_and_length() -> None:
    times = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)[:, None]
    for factor in (0.6, 1.0, 1.7):
        ends = np.array([0.0, 2 * factor])
        result = stretch(tone, RATE_HZ, (ends, np.array([0.0, 2.0])), 2 * factor)
        assert len(result) == round(2 * factor * RATE_HZ)
        middle = result[len(result) // 4 : 3 * len(result) // 4, 0]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert np.argmax(spectrum) * RATE_HZ / len(middle) == pytest.approx(440, abs=3)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(np.sqrt(0.5), rel=0.1)
    same = stretch(tone, RATE_HZ, (np.array([0.0, 2.0]), np.array([0.0, 2.0])), 2.0)
    assert np.abs(same[800:-800] - tone[800:-800]).max() < 1e-3


def test_a_video_at_another_pace_is_found_and_set_right(tmp_path: Path) -> None:
    moments_b, moments_a = clock(6.0)
    write_movie(tmp_path / "a.mp4", np.arange(150) / 25, np.arange(150) / 25)
    shown = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.07, 160))
    shown = shown[shown < moments_b[-1]]  # a frame rate that varies
    write_movie(tmp_path / "b.mp4", shown, np.interp(shown, moments_b, moments_a))
    found = align_series(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert found.a.kind == "picture"
    truth = np.interp(found.a.times_s, moments_a + 1e-9 * np.arange(200), moments_b) - shown[0]
    assert np.median(np.abs(found.times_b_s - truth)) < 0.05
    write_warped(found, tmp_path / "w.mp4")
    again = align_series(tmp_path / "a.mp4", tmp_path / "w.mp4")
    assert np.median(np.abs(again.times_b_s - again.a.times_s)) < 0.05
    draw_alignment(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_tables_of_numbers(tmp_path: Path) -> None:
    times = np.linspace(0, 1, 101)
    columns = lambda t: np.stack([np.sin(9 * t), np.cos(5 * t + 1)], axis=1)  # noqa: E731
    np.savetxt(tmp_path / "a.csv", columns(times), delimiter=",", header="x,y", comments="")
    np.save(tmp_path / "b.npy", 100 * columns(np.linspace(0, 1, 151) ** 1.3))
    found = align_series(tmp_path / "a.csv", tmp_path / "b.npy")
    truth = 150 * times ** (1 / 1.3)
    assert np.abs(found.times_b_s - truth).mean() < 2
    write_warped(found, tmp_path / "w.npy")
    warped = np.load(tmp_path / "w.npy")
    assert warped.shape == (101, 2)
    assert np.abs(warped / 100 - columns(times)).mean() < 0.05
    report = found.report()
    assert (report["kind"], len(report["path"])) == ("numbers", 101)  # type: ignore[arg-type]


def write_csv(path: Path, **columns: object) -> Path:
    rows = zip(*columns.values(), strict=True)  # type: ignore[call-overload]
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return path


def test_columns_are_paired_by_name(tmp_path: Path) -> None:
    x, y = np.sin(np.arange(31) / 3), np.cos(np.arange(31) / 5)
    a = write_csv(tmp_path / "a.csv", x=x, y=y, only_a=["text"] * 31)
    b = write_csv(tmp_path / "b.csv", y=100 * y, other=np.arange(31), x=x)
    found = align_series(a, b)
    assert found.alignment.distance == pytest.approx(0, abs=1e-4)
    report = found.report()
    assert report["columns"] == ["x", "y"]
    assert report["not_paired"] == "a.csv: only_a; b.csv: other"
    same = align_series(a, write_csv(tmp_path / "c.csv", y=y, x=x))
    assert same.unpaired == "a.csv: only_a"
    (tmp_path / "d.csv").write_text("x;y\n1;2\n")
    (tmp_path / "e.csv").write_text('\ufeff"y","x"\n2,1\n')
    assert align_series(tmp_path / "d.csv", tmp_path / "e.csv").alignment.distance == 0
    np.save(tmp_path / "two.npy", np.stack([x, y], axis=1))
    by_place = align_series(tmp_path / "c.csv", tmp_path / "two.npy")
    assert "columns" not in by_place.report()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("x,y\n1,2\n", "u,v\n1,2\n", "no column is in both: a.csv has x, y and b.csv has u, v"),
        ("x,x\n1,2\n", "x,y\n1,2\n", "two columns are called 'x'"),
        ("x,y\n1,2,3\n", "x,y\n1,2\n", "row 2 has 3 cells"),
        ("x,y\n1,a\n", "x,y\n1,2\n", "table of numbers"),
        ("x,y\n1,nan\n", "x,y\n1,2\n", "finite numbers"),
        ("x,y\n1,2\n", "1,2,3\n", "2 and 3 columns"),
        ("", "1,2\n", "finite numbers"),
    ],
)
def test_columns_that_do_not_pair_are_told(tmp_path: Path, first: str, second: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(first)
    (tmp_path / "b.csv").write_text(second)
    with pytest.raises(UsageError, match=words) as caught:
        align_series(tmp_path / "a.csv", tmp_path / "b.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e200, 1.7e308])
def test_numbers_of_any_size_are_scaled_alike(tmp_path: Path, size: float) -> None:
    x = np.array([0.1, 0.9, -0.4, 0.3, 0.2])
    np.save(tmp_path / "a.npy", np.stack([x, np.full(5, 0.1)], axis=1))
    np.save(tmp_path / "b.npy", np.stack([x * size, np.full(5, 0.3)], axis=1))
    found = align_series(tmp_path / "a.npy", tmp_path / "b.npy")
    assert found.alignment.distance == pytest.approx(0, abs=1e-5)


def test_a_file_with_itself_is_on_the_diagonal(sounds: tuple[Path, Path]) -> None:
    found = align_series(sounds[0], sounds[0])
    assert found.alignment.distance == pytest.approx(0, abs=1e-3)
    np.testing.assert_array_equal(found.times_b_s, found.a.times_s)


def test_what_cannot_be_compared_is_told(sounds: tuple[Path, Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    (tmp_path / "bad.csv").write_text("a,b\n1,x\n")
    (tmp_path / "text.txt").write_text("words")
    np.save(tmp_path / "one.npy", np.arange(9.0))
    np.save(tmp_path / "two.npy", np.ones((9, 2)))
    with pytest.raises(MediaError, match="silent"):
        align_series(sounds[0], tmp_path / "silent.wav")
    with pytest.raises(UsageError, match="table of numbers"):
        align_series(tmp_path / "bad.csv", tmp_path / "one.npy")
    with pytest.raises(UsageError, match="columns"):
        align_series(tmp_path / "one.npy", tmp_path / "two.npy")
    with pytest.raises(UsageError, match="two of a kind"):
        align_series(sounds[0], tmp_path / "one.npy")
    with pytest.raises(MediaError, match="text"):
        align_series(sounds[0], tmp_path / "text.txt")
    with pytest.raises(NotFoundError):
        align_series(sounds[0], tmp_path / "none.wav")
    with pytest.raises(MediaError, match="not a moving picture"):
        align_series(*sounds, by="picture")
    found = align_series(tmp_path / "one.npy", tmp_path / "one.npy")
    with pytest.raises(UsageError, match=r"\.npy"):
        write_warped(found, tmp_path / "w.wav")
