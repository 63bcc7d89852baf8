"""From sources to a table: right rows, reasoned errors, reruns, and workers that may die."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.data.curation.phash import perceptual_hash
from sensorium.data.ingest import workers as workers_module
from sensorium.data.ingest.errors import ErrorLog, read_failures
from sensorium.data.ingest.prepare import Counts, Options, fill, prepare
from sensorium.data.ingest.sources import Blob, Failure, Item
from sensorium.data.ingest.validate import Outcome, validate
from sensorium.data.ingest.workers import WorkerPool
from sensorium.data.table.sample import Region
from sensorium.data.table.table import Table
from sensorium.media import Limits

HERE = Options(num_workers=0)


def png(seed: int = 0, width: int = 53, height: int = 41) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def wav(seconds: float = 0.25) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(int(8000 * seconds)) / 9), 8000, format="WAV")
    return buffer.getvalue()


def settle(folder: Path) -> None:
    """Make files old, as those of a person are: times of the last moment are not trusted."""
    import time

    time.sleep(0.12)
    assert folder.exists()


def small_folder(root: Path) -> Path:
    root.mkdir()
    for seed in range(3):
        (root / f"{seed}.png").write_bytes(png(seed))
        (root / f"{seed}.txt").write_text(f"number {seed}")
    (root / "0.wav").write_bytes(wav())
    (root / "broken.png").write_bytes(png(9)[:99])
    return root


def test_a_folder_becomes_rows_with_what_was_measured(tmp_path: Path) -> None:
    src = small_folder(tmp_path / "src")
    out = tmp_path / "deep" / "t.lance"
    seen: list[tuple[int, str]] = []
    counts = prepare(src, out, HERE, progress=lambda done, total, message: seen.append((done, message)))
    assert counts == Counts(rows=3, added=3, failed=1, duplicates=0)
    first = Table.open(out).rows([0])[0]
    assert (first.image, first.audio) == ((src / "0.png").read_bytes(), (src / "0.wav").read_bytes())
    assert [caption.text for caption in first.texts] == ["number 0"]
    assert (first.width_px, first.height_px, first.duration_s) == (53, 41, 0.25)
    assert first.phash == perceptual_hash(np.asarray(Image.open(src / "0.png")))
    assert (first.uri, first.meta["audio_uri"]) == (str(src / "0.png"), str(src / "0.wav"))
    assert first.source == "src"
    (line,) = [json.loads(line) for line in (out.parent / "errors.jsonl").read_text().splitlines()]
    assert line.pop("reason")
    assert line == {"path": str(src / "broken.png"), "stage": "decode", "table": "t.lance"}
    assert seen[-1][0] == 4


def test_a_rerun_adds_only_what_is_new_and_reads_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = small_folder(tmp_path / "src")
    settle(src)
    out = tmp_path / "t.lance"
    prepare(src, out, HERE)
    read: list[str] = []

    def spying(item: Item, limits: Limits, isolate: bool = False) -> Outcome:
        read.append(Path(item.uri).name)
        return validate(item, limits, isolate)

    monkeypatch.setattr(workers_module, "validate", spying)
    assert prepare(src, out, HERE) == Counts(rows=3, added=0, failed=1, duplicates=3)
    assert read == ["broken.png"]
    (src / "3.png").write_bytes(png(3))
    (src / "copy.png").write_bytes(png(1))
    (src / "copy.txt").write_text("number 1")
    (src / "2.txt").write_text("another caption")
    (src / "broken.png").write_bytes(png(9))
    read.clear()
    assert prepare(src, out, HERE) == Counts(rows=6, added=3, failed=0, duplicates=3)
    assert read == ["2.png", "3.png", "broken.png", "copy.png"]
    assert not (tmp_path / "errors.jsonl").exists()
    assert [row.uri for row in Table.open(out).rows([3, 4, 5])] == [
        str(src / name) for name in ("2.png", "3.png", "broken.png")
    ]


def test_a_changed_file_of_the_same_size_is_seen(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    file = src / "a.txt"
    out = tmp_path / "t.lance"
    for number in range(4):
        file.write_text(f"text {number}")
        os.utime(file, ns=(10**18, 10**18))
        assert prepare(src, out, HERE).added == 1


def test_equal_inputs_are_one_row(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in ("x", "y", "z"):
        (src / name).mkdir(parents=True)
        (src / name / "a.png").write_bytes(png(5))
    assert prepare(src, tmp_path / "t.lance", HERE) == Counts(rows=1, added=1, failed=0, duplicates=2)


def test_a_bad_part_costs_only_itself_and_is_told_every_time(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    (src / "a.png").write_bytes(png())
    (src / "a.wav").write_bytes(wav()[:30])
    settle(src)
    for added in (1, 0):
        counts = prepare(src, tmp_path / "t.lance", HERE)
        assert (counts.rows, counts.added, counts.failed) == (1, added, 1)
        assert [Path(failure.uri).name for failure in read_failures(tmp_path / "t.lance")] == ["a.wav"]


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    (src / "a.png").write_bytes(wav())
    (src / "b").write_bytes(png())
    (src / "c.gif").write_bytes(png(1))
    (src / "c.png").write_bytes(png(2))
    (src / "d.xyz").write_text("words")
    counts = prepare(src, tmp_path / "t.lance", HERE)
    assert counts == Counts(rows=4, added=4, failed=1, duplicates=0)
    table = Table.open(tmp_path / "t.lance")
    held = {Path(row.uri).name: row.fields for row in table.rows(range(4))}
    assert held == {"a.png": ("audio",), "b": ("image",), "c.gif": ("image",), "c.png": ("image",)}
    assert "rename a text file to .txt" in read_failures(table.path)[0].reason


def test_tars_and_table_files_fill_the_same_table(tmp_path: Path) -> None:
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as file:
        for name, content in (("0.png", png(1)), ("0.txt", b"one"), ("1.png", b"no")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    settle(shard)
    out = tmp_path / "t.lance"
    assert prepare(shard, out, HERE) == Counts(rows=1, added=1, failed=1, duplicates=0)
    assert prepare(str(shard), out, HERE) == Counts(rows=1, added=0, failed=1, duplicates=1)
    (tmp_path / "two.png").write_bytes(png(2))
    (tmp_path / "t.csv").write_text("file,title,speech\ntwo.png,two,\n")
    options = Options(num_workers=0, columns={"image": ["file"], "text:en": ["title"]}, licence="MIT")
    assert prepare(tmp_path / "t.csv", out, options).rows == 2
    row = Table.open(out).rows([1])[0]
    assert ([(c.language, c.text) for c in row.texts], row.licence) == ([("en", "two")], "MIT")
    assert [failure.uri for failure in read_failures(out)] == [f"{shard}#1.png"]


def test_spoken_captions_keep_their_language(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "t.jsonl").write_text('{"i": "a.png", "s": "a.wav"}\n{"i": "a.wav", "s": "a.png"}\n')
    options = Options(num_workers=0, columns={"image": ["i"], "speech:de": ["s"]})
    counts = prepare(tmp_path / "t.jsonl", tmp_path / "t.lance", options)
    assert (counts.added, counts.failed) == (2, 1)
    (clip,) = Table.open(tmp_path / "t.lance").rows([0])[0].speech
    assert (clip.language, clip.data) == ("de", wav())


def test_wrong_sources_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "a.zip.d").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("mine")
    out = tmp_path / "t.lance"
    with pytest.raises(NotFoundError, match="nothing at"):
        prepare(tmp_path / "none", out, HERE)
    with pytest.raises(UsageError, match="is not a source"):
        prepare(tmp_path / "a.zip", out, HERE)
    with pytest.raises(UsageError, match="--map"):
        prepare(tmp_path / "src", out, Options(columns={"image": ["a"]}))
    with pytest.raises(NotFoundError):
        prepare(tmp_path / "none.csv", out, HERE)
    assert not out.exists()
    with pytest.raises(TableError, match="not a media table"):
        prepare(tmp_path / "a.zip.d", tmp_path / "src", HERE)
    with pytest.raises(UsageError, match="both source and table"):
        prepare(tmp_path / "src", tmp_path / "src", HERE)


def test_batches_are_committed_as_they_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.data.ingest.prepare.BATCH_ROWS", 3)
    table = Table.create(tmp_path / "t.lance")

    def stream() -> list[Item]:
        return [Item(f"{n}", texts=(("", f"text {n}"),)) for n in range(7)]

    def breaking() -> object:
        yield from stream()
        raise KeyboardInterrupt

    on_disk: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fill(table, breaking(), HERE, progress=lambda done, total, message: on_disk.append(len(table)))  # type: ignore[arg-type]
    assert sorted(set(on_disk)) == [0, 3, 6, 7]
    assert fill(table, stream(), HERE) == Counts(rows=7, added=0, failed=0, duplicates=7)


def test_workers_give_the_same_table_as_none(tmp_path: Path) -> None:
    src = small_folder(tmp_path / "src")
    here, there = tmp_path / "a" / "t.lance", tmp_path / "b" / "t.lance"
    assert prepare(src, here, HERE) == prepare(src, there, Options(num_workers=2))
    assert Table.open(here).ids == Table.open(there).ids
    assert (here.parent / "errors.jsonl").read_text() == (there.parent / "errors.jsonl").read_text()


def test_a_worker_that_hangs_or_dies_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a decoder: what it meets in the item, it does to its process."""
    broken = tmp_path / "stand_in.py"
    broken.write_text(
        "import os, signal, time\n"
        "from sensorium.data.ingest import workers\n"
        "real = workers.validate\n"
        "def validate(item, limits, isolate=False):\n"
        "    if item.uri == 'hang': time.sleep(60)\n"
        "    if item.uri == 'stuck': signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(60)\n"
        "    if item.uri == 'crash': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if item.uri == 'quit': os._exit(3)\n"
        "    if item.uri == 'chatter': os.write(1, b'garbage on stdout'); print('more')\n"
        "    if item.uri == 'greedy': bytearray(1 << 34)\n"
        "    return real(item, limits, isolate)\n"
        "workers.validate = validate\n"
        "workers._serve()\n"
    )
    monkeypatch.setattr(workers_module, "_GRACE_S", 0.3)
    monkeypatch.setattr(workers_module, "_COMMAND", [sys.executable, str(broken)])
    names = ["a", "hang", "b", "crash", "stuck", "c", "quit", "chatter", "greedy", "d"]
    with WorkerPool(2, Limits(timeout_s=5.0)) as pool:
        jobs = [Item(name, texts=(("", name),)) for name in names]
        found = list(pool.map([*jobs, Failure("known", "read", "bad")]))
    reasons = {
        o.failures[0].uri: o.failures[0].reason for o in found if isinstance(o, Outcome) and o.failures
    }
    assert [o.item.uri for o in found if isinstance(o, Outcome)] == names
    assert [s.uri for o in found if isinstance(o, Outcome) for s in o.samples] == [
        "a",
        "b",
        "c",
        "chatter",
        "d",
    ]
    assert "longer than 5 s" in reasons["hang"]
    assert "longer than 5 s" in reasons["stuck"]
    assert "SIGSEGV" in reasons["crash"]
    assert "exit code 3" in reasons["quit"]
    assert "greedy" in reasons
    assert found[-1] == Failure("known", "read", "bad")


def test_hostile_files_each_give_a_row_or_one_reason(tmp_path: Path, hostile_corpus: dict[str, str]) -> None:
    src = tmp_path / "hostile"
    limits = Limits(timeout_s=10.0)
    counts = prepare(src, tmp_path / "t.lance", Options(num_workers=2, limits=limits))
    table = Table.open(tmp_path / "t.lance")
    failures = {Path(failure.uri).name: failure for failure in read_failures(table.path)}
    held: dict[str, tuple[str, ...]] = {}
    for row in table.rows(range(len(table)), columns=["uri", "image", "audio", "video", "texts", "meta"]):
        held[Path(row.uri).name] = row.fields
        for kind in ("image", "audio", "video"):
            if f"{kind}_uri" in row.meta:
                held[Path(str(row.meta[f"{kind}_uri"])).name] = (kind,)
    assert len(failures) == counts.failed
    assert not set(held) & set(failures)
    for name, expected in hostile_corpus.items():
        if expected in ("refused", "limit"):
            assert name in failures, name
            assert failures[name].reason, name
        elif expected == "text":
            assert name in held or name in failures, name
        else:
            assert expected in held.get(name, ()), (name, failures.get(name))


@pytest.fixture
def hostile_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
    import hostile

    written: dict[str, str] = hostile.write_corpus(tmp_path / "hostile")
    return written


def test_errors_survive_a_cut_line_and_other_tables(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    first = ErrorLog(tmp_path / "a.lance")
    first.add(Failure("x", "read", "one"))
    first.add(Failure("x", "read", "one"))
    first.flush()
    with path.open("a") as file:
        file.write('{"path": "y", "sta')
    second = ErrorLog(tmp_path / "b.lance")
    second.add(Failure("x", "decode", "two"))
    second.flush()
    assert [failure.reason for failure in read_failures(tmp_path / "a.lance")] == ["one"]
    assert [failure.reason for failure in read_failures(tmp_path / "b.lance")] == ["two"]
    third = ErrorLog(tmp_path / "a.lance")
    third.forget(["x"])
    third.close()
    assert read_failures(tmp_path / "a.lance") == []
    assert len(path.read_text().splitlines()) == 1


def test_inline_bytes_do_not_come_back_from_workers() -> None:
    outcome = validate(Item("x", (Blob("x", data=png()),)), Limits())
    assert outcome.samples[0].image == png()
    assert outcome.item.blobs[0].data is None


def test_no_row_ends_a_run_or_costs_those_that_wait(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    (src / "good.png").write_bytes(png(1))
    (src / "folder.png").mkdir()
    os.mkfifo(src / "pipe.png")
    lines = [
        {"image": "good.png", "caption": "first"},
        {"caption": "a \ud800 b"},
        {"image": "good.png", "caption": "a \udfff b"},
        {"image": "folder.png", "caption": "x"},
        {"image": "pipe.png", "caption": "x"},
        {"image": "gone.png", "caption": "x"},
        {"image": "good.png", "caption": json.loads("[" * 900 + '"deep"' + "]" * 900)},
        {"image": "http://[::1", "caption": "x"},
        {"image": "gopher://x/y", "caption": "x"},
        {"caption": "last"},
    ]
    (src / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for workers in (0, 1):
        out = tmp_path / str(workers) / "t.lance"
        counts = prepare(src / "t.jsonl", out, Options(num_workers=workers))
        assert counts == Counts(rows=2, added=2, failed=8, duplicates=0)
        assert [row.texts[0].text for row in Table.open(out).rows([0, 1])] == ["first", "last"]
        assert all(failure.reason for failure in read_failures(out))


def test_a_name_that_is_not_utf_8_names_its_row(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    for number, name in enumerate((b"caf\xe9.png", b"good.png", b"d\xff/x.png", b"\xe9.png")):
        path = Path(os.fsdecode(os.fsencode(src) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no" if name == b"\xe9.png" else png(number))
    out = tmp_path / "t.lance"
    settle(src)
    assert prepare(src, out, HERE) == Counts(rows=3, added=3, failed=1, duplicates=0)
    uris = [row.uri for row in Table.open(out).rows(range(3))]
    assert uris == [f"file://{src}/caf%E9.png", f"{src}/good.png", f"file://{src}/d%FF/x.png"]
    (failure,) = read_failures(out)
    assert failure.uri == f"file://{src}/%E9.png"
    assert prepare(src, out, HERE) == Counts(rows=3, added=0, failed=1, duplicates=3)
    (src / "t.jsonl").write_text(json.dumps({"image": uris[0], "caption": "by its name"}))
    assert prepare(src / "t.jsonl", out, HERE).added == 1
    Path(os.fsdecode(os.fsencode(src) + b"/\xe9.png")).unlink()
    (src / "t.jsonl").unlink()
    prepare(src, out, HERE)
    assert len(read_failures(out)) == 1  # what is gone is told until its table is made anew


def test_a_row_that_cannot_be_stored_costs_itself(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")

    def stream() -> list[Item]:
        regions = [Region("a frog", 0, 2**40 if n == 1 else 6) for n in range(4)]
        return [Item(f"{n}", (Blob(f"{n}", data=png(n)),), regions=(regions[n],)) for n in range(4)]

    assert fill(table, stream(), HERE) == Counts(rows=3, added=3, failed=1, duplicates=0)
    (failure,) = read_failures(table.path)
    assert (failure.uri, failure.stage) == ("1", "store")


def test_a_source_that_breaks_off_keeps_what_it_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*_: object, **options: object) -> object:
        yield Item("0", texts=(("", "text"),))
        raise RuntimeError("gone")

    monkeypatch.setattr("sensorium.data.ingest.sources.folder.items", breaking)
    (tmp_path / "src").mkdir()
    counts = prepare(tmp_path / "src", tmp_path / "t.lance", HERE)
    assert counts == Counts(rows=1, added=1, failed=1, duplicates=0)
    assert "RuntimeError: gone" in read_failures(tmp_path / "t.lance")[0].reason


def test_a_source_that_is_refused_leaves_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("caption,caption\na,b\n")
    with pytest.raises(UsageError, match="2 columns"):
        prepare(tmp_path / "t.csv", tmp_path / "t.lance", HERE)
    assert not (tmp_path / "t.lance").exists()


def test_an_answer_that_cannot_be_read_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "stand_in.py"
    broken.write_text(
        "from sensorium.data.ingest import workers\n"
        "real, write = workers.validate, workers._write\n"
        "def validate(item, limits, isolate=False):\n"
        "    if item.uri == 'raise': raise KeyError('odd')\n"
        "    if item.uri == 'local': return lambda: 0\n"
        "    return real(item, limits, isolate)\n"
        "def odd(stream, message):\n"
        "    stream.write(workers._HEADER.pack(3) + b'abc') if getattr(message, 'samples', 0) and "
        "message.item.uri == 'garbage' else write(stream, message)\n"
        "    stream.flush()\n"
        "workers.validate, workers._write = validate, odd\n"
        "workers._serve()\n"
    )
    monkeypatch.setattr(workers_module, "_COMMAND", [sys.executable, str(broken)])
    names = ["a", "raise", "local", "garbage", "b"]
    with WorkerPool(1, Limits(timeout_s=20.0)) as pool:
        found = list(pool.map(Item(name, texts=(("", name),)) for name in names))
    assert [bool(o.samples) for o in found if isinstance(o, Outcome)] == [True, False, False, False, True]


def test_lines_of_others_stay_in_the_errors_file(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    others = [
        '{"level": "warn"}',
        "[" * 9000,
        "plain",
        '{"path": [], "stage": 1, "reason": {}, "table": "t.lance"}',
    ]
    path.write_text("\n".join([*others, '{"path": "cut']))
    error_log = ErrorLog(tmp_path / "t.lance")
    error_log.add(Failure("/a/caf\udce9.png", "read", "x\n\ud800"))
    error_log.flush()
    error_log.close()
    lines = path.read_text().splitlines()
    assert lines[:-1] == others
    assert json.loads(lines[-1])["path"] == "file:///a/caf%E9.png"
    assert ErrorLog(tmp_path / "t.lance").path.read_text().isascii()
