"""Sources of rows: each module lists its input as `Item`s (references to bytes, not read yet) and `Failure`s.

`folder`; `tabular` (CSV, TSV, JSONL, Parquet); `webdataset` (tar); `coco`, `odvg`, `refcoco` and
`flickr30k_entities` (phrases with boxes). `urls` downloads media that a row names by URL.
"""

from sensorium.data.ingest.sources.item import Blob, Failure, Item

__all__ = ["Blob", "Failure", "Item"]
