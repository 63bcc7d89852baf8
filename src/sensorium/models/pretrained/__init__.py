"""Decoders whose weights come from elsewhere: one file a family, with a map from the published names to ours.

They stand here and not in `encoders.pretrained` since encoders do not know models. The layers are this
project's own and equal to the reference code (relative error <= 1e-5 in fp32). Nothing is fetched on
import.
"""
