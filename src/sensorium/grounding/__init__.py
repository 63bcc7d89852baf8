"""Regions of an image for the phrases of a text."""
