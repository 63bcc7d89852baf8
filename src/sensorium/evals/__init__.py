"""(described by its owner)."""
