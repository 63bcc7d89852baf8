"""Training of grounders: criterion, batches, loop."""
