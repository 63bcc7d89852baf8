"""Models that answer: loading them, asking, translating, transcribing, speaking, conversing."""
