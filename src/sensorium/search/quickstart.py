"""Quickstart: trains, evaluates and searches a joint embedding of stamps with captions, sounds and speech.

Input: a folder for the results. Output: a run, metrics beside chance, and a contact sheet of six queries.
Data and features are cached for the user, the run in the folder; an interrupted quickstart resumes. Queries
by sound, speech and image come from held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import NotFoundError
from sensorium.core.files import write_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import open_table
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.models.checkpoint import WEIGHTS, load
from sensorium.models.embed import embed_table
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.search.embedding_log import log_model
from sensorium.search.gallery import write_gallery
from sensorium.search.query import Hit, Term
from sensorium.search.searcher import SearchRequest, find
from sensorium.training.evaluate import Report, evaluate_run, held_out
from sensorium.training.runs import trained_languages
from sensorium.training.state import STATE
from sensorium.training.trainer import train

RECIPE = "stamps"
TABLE = "stamps"
SPOKEN = "fr"
CHANGES = (
    "data.extra=[]",
    f'data.languages=["text:en", "speech:{SPOKEN}"]',
    "data.views=4",
    "model.towers.image.views=4",
    "train.epochs=48",
    "train.eval_every=0",
)
"""Changes of the recipe: stamps only, speech in one language, to save some minutes."""

TEXTS = ("a red fruit", "an animal that can fly")
FINISHED = "quickstart-trained"
HITS = 5


@dataclass(frozen=True)
class Answered:
    """One query of the quickstart, its description, and its hits."""

    terms: Sequence[Term]
    words: str
    hits: Sequence[Hit]


@dataclass(frozen=True)
class Quickstart:
    """Result of `quickstart`.

    Attributes:
        table: The media table.
        run: Folder of the trained model.
        report: Recall on the held-out rows.
        searches: The queries and their hits.
        sheet: Path of the contact sheet.
        page: Path of the HTML page.
    """

    table: Table
    run: Path
    report: Report
    searches: Sequence[Answered]
    sheet: Path
    page: Path


def quickstart(out: Path, *, progress: Progress = quiet) -> Quickstart:
    """Fetch the data, train, evaluate, search and draw.

    Args:
        out: Folder for the run, the queries and the sheet; created if missing.
        progress: Called during every long step.

    Raises:
        FetchError: If a package cannot be fetched.
    """
    table = open_table(TABLE, progress)
    run = out / "run"
    if not (run / FINISHED).is_file():
        train(RECIPE, run, changes=CHANGES, resume=(run / STATE).exists(), progress=progress)
        write_atomic(run / FINISHED, "")
    model = load(run, JointEmbedding)
    report = evaluate_run(run, progress=progress)
    languages = trained_languages(run)
    log_model(table, model.fingerprint, run, languages)
    embed_table(table, model, languages=languages, progress=progress)
    searches = _search(table, model, held_out(run, None).rows, out / "queries")
    sheet, page = out / "quickstart.png", out / "quickstart.html"
    title = "One space for text, sound, speech and pictures"
    write_gallery(table, [(one.terms, one.hits) for one in searches], title=title, sheet=sheet, page=page)
    return Quickstart(table, run, report, searches, sheet, page)


def is_finished(out: Path) -> bool:
    """Whether `out` holds the model of an earlier quickstart."""
    return (out / "run" / FINISHED).is_file() and (out / "run" / WEIGHTS).is_file()


def _search(
    table: Table, model: JointEmbedding, held: Int64[np.ndarray, " n"], folder: Path
) -> list[Answered]:
    """Search by two texts, a held-out sound, a held-out spoken caption, and two held-out images."""
    queries = [(Term(text), f'text "{text}"') for text in TEXTS]
    for name, row in (("audio", _pick(table, held, "audio")), ("speech", _pick(table, held, "speech"))):
        sample = table.rows([row])[0]
        path = folder / f"{name}-{Path(sample.uri).stem}.ogg"
        write_atomic(path, _sound(sample, name))
        words = "sound" if name == "audio" else "French words"
        queries.append((Term(path), f"{words} of {_caption(sample)}"))
    for category in ("animals", "vehicles"):
        row = _pick(table, held, "image", category)
        queries.append((Term(row), f"picture like {_caption(table.rows([row])[0])}"))
    return [
        Answered([term], words, find(table, SearchRequest([term], k=HITS, fields=["image"]), model))
        for term, words in queries
    ]


def _pick(table: Table, held: Int64[np.ndarray, " n"], field: str, category: str = "animals") -> int:
    """First held-out row by uri with the field, if possible of the category."""
    rows = np.intersect1d(held, table.rows_with(field))
    if field == "speech":
        samples = zip(rows.tolist(), table.rows(rows, columns=["speech"]), strict=True)
        rows = np.array(
            [row for row, sample in samples if any(clip.language == SPOKEN for clip in sample.speech)]
        )
    if not len(rows):
        raise NotFoundError(
            f"no held-out row has {field}; remove the folder of the quickstart and run it again"
        )
    uris = [sample.uri for sample in table.rows(rows, columns=["uri"])]
    places = sorted(range(len(rows)), key=lambda place: (f":{category}/" not in uris[place], uris[place]))
    return int(rows[places[0]])


def _sound(sample: Sample, name: str) -> bytes:
    if name == "audio":
        assert sample.audio is not None
        return sample.audio
    return next(clip.data for clip in sample.speech if clip.language == SPOKEN)


def _caption(sample: Sample) -> str:
    return next((f'"{caption.text}"' for caption in sample.texts if caption.language == "en"), sample.uri)
