"""A training run from a module and a plan to checkpoints and a receipt: what pre-training and fine-tuning share."""

from vltk.run_folder import TRAINED_ON
from vltk.training_run.estimate import MeasuredPlan, estimate_cost, estimate_memory
from vltk.training_run.run import Measuring, TrainingRun, compile_layers, count_parameters
from vltk.training_run.stores import MADE_WITH, check_stores, describe_stores, open_regions

__all__ = [
    "MADE_WITH",
    "TRAINED_ON",
    "MeasuredPlan",
    "Measuring",
    "TrainingRun",
    "check_stores",
    "compile_layers",
    "count_parameters",
    "describe_stores",
    "estimate_cost",
    "estimate_memory",
    "open_regions",
]
