"""Training of multimodal language models: recipe, examples, batches, model, evaluation."""
