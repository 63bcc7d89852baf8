"""Training of grounders: recipe and criterion, batches, evaluation."""
