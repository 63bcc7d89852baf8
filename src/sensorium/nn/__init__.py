"""Transformer, convolution and recurrent layers, without knowledge of modalities.

`attention` and `position` build a `Block`; blocks build a `Stack`. `patch`, `conv` and `recurrent` turn
arrays into token sequences. `pooling` reduces a sequence to one vector. In every mask True marks a real
token.
"""
