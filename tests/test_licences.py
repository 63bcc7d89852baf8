"""What the wheel holds and says of its licence; what derives from others' data lies beside its own."""

import gzip
import importlib
import json
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import sensorium as sm
from sensorium.assistants import capabilities
from sensorium.assistants.capabilities import first_model
from sensorium.core.errors import NotFoundError

REPOSITORY = Path(__file__).parents[1]
DERIVED = ("checkpoints", "docs/images")
"""Folders with content derived from data under GPL-2.0."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    wheels = importlib.import_module("hatchling.builders.wheel")
    builder = wheels.WheelBuilder(str(REPOSITORY))
    (made,) = builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return zipfile.ZipFile(made)


def test_the_wheel_is_code_and_recipes_under_one_licence(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if not name.endswith("/")]
    tops = {name.split("/")[0] for name in names}
    assert tops == {"sensorium", next(top for top in tops if top.endswith(".dist-info"))}
    kinds = {Path(name).suffix for name in names if name.startswith("sensorium/")}
    assert kinds <= {".py", ".toml", ".typed", ".css", ".j2", ".tsv"}, kinds  # no weights, texts or pictures
    assert not [name for name in names if "checkpoints" in name]
    assert "sensorium/recipes/listen.toml" in names
    info = next(top for top in tops if top.endswith(".dist-info"))
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    licence = wheel.read(f"{info}/licenses/LICENSE")
    assert licence == (REPOSITORY / "LICENSE").read_bytes()
    assert b"Apache License" in licence


def test_nothing_in_the_wheel_is_a_caption_of_the_stamps(wheel: zipfile.ZipFile) -> None:
    packed = REPOSITORY / "checkpoints" / "captions" / "extensions.knn_captions.texts.txt.gz"
    captions = {text for text in json.loads(gzip.decompress(packed.read_bytes())) if len(text) > 24}
    assert len(captions) > 100
    whole = "\n".join(
        wheel.read(name).decode() for name in wheel.namelist() if name.endswith((".py", ".toml", ".tsv"))
    )
    assert not [caption for caption in captions if caption in whole]


def test_the_source_archive_leaves_out_what_is_derived(tmp_path: Path) -> None:
    archives = importlib.import_module("hatchling.builders.sdist")
    (made,) = archives.SdistBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(made) as archive:
        names = [name.split("/", 1)[-1] for name in archive.getnames()]
    assert "src/sensorium/__init__.py" in names
    assert not [name for name in names if name.startswith(DERIVED)]


@pytest.mark.parametrize("folder", DERIVED)
def test_what_is_derived_lies_beside_its_licence_which_readme_names(folder: str) -> None:
    notice = (REPOSITORY / folder / "LICENSE").read_text()
    assert notice.startswith("SPDX-License-Identifier: GPL-2.0-only\n")
    assert "tuxpaint-stamps-default" in notice
    for readme in ("README.md", "README.zh.md"):
        assert f"{folder}/LICENSE" in (REPOSITORY / readme).read_text()


def test_the_text_of_the_licence_is_there() -> None:
    text = (REPOSITORY / "checkpoints" / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2, June 1991" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_without_a_checkout_one_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(capabilities, "shipped_dir", lambda name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for ask in (lambda: sm.load("assistant"), lambda: first_model("draw")):
        with pytest.raises(NotFoundError, match="give --model checkpoints/assistant of a checkout") as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert "GPL-2.0" in str(caught.value)
