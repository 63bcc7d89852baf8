"""Evaluation metrics by published definitions: retrieval, classification, VQA, captions, WER, BLEU."""

from sensorium.evals.bootstrap import Interval, bootstrap_interval
from sensorium.evals.captioning import Captioning, evaluate_captions
from sensorium.evals.probe import Probe, ProbeOptions, linear_probe
from sensorium.evals.retrieval import Retrieval, chance_at, evaluate_retrieval, recall_at
from sensorium.evals.speech import Transcription, evaluate_transcripts
from sensorium.evals.translation import Translation, evaluate_translations
from sensorium.evals.vqa import Answers, exact_matches, normalise_answer, soft_matches
from sensorium.evals.zero_shot import Accuracy, accuracy, class_vectors

__all__ = [
    "Accuracy",
    "Answers",
    "Captioning",
    "Interval",
    "Probe",
    "ProbeOptions",
    "Retrieval",
    "Transcription",
    "Translation",
    "accuracy",
    "bootstrap_interval",
    "chance_at",
    "class_vectors",
    "evaluate_captions",
    "evaluate_retrieval",
    "evaluate_transcripts",
    "evaluate_translations",
    "exact_matches",
    "linear_probe",
    "normalise_answer",
    "recall_at",
    "soft_matches",
]
