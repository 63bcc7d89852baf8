"""`sensorium data` as it is typed: results on stdout, the rest on stderr, exit codes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensorium.cli import main
from sensorium.data.curation.filters import clip_scores
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table


def png(seed: int, size: int = 41) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def src(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    root.mkdir()
    for seed, caption in enumerate(("the red house", "ein Haus und ein Baum", "tree")):
        (root / f"{seed}.png").write_bytes(png(seed))
        (root / f"{seed}.txt").write_text(caption)
    (root / "copy.png").write_bytes(png(0))
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    code = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_prepare_ends_with_one_line_of_counts(
    src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.lance"
    code, lines, _ = run(capsys, "prepare", src, "-o", out, "--workers", 0, "--json")
    assert (code, json.loads(lines[-1])) == (0, {"rows": 4, "added": 4, "failed": 0, "duplicates": 0})
    (src / "bad.png").write_bytes(b"\x89PNG")
    code, lines, errors = run(capsys, "prepare", src, "-o", out, "--workers", 0, "--json")
    assert (code, json.loads(lines[-1])) == (3, {"rows": 4, "added": 0, "failed": 1, "duplicates": 4})
    assert str(tmp_path / "errors.jsonl") in errors
    code, lines, _ = run(capsys, "show", out, "--json", "-n", 1)
    shown = json.loads(lines[-1])
    assert (code, shown["rows"], shown["fields"], shown["failed"]) == (0, 4, {"image": 4, "text": 3}, 1)
    assert shown["examples"] == [
        {"row": 0, "uri": str(src / "0.png"), "fields": "image text", "text": "the red house"}
    ]


def test_prepare_maps_columns(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (src / "t.csv").write_text("p,de,en\n0.png,ein Haus,a house\n")
    arguments = (
        "prepare",
        src / "t.csv",
        "-o",
        tmp_path / "t.lance",
        "--map",
        "image=p,text:de=de",
        "--map",
        "text=en",
    )
    code, _, _ = run(capsys, *arguments, "--workers", 0, "--licence", "MIT", "--source", "mine")
    row = Table.open(tmp_path / "t.lance").rows([0])[0]
    assert (code, row.licence, row.source) == (0, "MIT", "mine")
    assert [(caption.language, caption.text) for caption in row.texts] == [
        ("de", "ein Haus"),
        ("", "a house"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prepare", "none", "-o", "t.lance"), 4, "nothing at none"),
        (("prepare", "src", "-o", "t.lance", "--map", "image"), 2, "ROLE=COLUMN"),
        (("prepare", "src", "-o", "t.lance", "--map", "image=a"), 2, "table files"),
        (("prepare", "src"), 2, "--out"),
        (("show", "none.lance"), 4, "none.lance"),
        (("dedup", "none.lance"), 4, "none.lance"),
        (("filter", "none.lance"), 2, "no filter given"),
        (("filter", "none.lance", "--strict-language"), 2, "--language"),
        (("get", "nothing-of-that-name"), 4, "nothing-of-that-name"),
    ],
)
def test_mistakes_are_one_line(
    src: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(src.parent)
    got, lines, errors = run(capsys, *arguments)
    assert (got, lines) == (code, [])
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_dedup_and_filter_report_and_write(
    src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.lance"
    run(capsys, "prepare", src, "-o", out, "--workers", 0)
    code, lines, errors = run(capsys, "dedup", out, "--json")
    assert (code, json.loads(lines[0])) == (
        0,
        {
            "rows": 4,
            "kept": 3,
            "dropped": 1,
            "reasons": {"repeats another by content": 1},
            "not_compared": 0,
            "repeats": [[3, 0]],
            "out": None,
        },
    )
    run(capsys, "dedup", out, "--by", "phash", "-o", tmp_path / "once.lance")
    assert len(Table.open(tmp_path / "once.lance")) == 3
    code, lines, _ = run(
        capsys, "filter", out, "--language", "en", "--min-words", "2", "-o", tmp_path / "f.lance"
    )
    assert lines == ["\trows", "in the table\t4", "language not en\t1", "fewer than 2 words\t1", "kept\t2"]
    assert [Path(uri).name for uri in Table.open(tmp_path / "f.lance").column("uri")] == ["0.png", "copy.png"]
    code, _, errors = run(capsys, "filter", out, "--min-px", "1", "-o", tmp_path / "f.lance")
    assert (code, len(Table.open(out))) == (1, 4)
    assert "exists" in errors


def test_filter_by_clip_score_embeds_first(
    tiny_table: Table, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tiny_table.rows([0])[0]
    assert odd.image is not None
    tiny_table.add([Sample("odd", image=odd.image, texts=[Caption("en", "a blue square")])])
    code, lines, _ = run(
        capsys, "filter", tiny_table.path, "--min-clip-score", "0.3", "--model", tiny_run, "--json"
    )
    report = json.loads(lines[-1])
    assert code == 0
    (fingerprint,) = tiny_table.fields_embedded()
    scores = clip_scores(tiny_table, fingerprint)
    assert scores[8] < 0.3 < np.median(scores)
    assert report["kept"] == (scores >= 0.3).sum()
    code, lines, _ = run(
        capsys,
        "dedup",
        tiny_table.path,
        "--by",
        "embedding",
        "--cosine",
        "0.9999",
        "--model",
        tiny_run,
        "--json",
    )
    assert [8, 0] in json.loads(lines[-1])["repeats"]
