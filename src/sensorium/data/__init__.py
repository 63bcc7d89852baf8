"""From media on disk to batches: the media table, its sources, curation, splits, loaders and search index."""
