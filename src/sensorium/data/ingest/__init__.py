"""Fills a media table from files, table files or tars: lists items, decodes them once, stores the rows."""
