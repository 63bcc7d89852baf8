"""Speech recognition: recordings to text with times."""
