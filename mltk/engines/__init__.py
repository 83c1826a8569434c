"""Engines: where derivatives come from."""

from mltk.engines.analytic import AnalyticEngine, AnalyticLinearization

__all__ = ["AnalyticEngine", "AnalyticLinearization"]
