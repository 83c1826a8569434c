"""Task analysis: what makes a task hard, what a learner can learn, and what to train on next."""

from mltk.task_analysis.hardness import hardness_metric, hardness_value_and_grad

__all__ = ["hardness_metric", "hardness_value_and_grad"]
