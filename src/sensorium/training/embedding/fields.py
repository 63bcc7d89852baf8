"""Chooses the pairs of fields that a joint embedding trains on, and warns of fields that it does not use.

In: a recipe and its main table. Out: the recipe with pairs and the towers that they need; warnings if few
rows have captions or if fields are left out. Reads no media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Int64

from sensorium.core.errors import TrainingError, warn
from sensorium.core.types import FIELDS, MODALITY_OF
from sensorium.data.table.sample import asked_of, is_asked
from sensorium.data.table.table import Table
from sensorium.training.recipe import LossConfig, PairConfig, Recipe

FEW_CAPTIONS = 100
"""Rows with a caption below which a model knows little more than its pretrained towers do."""
_WITHOUT_TEXT = 0.5
"""Weight of a pair that has no text in it."""


def with_pairs(recipe: Recipe, table: Table) -> Recipe:
    """Fill in the pairs of a recipe without pairs: every two fields that occur together in a row.

    Towers that no pair needs are left out, because they would not train.

    Raises:
        TrainingError: If there is nothing to pair.
    """
    if recipe.loss.pairs:
        return recipe
    able = [name for name in table.fields if MODALITY_OF[name] in recipe.model.towers]
    rows = {name: rows_of(table, name, recipe.data.languages) for name in able}
    has_classes = recipe.data.class_vectors and "image" in able and "text" in recipe.model.towers
    if has_classes:
        rows.setdefault("text", np.zeros(0, np.int64))
    pairs = [
        PairConfig(a=a, b=b, weight=1.0 if "text" in (a, b) else _WITHOUT_TEXT)  # type: ignore[arg-type]
        for a, b in combinations([name for name in FIELDS if name in rows], 2)
        if len(np.intersect1d(rows[a], rows[b])) or (has_classes and (a, b) == ("image", "text"))
    ]
    if not pairs:
        raise TrainingError(_nothing_to_pair(recipe, table))
    used = {name for pair in pairs for name in (pair.a, pair.b)}
    towers = {
        name: tower
        for name, tower in recipe.model.towers.items()
        if name in {MODALITY_OF[one] for one in used}
    }
    loss = LossConfig(**{**dict(recipe.loss), "pairs": pairs})
    data = recipe.data.model_copy(update={"class_vectors": recipe.data.class_vectors and has_classes})
    model = recipe.model.model_copy(update={"towers": towers})
    return recipe.model_copy(update={"loss": loss, "data": data, "model": model})


def rows_of(table: Table, field: str, languages: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Rows with a field; for texts, with one in the languages (empty: all)."""
    rows = table.rows_with(field)
    if field != "text" or not asked_of("text", languages):
        return rows
    kept = [
        row
        for row, sample in zip(rows.tolist(), table.rows(rows, columns=["texts"]), strict=True)
        if any(is_asked(one.language, "text", languages) for one in sample.texts)
    ]
    return np.array(kept, dtype=np.int64)


def languages_of(table: Table) -> str:
    """Languages of a table's texts with their counts, most frequent first."""
    counts: dict[str, int] = {}
    for texts in table.column("texts"):
        for language in {one.language for one in texts or ()}:
            counts[language] = counts.get(language, 0) + 1
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{language or 'not stated'} {count:,}" for language, count in ordered[:8])


def describe_fields(
    recipe: Recipe, table: Table, rows: Mapping[str, Int64[np.ndarray, " _"]], train: Int64[np.ndarray, " n"]
) -> str:
    """Warn of few captions and of unused fields; returns a line with the pairs and their rows.

    Args:
        recipe: With pairs.
        table: The main table.
        rows: Rows of each field.
        train: Rows of the main table that train.
    """
    _warn_of_unused(recipe, table)
    if any("text" in (pair.a, pair.b) for pair in recipe.loss.pairs):
        _warn_of_few_captions(recipe, int(np.isin(train, rows["text"]).sum()), len(train))
    counts = (
        f"{pair.a} and {pair.b} ({np.isin(train, np.intersect1d(rows[pair.a], rows[pair.b])).sum():,} rows)"
        for pair in recipe.loss.pairs
    )
    return f"of {len(train):,} rows train: {', '.join(counts)}"


def _warn_of_few_captions(recipe: Recipe, num_captions: int, num_rows: int) -> None:
    if num_captions >= max(FEW_CAPTIONS, num_rows / 2):
        return
    known = f"what these {num_captions:,} say" if num_captions else "no words of yours"
    if recipe.data.class_vectors:
        encoder = recipe.model.towers["image"].encoder
        known = f"{known if num_captions else 'nothing'} but the class names of {encoder}"
    languages = ", ".join(asked_of("text", recipe.data.languages))
    in_languages = f" in {languages}" if languages else ""
    warn(
        f"{num_captions:,} of {num_rows:,} rows that train have a caption{in_languages}: the model will know "
        f"{known}; for more put a .txt beside each file, and prepare the table again"
    )


def _warn_of_unused(recipe: Recipe, table: Table) -> None:
    used = {name for pair in recipe.loss.pairs for name in (pair.a, pair.b)}
    for name in table.fields:
        if name not in used:
            has_tower = MODALITY_OF[name] in recipe.model.towers
            why = "no pair of the recipe names it" if has_tower else f"the recipe has no {name} tower"
            warn(
                f"{name} of {len(table.rows_with(name)):,} rows does not train: {why}; recipe `media` takes "
                "every field that a table holds"
            )


def _nothing_to_pair(recipe: Recipe, table: Table) -> str:
    """Reason why no two fields can be paired, and what to do."""
    path, held = recipe.data.table, table.fields
    if not held:
        return f"{path} has no rows; fill it: sensorium data prepare SRC -o {path}"
    unknown = [name for name in held if MODALITY_OF[name] not in recipe.model.towers]
    if unknown:
        return (
            f"{path} holds {', '.join(held)}, and this recipe has no tower for {', '.join(unknown)}; take one"
            f" that has: sensorium train media --set data.table={path}"
        )
    if "text" in held and len(held) > 1:
        wanted = ", ".join(asked_of("text", recipe.data.languages)) or "any language"
        return (
            f"no row of {path} holds two fields, texts being in {wanted}; it has {languages_of(table)}: "
            "put captions into the rows of the media, or give all languages with --set data.languages=[]"
        )
    if list(held) == ["text"]:
        return (
            f"{path} holds text alone: a joint embedding needs two fields of a row, as a picture and its "
            "caption; to search texts, embed the table with any run that has a text tower"
        )
    return (
        f"no row of {path} holds two fields (it holds {', '.join(held)}): put a caption, a .txt, beside each "
        "file and prepare the table again"
    )
