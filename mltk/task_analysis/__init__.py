"""Task analysis: what makes a task hard, what a learner can learn, and what to train on next."""

from mltk.task_analysis import curricula
from mltk.task_analysis.bandit_optimum import best_return, gittins_index
from mltk.task_analysis.ceiling import Predicted, ceiling, predicted
from mltk.task_analysis.confidence import mean_confidence
from mltk.task_analysis.confusion import Confusion
from mltk.task_analysis.gradient_alignment import Alignment, gradient_alignment
from mltk.task_analysis.hardness import hardness_metric, hardness_value_and_grad
from mltk.task_analysis.hardness_fit import HardnessFit, fit_by_hardness
from mltk.task_analysis.learnability import Learnability, LearnabilityAnalyzer
from mltk.task_analysis.leave_one_out import leave_one_out_nearest, leave_one_out_ridge
from mltk.task_analysis.measures import Measures, measures
from mltk.task_analysis.of_means import correlation
from mltk.task_analysis.power_law import fit_power_law
from mltk.task_analysis.regression import regression_measures
from mltk.task_analysis.separation import fisher_ratio, nc1
from mltk.task_analysis.similarity import matching_similarity
from mltk.task_analysis.task2vec import task2vec, task2vec_distances
from mltk.task_analysis.transferability import h_score, leep, logme, nce, transrate
from mltk.task_analysis.variance import variance_components

__all__ = [
    "Alignment",
    "Confusion",
    "HardnessFit",
    "Learnability",
    "LearnabilityAnalyzer",
    "Measures",
    "Predicted",
    "best_return",
    "ceiling",
    "correlation",
    "curricula",
    "fisher_ratio",
    "fit_by_hardness",
    "fit_power_law",
    "gittins_index",
    "gradient_alignment",
    "h_score",
    "hardness_metric",
    "hardness_value_and_grad",
    "leave_one_out_nearest",
    "leave_one_out_ridge",
    "leep",
    "logme",
    "matching_similarity",
    "mean_confidence",
    "measures",
    "nc1",
    "nce",
    "predicted",
    "regression_measures",
    "task2vec",
    "task2vec_distances",
    "transrate",
    "variance_components",
]
