"""Training of joint embeddings: recipe fields, data, contrastive criterion, validation."""
