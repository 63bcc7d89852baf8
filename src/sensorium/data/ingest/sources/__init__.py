"""Where the rows of a media table come from.

Each source module lists what it finds as `Item`s, which name bytes without reading them, and `Failure`s:
`folder`, `tabular` (CSV, TSV, JSONL, Parquet), `webdataset` (tar), `urls` (fetches what a row names by URL).
`sensorium.data.ingest.prepare` reads, checks and stores them.
"""

from sensorium.data.ingest.sources.item import Blob, Failure, Item

__all__ = ["Blob", "Failure", "Item"]
