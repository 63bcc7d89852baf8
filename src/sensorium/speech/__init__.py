"""Sound to text with times."""
