"""A training run from a module and a plan to checkpoints and a receipt: what pre-training and fine-tuning share."""

from vltk.training_run.estimate import MeasuredPlan, estimate_cost, estimate_memory
from vltk.training_run.run import Measuring, TrainingRun, compile_layers, count_parameters
from vltk.training_run.stores import open_regions

__all__ = [
    "MeasuredPlan",
    "Measuring",
    "TrainingRun",
    "compile_layers",
    "count_parameters",
    "estimate_cost",
    "estimate_memory",
    "open_regions",
]
