"""A plug-in of sensorium: composed scenes, synthetic speech, and extensions for small models trained on them.

scenes, scenes_table, scene_captions       images of composed scenes, their table and captions
referring, questions, question_bias        referring expressions, questions, text-only baselines
sentences, spoken_table                    English sentences, and a table of synthetic speech
lexicon, pronunciation, lexicon_decoding   grapheme-to-phoneme conversion, lexicon-constrained decoding
phrase_table, ibm_model1                   draft translations from the training pairs
knn_captions, knn_mixture                  captions of the nearest training images, mixed into the logits
rerank, init_from_grounder                 best-of-N drawing, initial weights from a grounder

The core finds these parts by the entry points in `pyproject.toml`.
"""

PACKAGE = "composed-world"
"""Name of the distribution."""
