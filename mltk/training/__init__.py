"""Meta-training: a run from its settings, or from its folder."""

from mltk.training.loop import Run
from mltk.training.runs import SavedRun, load_run, train

__all__ = ["Run", "SavedRun", "load_run", "train"]
