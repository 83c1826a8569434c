"""Evaluation on unseen tasks, with honest intervals."""

from mltk.evaluation.entry import Entry
from mltk.evaluation.interval import Interval
from mltk.evaluation.omniglot_challenge import (
    ChallengeResult,
    Runs,
    omniglot_challenge,
    read_runs,
    within_alphabet_runs,
)
from mltk.evaluation.result import Evaluation
from mltk.evaluation.returns import Returns, returns
from mltk.evaluation.transductive import is_transductive
from mltk.evaluation.unseen_tasks import evaluate

__all__ = [
    "ChallengeResult",
    "Entry",
    "Evaluation",
    "Interval",
    "Returns",
    "Runs",
    "evaluate",
    "is_transductive",
    "omniglot_challenge",
    "read_runs",
    "returns",
    "within_alphabet_runs",
]
