"""The quickstart as a person runs it; packages are fetched once into the user's cache."""

import json
from pathlib import Path

import pytest
from PIL import Image

from sensorium.cli import main


@pytest.mark.slow
@pytest.mark.network
def test_the_quickstart_trains_measures_searches_and_runs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quickstart"
    assert main(["quickstart", "--out", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    found = first["metrics"]["image->text"]
    assert found["R@10"] > 3 * found["chance@10"]
    assert len(first["searches"]) == 6
    assert all(len(one["hits"]) == 5 for one in first["searches"])
    assert any(
        "fruit" in one["query"] and "pple" in one["hits"][0]["texts"]["en"] for one in first["searches"]
    )
    with Image.open(first["sheet"]) as sheet:
        assert sheet.width > 1000
    assert Path(first["page"]).read_text().count("<section>") == 6
    assert main(["quickstart", "--out", str(out), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["seconds"] < first["seconds"]
    assert second["metrics"] == first["metrics"]
