"""`models --pack`: what is given away is small, answers the same, and names no place of this machine."""

import json
from pathlib import Path

import pytest
import torch

import sensorium as sm
from sensorium.cli import main
from sensorium.core.config import read_toml, to_toml
from sensorium.models.checkpoint import CARD, load, save
from tiny_assistants import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that paints and speaks, its paths absolute, one codec inside and one elsewhere."""
    root = tmp_path_factory.mktemp("secret")
    run = write_run(
        root / "run", {"ask": ["en"], "draw": ["en"], "speak": ["en"]}, ("text", "image", "audio")
    )
    elsewhere = root / "elsewhere" / "audio-codec"
    elsewhere.parent.mkdir()
    (run / "audio-codec").rename(elsewhere)
    model = load(run)
    decoders = dict(model.config.decoders)
    decoders["audio"] = decoders["audio"].model_copy(update={"codec": str(elsewhere)})
    model.config = model.config.model_copy(update={"decoders": decoders})
    save(
        model,
        run,
        card=f"# A model\n\n- ask over {root / 'mine.lance'}: 3 rows, see https://example.org/a/b.\n",
    )
    recipe = read_toml(run / "recipe.toml") | {"start": str(root / "first")}
    recipe["data"]["tasks"][0]["table"] = str(root / "mine.lance")
    (run / "recipe.toml").write_text(to_toml(recipe))
    return run


def test_what_is_packed_answers_the_same_wherever_it_lies(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", str(run), "--pack", str(tmp_path / "given" / "all"), "--json"]) == 0
    packed = tmp_path / "given" / "all"
    assert json.loads(capsys.readouterr().out) == {
        "path": str(packed),
        "bytes": sum(path.stat().st_size for path in packed.rglob("*") if path.is_file()),
    }
    moved = packed.rename(tmp_path / "moved")
    mine, given = sm.load(run), sm.load(moved)
    assert mine.capabilities == given.capabilities
    assert set(given.outputs) == {"text", "image", "audio"}
    kept = given.model.state_dict()
    for name, tensor in mine.model.state_dict().items():
        rows, of = (one.flatten(1) if one.ndim > 1 else one[:, None] for one in (tensor, kept[name]))
        assert ((of - rows).abs() <= rows.abs().amax(1, keepdim=True) / 250).all(), name
    for to in ("image", "audio"):
        ids = [one.generate(["a red tree"], to=to, max_tokens=5).ids for one in (mine, given)]
        assert ids[0] == ids[1]
    assert (moved / "model.safetensors").stat().st_size < 0.5 * (run / "model.safetensors").stat().st_size
    places = [path for path in moved.rglob("*") if path.suffix in {".md", ".toml"}]
    assert len(places) == 7
    assert not any("secret" in path.read_text() for path in places)
    assert "- ask over mine.lance: 3 rows, see https://example.org/a/b." in (moved / CARD).read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--pack", "there"], 2, "--pack needs a run: sensorium models RUN"),
        (["RUN", "--pack", "RUN"], 2, "is the run itself; give another folder"),
        (["nowhere", "--pack", "there"], 4, "no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Path,
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["models", *(str(run) if word == "RUN" else word for word in words)]) == code
    error = capsys.readouterr().err
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error
    assert not (tmp_path / "there").exists()


def test_weights_beyond_half_precision_are_refused(run: Path, tmp_path: Path) -> None:
    model = load(run)
    with torch.no_grad():
        next(model.parameters()).fill_(1e6)
    save(model, tmp_path / "run", card="# A model\n")
    (run / "image-codec").rename(tmp_path / "run" / "image-codec")
    assert main(["models", str(tmp_path / "run"), "--pack", str(tmp_path / "there")]) == 2
    (tmp_path / "run" / "image-codec").rename(run / "image-codec")
