"""Heads: what metric and closed-form learners put on top of an embedding, each with its hand-derived pullback."""

from mltk.heads.head import Head
from mltk.heads.prototypes import PrototypicalHead
from mltk.heads.similarity import pairwise_cosine_similarity, pairwise_sqeuclidean

__all__ = ["Head", "PrototypicalHead", "pairwise_cosine_similarity", "pairwise_sqeuclidean"]
