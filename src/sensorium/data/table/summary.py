"""Summary of a media table: counts by field, language, licence and source, and some example rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from sensorium.core.types import FIELDS
from sensorium.data.ingest.errors import read_failures
from sensorium.data.table.table import Table

_CHUNK = 8192
_TEXT_CHARS = 80


@dataclass(frozen=True)
class Summary:
    """Counts over a table; mappings are sorted by count, largest first.

    Attributes:
        path: Folder of the table.
        description: Description given at creation.
        rows: Number of rows.
        groups: Number of distinct groups.
        fields: Number of rows that have each field.
        languages: Number of texts in each language; "" if not stated.
        licences: Number of rows under each licence.
        sources: Number of rows of each collection.
        vectors: `field:model` of the stored search vectors.
        features: Names of the stored features.
        failed: Number of inputs in `errors.jsonl`.
        examples: The first rows: row, uri, fields, text.
    """

    path: str
    description: str
    rows: int
    groups: int
    fields: dict[str, int]
    languages: dict[str, int]
    licences: dict[str, int]
    sources: dict[str, int]
    vectors: list[str]
    features: list[str]
    failed: int
    examples: list[dict[str, int | str]]

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)


def summarise(table: Table, num_examples: int = 5) -> Summary:
    """Summarise a table without reading media."""
    languages: Counter[str] = Counter()
    for start in range(0, len(table), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(table)))
        for sample in table.rows(numbers, columns=["texts"]):
            languages.update(caption.language for caption in sample.texts)
    counts = {name: len(table.rows_with(name)) for name in FIELDS}
    embedded = table.fields_embedded()
    return Summary(
        path=str(table.path),
        description=table.info.get("description", ""),
        rows=len(table),
        groups=len(set(table.groups)),
        fields={name: count for name, count in counts.items() if count},
        languages=dict(languages.most_common()),
        licences=dict(Counter(table.column("licence")).most_common()),
        sources=dict(Counter(table.column("source")).most_common()),
        vectors=[f"{name}:{model}" for model, names in sorted(embedded.items()) for name in sorted(names)],
        features=table.feature_names(),
        failed=len(read_failures(table.path)),
        examples=_examples(table, num_examples),
    )


def _examples(table: Table, num_examples: int) -> list[dict[str, int | str]]:
    numbers = range(min(num_examples, len(table)))
    return [
        {
            "row": row,
            "uri": sample.uri,
            "fields": " ".join(sample.fields),
            "text": sample.texts[0].text[:_TEXT_CHARS] if sample.texts else "",
        }
        for row, sample in zip(numbers, table.rows(numbers), strict=True)
    ]
