"""The public surface is frozen: a name that comes or goes is a decision, made here."""

import importlib
import subprocess
import sys

import pytest

import sensorium

PUBLIC = (
    "Audio",
    "Embeddings",
    "Image",
    "Limits",
    "SensoriumError",
    "Table",
    "Text",
    "Video",
    "__version__",
    "align",
    "fusion",
    "load",
    "losses",
    "open",
)
HEAVY = (
    "torch",
    "lance",
    "lancedb",
    "pyarrow",
    "numpy",
    "av",
    "PIL",
    "soundfile",
    "pydantic",
    "typer",
    "rich",
)


def loaded_by(statement: str) -> set[str]:
    """Heavy packages that a fresh interpreter has after a statement."""
    code = f"import sys\n{statement}\nprint('loaded', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded")[2].split())


def test_public_names_are_those_agreed_on() -> None:
    assert tuple(sorted(sensorium.__all__)) == tuple(sorted(PUBLIC))
    assert len(sensorium.__all__) <= 20


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(sensorium, name)
    assert name == "__version__" or (value.__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = sensorium.unknown


def test_names_are_listed() -> None:
    assert set(dir(sensorium)) == set(PUBLIC)


def test_losses_take_unit_rows() -> None:
    losses = importlib.import_module("sensorium.losses")
    assert callable(losses.info_nce)
    assert callable(losses.sigmoid)


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_by("import sensorium; dir(sensorium)") == set()


def test_errors_need_neither_torch_nor_lance() -> None:
    assert not loaded_by("import sensorium; sensorium.SensoriumError") & {"torch", "lance", "lancedb"}
