"""Training of image and audio codecs: recipe, batches, criterion, evaluation."""
