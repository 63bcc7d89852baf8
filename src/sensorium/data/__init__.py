"""Media tables and batches: ingest of files, the table itself, curation, splits, data loaders, transforms."""
