"""The public surface is frozen: a name that comes or goes is a decision, made here."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

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


def packages() -> list[str]:
    return [
        "sensorium",
        *(one.name for one in pkgutil.walk_packages(sensorium.__path__, "sensorium.") if one.ispkg),
    ]


def test_no_public_function_or_class_shares_its_name_with_a_module_beside_it() -> None:
    """Importing the module would put it in the place of the function."""
    for name in packages():
        package = importlib.import_module(name)
        modules = {one.name for one in pkgutil.iter_modules(package.__path__)}
        shared = modules & set(getattr(package, "__all__", ()))
        assert all(isinstance(getattr(package, one), ModuleType) for one in shared), (name, shared)


ANY_ORDER = """
import importlib, pkgutil, random, sys
names, modules, order = {}, sys.argv[2:], random.Random(int(sys.argv[1]))
for package in modules:
    names.update({(package, name): None for name in getattr(importlib.import_module(package), "__all__", ())})
looked_up = sorted(names)
order.shuffle(looked_up)
for package, name in looked_up:
    names[package, name] = getattr(sys.modules[package], name)
    assert names[package, name] is not None, (package, name)
for package in modules:
    for one in pkgutil.iter_modules(sys.modules[package].__path__, package + "."):
        if not one.name.endswith("__main__"):
            importlib.import_module(one.name)
    stars = {}
    exec(f"from {package} import *", stars)
    for (home, name), value in names.items():
        assert getattr(sys.modules[home], name) is value, (home, name, "after", package)
        assert home != package or stars[name] is value, (home, name, "by *")
print("same", len(names))
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_public_names_stay_what_they_are_in_any_order_of_looking_up(seed: int) -> None:
    command = [sys.executable, "-c", ANY_ORDER, str(seed), *packages()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("same"), done.stderr


@pytest.mark.parametrize("first", ["Match", "subsequence"])
def test_the_function_is_there_whichever_name_came_first(first: str) -> None:
    code = f"import sensorium.align as a; a.{first}; print(a.subsequence([1.0], [0.0, 1.0])[0].start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize(
    "code",
    [
        "from sensorium.tasks.subtitles import TimedWord",
        "from sensorium.data.sources import tabular",
        "from sensorium.data.sources.cells import read_rows",
        "import sensorium.data.packages, sensorium.data.sources.packages",
        "from sensorium.data.table import Table",
    ],
)
def test_old_paths_give_what_moved(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_path_that_never_was_is_not_there() -> None:
    for name in ("sensorium.tasks.nothing", "sensorium.data.sources.nothing"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
