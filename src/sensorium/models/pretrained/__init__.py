"""Public language and speech models: one file per family, with a map from published names to ours.

They are here and not in `encoders.pretrained`, because encoders do not import models. The layers are this
project's own and match the reference code (relative error <= 1e-5 in fp32). Nothing is downloaded on import.
"""
