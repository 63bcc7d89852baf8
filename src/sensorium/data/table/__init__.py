"""Media rows and their vectors in Lance datasets."""
