"""Rows of a table to padded tensors with masks: order, split, decoding in worker processes, augmentation."""
