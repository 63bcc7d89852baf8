"""Curation of a table: duplicates, quality filters, and the measurements they use."""
