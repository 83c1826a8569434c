"""Heads: what metric and closed-form learners put on top of an embedding, with pullbacks by hand."""

from mltk.heads.bayesian import BayesianRidgeHead
from mltk.heads.evidence import bayesian_ridge, evidence
from mltk.heads.full_context import FullContextMatchingHead
from mltk.heads.functions import (
    matching_log_probabilities,
    matching_loss,
    pairwise_cosine_similarity,
    pairwise_sqeuclidean,
    ridge_regression,
)
from mltk.heads.head import Head
from mltk.heads.linear import LinearHead, LinearSolution
from mltk.heads.logistic import LogisticHead
from mltk.heads.matching import MatchingHead
from mltk.heads.prototypes import PrototypicalHead
from mltk.heads.ridge import RidgeHead

__all__ = [
    "BayesianRidgeHead",
    "FullContextMatchingHead",
    "Head",
    "LinearHead",
    "LinearSolution",
    "LogisticHead",
    "MatchingHead",
    "PrototypicalHead",
    "RidgeHead",
    "bayesian_ridge",
    "evidence",
    "matching_log_probabilities",
    "matching_loss",
    "pairwise_cosine_similarity",
    "pairwise_sqeuclidean",
    "ridge_regression",
]
