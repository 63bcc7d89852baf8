"""Phrase grounding: batches, inference, drawing, and saliency."""
