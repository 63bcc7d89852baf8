"""Every script under `examples/` runs as its first lines say, and finds what it says it finds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.slow


def run_example(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(pattern: str, printed: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, printed)]


def test_captions_never_seen_are_told_apart() -> None:
    recalls = figures(r"R@1 ([\d.]+) of", run_example("learn_shapes.py"))
    assert len(recalls) == 2
    assert min(recalls) > 0.5  # chance: 0.08


def test_registered_encoder_and_loss_learn() -> None:
    assert figures(r"R@1 ([\d.]+)", run_example("own_encoder.py"))[0] > 0.8  # chance: 0.17


def test_tiled_loss_equals_plain_in_less_memory() -> None:
    printed = run_example("tiled_loss.py", "5003")
    (tiled, plain), (tiled_mb, plain_mb) = (
        figures(r"loss ([\d.]+)", printed),
        figures(r"by (\d+) MB", printed),
    )
    assert tiled == pytest.approx(plain, abs=2e-6)
    assert tiled_mb < plain_mb
    assert figures(r"differ by ([\d.e-]+)", printed)[0] < 1e-4


def test_modalities_must_meet_to_be_compared() -> None:
    (average, _), (transformer, alone) = re.findall(
        r"both ([\d.]+), picture alone ([\d.]+)", run_example("fuse_modalities.py")
    )
    assert float(average) < 0.6  # chance: 0.5
    assert float(transformer) > 0.95
    assert 0.4 < float(alone) < 0.6


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_tested(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
    assert f'"{path.name}"' in Path(__file__).read_text()
