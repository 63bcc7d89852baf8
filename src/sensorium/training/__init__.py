"""Training from a recipe: one trainer, loop and run folder; the kinds of training are subpackages."""
