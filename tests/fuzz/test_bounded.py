"""The harness of the fuzz tests sees what it must see: raw errors, too much memory, endless work, a crash."""

import os
import signal
from pathlib import Path

import bounded
import pytest

from sensorium.core.errors import MediaError


def misbehave(path: Path) -> str:
    """Does what the file says."""
    match path.read_text():
        case "value":
            return "fine"
        case "refused":
            raise MediaError("x: is broken")
        case "two lines":
            raise MediaError("x: is\nbroken")
        case "escaped":
            raise KeyError("rope")
        case "memory":
            return str(len(b"x" * (bounded.MEMORY_BYTES + (64 << 20))))
        case "endless":
            while True:
                pass
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError(path)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    good = tmp_path_factory.mktemp("bounded") / "good"
    good.write_text("value")
    with bounded.BoundedReader("test_bounded:misbehave", good, cpu_s=1) as reader:
        yield reader


def run(reader, tmp_path, text):
    path = tmp_path / "input"
    path.write_text(text)
    return reader(path)


@pytest.mark.parametrize("text", ["value", "refused"])
def test_sound(reader, tmp_path, text):
    outcome = run(reader, tmp_path, text)
    assert outcome.kind == text
    bounded.assert_sound(outcome)


@pytest.mark.parametrize("text", ["two lines", "escaped", "memory", "crash"])
def test_unsound(reader, tmp_path, text):
    with pytest.raises(AssertionError):
        bounded.assert_sound(run(reader, tmp_path, text))
    assert run(reader, tmp_path, "value").kind == "value"  # the next input has a child again


@pytest.mark.slow
def test_endless_work_is_ended(reader, tmp_path):
    assert run(reader, tmp_path, "endless").kind == "killed"
