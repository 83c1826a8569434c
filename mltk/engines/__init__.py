"""Engines: where derivatives come from."""

from mltk.engines.analytic import AnalyticEngine, AnalyticLinearization, linearize_tasks

__all__ = ["AnalyticEngine", "AnalyticLinearization", "linearize_tasks"]
