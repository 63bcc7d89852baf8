"""Training of models that write: recipe, examples, batches, build, evaluation."""
