"""Heads: what metric and closed-form learners put on top of an embedding, with pullbacks by hand."""

from mltk.heads.full_context import FullContextMatchingHead
from mltk.heads.head import Head
from mltk.heads.matching import MatchingHead, matching_log_probabilities, matching_loss
from mltk.heads.prototypes import PrototypicalHead
from mltk.heads.similarity import pairwise_cosine_similarity, pairwise_sqeuclidean

__all__ = [
    "FullContextMatchingHead",
    "Head",
    "MatchingHead",
    "PrototypicalHead",
    "matching_log_probabilities",
    "matching_loss",
    "pairwise_cosine_similarity",
    "pairwise_sqeuclidean",
]
