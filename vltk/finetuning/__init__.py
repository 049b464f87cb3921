"""A fine-tuning run from stores and a task's options to checkpoints and a receipt, and back from its folder."""

from vltk.finetuning.folder import TASK, FinetunedTask, open_run, seeing
from vltk.finetuning.initialisation import InitialModel, initial_model
from vltk.finetuning.run import PreparedFinetuning, prepare_finetuning
from vltk.finetuning.splits import open_splits
from vltk.finetuning.validation import PredictionMeasuring, RetrievalMeasuring
from vltk.finetuning.zero_shot import converted_model, open_zero_shot

__all__ = [
    "TASK",
    "FinetunedTask",
    "InitialModel",
    "PredictionMeasuring",
    "PreparedFinetuning",
    "RetrievalMeasuring",
    "converted_model",
    "initial_model",
    "open_run",
    "open_splits",
    "open_zero_shot",
    "prepare_finetuning",
    "seeing",
]
