"""Training of joint embeddings: data and validation."""
