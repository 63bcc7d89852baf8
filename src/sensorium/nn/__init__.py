"""Layers that know no modality: one attention, one Block, one Stack, and what stands before and after them.

`attention` and `position` make a `Block`, blocks make a `Stack`; `patch`, `conv` and `recurrent` turn arrays
into sequences; `pooling` turns a sequence into one vector. Masks say True = real, everywhere.
"""
