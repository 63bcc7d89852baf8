"""Fusion of modalities: features of any of them in, one vector and one sequence out."""
