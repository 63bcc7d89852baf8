"""Pictures and sounds written are those that are read again."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from sensorium import media
from sensorium.core.errors import UsageError
from sensorium.media.encoding import (
    PICTURE_FORMATS,
    SOUND_FORMATS,
    check_target,
    wav_header,
    wav_samples,
    write_medium,
)

PICTURE = media.Image(np.repeat(np.arange(0, 210, 10, dtype=np.uint8), 13 * 3).reshape(21, 13, 3))
SOUND = media.Audio(0.5 * np.sin(np.arange(1999, dtype=np.float32) / 7)[:, None], 16_000)


@pytest.mark.parametrize("ending", [*PICTURE_FORMATS, ".PNG"])
def test_pictures_are_read_again(tmp_path: Path, ending: str) -> None:
    write_medium(PICTURE, tmp_path / f"deep/er{ending}")
    again = media.open(tmp_path / f"deep/er{ending}")
    assert isinstance(again, media.Image)
    difference = np.abs(again.pixels.astype(int) - PICTURE.pixels)
    assert difference.max() <= (0 if ending.lower() == ".png" else 12)


@pytest.mark.parametrize("ending", SOUND_FORMATS)
def test_sounds_are_read_again(tmp_path: Path, ending: str) -> None:
    write_medium(SOUND, tmp_path / f"a{ending}")
    again = media.open(tmp_path / f"a{ending}")
    assert isinstance(again, media.Audio)
    assert again.samples.shape == SOUND.samples.shape
    assert np.abs(again.samples - SOUND.samples)[300:-300].max() < (0.05 if ending == ".ogg" else 1e-4)


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    data = wav_header(16_000) + wav_samples(SOUND.samples[:999]) + wav_samples(SOUND.samples[999:])
    assert struct.unpack("<I", data[24:28]) == (16_000,)
    again = media.open(data)
    assert isinstance(again, media.Audio)
    assert np.abs(again.samples - SOUND.samples).max() < 1e-4


def test_what_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "out.bmp", tmp_path / "out", tmp_path / "a.png", tmp_path / "file" / "out.png"):
        with pytest.raises(UsageError, match="cannot write"):
            check_target(path, PICTURE_FORMATS)
    with pytest.raises(UsageError, match=r"give a name that ends in \.wav"):
        write_medium(SOUND, tmp_path / "a.jpg")
    check_target(tmp_path / "new" / "folder" / "out.png", PICTURE_FORMATS)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "file"]
