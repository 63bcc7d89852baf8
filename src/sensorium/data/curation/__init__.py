"""Choosing rows: near duplicates, filters, and the measures that they use."""
