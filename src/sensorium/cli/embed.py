"""`sensorium embed`: vectors of a table's rows, or of files and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli.options import DeviceOption, FieldOption, LanguageOption, ModelOption, load_model
from sensorium.cli.output import PARTLY_FAILED, JsonOption, TerminalProgress, emit_json, emit_table, note
from sensorium.core.errors import NotFoundError, SensoriumError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from sensorium.models.joint_embedding import JointEmbedding


def embed(
    targets: Annotated[
        list[Path] | None, typer.Argument(metavar="TABLE|FILE...", help="A media table, or media files.")
    ] = None,
    model: ModelOption = None,
    fields: FieldOption = None,
    languages: LanguageOption = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="A text to embed; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.npy", help="Write vectors (n, E) of files.")
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Write vectors of a table's rows into it, or of files to a file.

    For a TABLE, missing vectors are added and the model is recorded, so that search needs no --model; an
    interrupted command resumes. FILEs and --text give one vector each, as JSON or as a NumPy file. Exits 3 if
    some could not be read.
    """
    paths = targets or []
    if len(paths) == 1 and paths[0].is_dir():
        if out is not None or texts:
            raise UsageError("--out and --text are for files; the vectors of a table are stored in the table")
        _embed_table(paths[0], model, fields or [], languages, device, json)
        return
    if fields or languages:
        raise UsageError("--field and --language are for a table")
    if not paths and not texts:
        raise UsageError("nothing to embed; give a table, files or --text")
    _embed_files(paths, texts or [], load_model(model, device), out, json)


def _embed_table(
    path: Path,
    run: Path | None,
    fields: Sequence[str],
    languages: Sequence[str] | None,
    device: str,
    json: bool,
) -> None:
    from sensorium.data.table.table import Table
    from sensorium.models.embed import embed_table
    from sensorium.search.embedding_log import check_languages, latest_model, log_model, no_vectors
    from sensorium.training.runs import trained_languages

    table = Table.open(path)
    folder = latest_model(table) if run is None else run
    model = load_model(folder, device)
    if not len(table):
        raise no_vectors(table)
    chosen = trained_languages(folder) if languages is None else languages
    check_languages(table, model.fingerprint, chosen)
    log_model(table, model.fingerprint, folder, chosen)
    with TerminalProgress() as progress:
        report = embed_table(table, model, fields=fields, languages=chosen, progress=progress)
    for row, name, reason in report.failures:
        note(f"row {row}, {name}: {reason}")
    if json:
        emit_json({"rows": report.rows, "failed": len(report.failures), "model": report.fingerprint})
    else:
        emit_table(["field", "rows embedded"], report.rows.items())
        note(f"next: sensorium search {path} 'what you look for'")
    if report.failures:
        raise typer.Exit(PARTLY_FAILED)


def _embed_files(
    paths: Sequence[Path], texts: Sequence[str], model: JointEmbedding, out: Path | None, json: bool
) -> None:
    import numpy as np

    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise NotFoundError(f"no file {missing[0]}; give files, a table, or --text for texts")
    if out is None and not json:
        raise UsageError("no output for the vectors of files; give --json or --out FILE.npy")
    items: list[Path | str] = [*paths, *texts]
    vectors: list[np.ndarray | None] = []
    with TerminalProgress() as progress:
        for done, item in enumerate(items, start=1):
            vectors.append(_vector_or_note(model, item))
            progress(done, len(items), "embedding")
    found = [vector for vector in vectors if vector is not None]
    if out is not None:
        stacked = np.stack(found) if found else np.zeros((0, model.config.dim), np.float32)
        _save(out, stacked)
    if json:
        emit_json([{"uri": str(item), "vector": vector} for item, vector in zip(items, vectors, strict=True)])
    if len(found) < len(vectors):
        raise typer.Exit(PARTLY_FAILED if found else 1)


def _vector_or_note(model: JointEmbedding, item: Path | str) -> np.ndarray | None:
    from sensorium.media.path_or_text import as_words

    try:
        vector: np.ndarray = model.embed([as_words(item) if isinstance(item, str) else item]).vectors[0]
    except SensoriumError as error:
        note(f"{item}: {error}")
        return None
    return vector


def _save(path: Path, vectors: np.ndarray) -> None:
    import io

    import numpy as np

    from sensorium.core.files import write_atomic

    buffer = io.BytesIO()
    np.save(buffer, vectors)
    write_atomic(path, buffer.getvalue())
