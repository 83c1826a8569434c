"""mltk: the meta-learning reference, exact on NumPy by hand-derived gradients and fast on Torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mltk import algorithms, data, evaluation, heads, models, ops, optim, task_analysis, tree
from mltk.algorithms import RidgeRegression
from mltk.backend import backend, backend_of
from mltk.episode import Episode
from mltk.evaluation import ABTest, MetaLearningEvaluator, evaluate
from mltk.heads import (
    matching_log_probabilities,
    matching_loss,
    pairwise_cosine_similarity,
    pairwise_sqeuclidean,
    ridge_regression,
)
from mltk.modules import LearnableOptimizer, Module, clone_module, detach_module, meta_grad, update_module
from mltk.ops.dice import magic_box, surrogate
from mltk.task_analysis import LearnabilityAnalyzer, hardness_metric
from mltk.training import load_run, train
from mltk.version import __version__

if TYPE_CHECKING:
    from mltk import oracle, pictures, toolkit
    from mltk.toolkit import MetaLearningToolkit, Records

__all__ = [
    "ABTest",
    "Episode",
    "LearnabilityAnalyzer",
    "LearnableOptimizer",
    "MetaLearningEvaluator",
    "MetaLearningToolkit",
    "Module",
    "Records",
    "RidgeRegression",
    "__version__",
    "algorithms",
    "backend",
    "backend_of",
    "clone_module",
    "data",
    "detach_module",
    "evaluate",
    "evaluation",
    "hardness_metric",
    "heads",
    "load_run",
    "magic_box",
    "matching_log_probabilities",
    "matching_loss",
    "meta_grad",
    "models",
    "ops",
    "optim",
    "oracle",
    "pairwise_cosine_similarity",
    "pairwise_sqeuclidean",
    "pictures",
    "ridge_regression",
    "surrogate",
    "task_analysis",
    "toolkit",
    "train",
    "tree",
    "update_module",
]


def __getattr__(name: str) -> Any:
    """Oracle, pictures and toolkit are imported when first used: who only trains needs none of them."""
    if name in ("oracle", "pictures", "toolkit"):
        return import_module(f"mltk.{name}")
    if name in ("MetaLearningToolkit", "Records"):
        return getattr(import_module("mltk.toolkit"), name)
    raise AttributeError(f"module 'mltk' has no attribute {name!r}")
