"""What a trained model says of a split: scores of pairs, embeddings, predictions; killed and resumed at will."""

from vltk.evaluator.dual import embeddings, similarities
from vltk.evaluator.execution import Execution
from vltk.evaluator.joint import PairCost, pair_cost, score_matrix
from vltk.evaluator.pairs import PairPlan
from vltk.evaluator.prediction import predict
from vltk.evaluator.sides import Sides

__all__ = [
    "Execution",
    "PairCost",
    "PairPlan",
    "Sides",
    "embeddings",
    "pair_cost",
    "predict",
    "score_matrix",
    "similarities",
]
