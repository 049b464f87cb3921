"""An evaluation from a run and stores to a receipt: what ``vltk eval`` does, as functions."""

from vltk.evaluation.answers import AnswerEvaluation, averaged_predictions, plan_of
from vltk.evaluation.opening import Opened, Stores, open_evaluation, open_unmodelled
from vltk.evaluation.prediction_files import PredictionReport, measure_predictions, read_prediction_file
from vltk.evaluation.receipt import below, parse_thresholds, receipt
from vltk.evaluation.retrieval import RetrievalEvaluation, first_stage, listed_images, said

__all__ = [
    "AnswerEvaluation",
    "Opened",
    "PredictionReport",
    "RetrievalEvaluation",
    "Stores",
    "averaged_predictions",
    "below",
    "first_stage",
    "listed_images",
    "measure_predictions",
    "open_evaluation",
    "open_unmodelled",
    "parse_thresholds",
    "plan_of",
    "read_prediction_file",
    "receipt",
    "said",
]
