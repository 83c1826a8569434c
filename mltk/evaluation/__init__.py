"""Evaluation on unseen tasks, with honest intervals."""

from mltk.evaluation.unseen_tasks import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
