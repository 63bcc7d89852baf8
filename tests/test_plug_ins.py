"""Plug-ins: a package that is written only from the guide works, and the core works without any."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "plug-ins.md"
FENCE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def run(code: list[str], folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with `paths` before its others."""
    start = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}; "
    command = [sys.executable, "-c", start + code[0], *code[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def sensorium(words: list[str], folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    return run(["from sensorium.cli import main; sys.exit(main(sys.argv[1:]))", *words], folder, *paths)


def install(folder: Path, groups: dict[str, dict[str, str]], name: str) -> None:
    """What an installer leaves of a package: its metadata with the entry points."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """The package of the guide, and pictures."""
    for name, text in FENCE.findall(GUIDE.read_text(encoding="utf-8")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    install(tmp_path / "src", project["entry-points"], project["name"])
    (tmp_path / "photos").mkdir()
    lines = ["a line without a tab"]
    for number in range(24):
        colour = list(COLOURS)[number % 3]
        Image.new("RGB", (32 + number, 29), COLOURS[colour]).save(tmp_path / "photos" / f"{number}.png")
        lines.append(f"{number}.png\ta {colour} square {number}")
    (tmp_path / "photos" / "list.txt").write_text("\n".join(lines))
    return tmp_path


def test_a_package_from_the_guide_adds_an_encoder_a_source_and_a_command(colours: Path) -> None:
    (console,) = CONSOLE.findall(GUIDE.read_text(encoding="utf-8"))
    install_line, *commands = (line.removeprefix("$ ") for line in console.splitlines())
    assert install_line.startswith("pip install")
    said = {}
    for command in commands:
        words = [one.strip('"') for one in re.findall(r'"[^"]*"|\S+', command)][1:]
        done = sensorium(words, colours, colours / "src")
        partly = words[:2] == ["data", "prepare"]  # the line without a tab
        assert done.returncode == (3 if partly else 0), (command, done.stderr)
        said[words[0] if words[0] != "data" else words[1]] = done.stdout
    assert said["shapes"] == '{"rows": 24, "captions": 24}\n'
    assert "colour-grid" in (colours / "runs" / "colours" / "config.toml").read_text()
    assert "photos" in said["search"] or ".png" in said["search"]
    assert "shapes" in sensorium(["data", "--help"], colours, colours / "src").stdout


def test_what_a_plug_in_brings_is_unknown_without_it(colours: Path) -> None:
    done = sensorium(["data", "prepare", "list:photos/list.txt", "-o", "t.lance"], colours)
    assert done.returncode == 4
    assert not (colours / "t.lance").exists()
    done = run(["from sensorium.encoders import ENCODERS; ENCODERS.get('colour-grid')"], colours)
    assert "unknown encoder 'colour-grid'; known: " in done.stderr


def test_a_plug_in_that_does_not_import_is_one_line(tmp_path: Path) -> None:
    install(tmp_path, {"sensorium.command": {"broken": "nowhere:run"}}, "broken-plug-in")
    done = sensorium(["broken"], tmp_path, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "command 'broken' of package broken-plug-in fails: No module named 'nowhere'" in done.stderr
    assert sensorium(["--help"], tmp_path, tmp_path).returncode == 0


def test_a_root_command_of_a_plug_in_is_called(tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text('def greet(name: str) -> None:\n    print("hi", name)\n')
    install(tmp_path, {"sensorium.command": {"greet": "greeting:greet"}}, "greeting")
    done = sensorium(["greet", "Ann"], tmp_path, tmp_path)
    assert (done.returncode, done.stdout) == (0, "hi Ann\n")
    assert "greet" in sensorium(["--help"], tmp_path, tmp_path).stdout


def test_the_core_loads_no_plug_in(tmp_path: Path) -> None:
    code = "import sensorium.models.multimodal_lm, sensorium.generation, sensorium.assistants; "
    done = run([code + "assert not [name for name in sys.modules if 'composed_world' in name]"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_model_says_which_package_its_extension_needs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "polite.py").write_text(
        "from torch import nn\n"
        "class Polite(nn.Module):\n"
        "    def __init__(self, options, sources):\n"
        "        super().__init__()\n"
        "        self.options = {'package': 'polite-package', **options}\n"
        "    def transform(self, to, instruction):\n"
        "        return f'Please: {instruction}' if to == 'text' else instruction\n"
    )
    install(site, {"sensorium.extension": {"polite": "polite:Polite"}}, "polite-package")
    save = (
        "from multimodal_world import build; from sensorium.models.checkpoint import save\n"
        "from sensorium.models.processor import transform_prompt\n"
        "model = build(extensions={'polite': {}}); model.store_extension_options(); save(model, 'run')\n"
        "print(transform_prompt(model, 'text', 'What?'), transform_prompt(model, 'audio', 'What?'), sep='; ')"
    )
    done = run([save], tmp_path, site, Path(__file__).parent)
    assert done.stdout == "Please: What?; What?\n", done.stderr
    load = "from sensorium.models.checkpoint import load; load('run')"
    assert run([load], tmp_path, site).returncode == 0
    last = run([load], tmp_path).stderr.splitlines()[-1]
    assert last.startswith("sensorium.core.errors.CheckpointError: ")
    assert last.endswith(
        "the model needs the extension 'polite' of a plug-in package; run: pip install polite-package"
    )
