"""Shots, highlights, chapters, key frames and summaries of a video."""
