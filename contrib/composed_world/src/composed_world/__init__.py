"""Composed scenes, sentences read aloud, and what small models learn from them: a plug-in of sensorium.

scenes, referring, questions, scene_captions, scenes_table   pictures of things, and what is true of them
sentences, spoken_table                                      English sentences in synthetic voices
lexicon, pronunciation, lexicon_decoding                     phonemes to words by a lexicon, and back
phrase_table, ibm_model1                                     drafts of translations from the training pairs
knn_captions, knn_mixture                                    captions of the nearest training images
rerank, question_bias, init_from_grounder                    best-of-N drawing, text-only baselines, starts

The core finds these parts by the entry points in `pyproject.toml`.
"""

PACKAGE = "composed-world"
"""Name of the distribution."""
