"""Data loading: splits, the order of an epoch, decoding in worker processes, mixup, padded batches."""
