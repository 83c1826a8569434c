"""Evaluation on unseen tasks, with honest intervals."""

from mltk.evaluation.ab_test import ABResult, ABTest
from mltk.evaluation.calibration import Calibration, brier, brier_parts, calibration, ece, nll
from mltk.evaluation.confidence_sequences import asymptotic, betting, empirical_bernstein
from mltk.evaluation.conformal import ConformalSets, conformal_sets, coverage
from mltk.evaluation.e_process import EProcess
from mltk.evaluation.entry import Entry
from mltk.evaluation.evaluator import MetaLearningEvaluator
from mltk.evaluation.interval import Interval
from mltk.evaluation.omniglot_challenge import (
    ChallengeResult,
    Runs,
    omniglot_challenge,
    read_runs,
    within_alphabet_runs,
)
from mltk.evaluation.over_datasets import Practical, Ranking, rank_over_datasets, rank_tables, signed_rank
from mltk.evaluation.paired import Comparison, compare, compare_all, holm
from mltk.evaluation.planning import TaskPlan, plan
from mltk.evaluation.racing import Race, race
from mltk.evaluation.reliability import reliability
from mltk.evaluation.result import Evaluation
from mltk.evaluation.returns import Returns, returns
from mltk.evaluation.risk_control import ControlledRisk, control_risk, controlled_sets
from mltk.evaluation.selective import Selective, selective
from mltk.evaluation.sign_flips import SignFlips, sign_flips
from mltk.evaluation.table import LearnerOutcome, Table
from mltk.evaluation.temperature import Tempered, fit_temperature, tempered
from mltk.evaluation.transductive import is_transductive
from mltk.evaluation.uncertainty import uncertainty
from mltk.evaluation.unseen_tasks import evaluate

__all__ = [
    "ABResult",
    "ABTest",
    "Calibration",
    "ChallengeResult",
    "Comparison",
    "ConformalSets",
    "ControlledRisk",
    "EProcess",
    "Entry",
    "Evaluation",
    "Interval",
    "LearnerOutcome",
    "MetaLearningEvaluator",
    "Practical",
    "Race",
    "Ranking",
    "Returns",
    "Runs",
    "Selective",
    "SignFlips",
    "Table",
    "TaskPlan",
    "Tempered",
    "asymptotic",
    "betting",
    "brier",
    "brier_parts",
    "calibration",
    "compare",
    "compare_all",
    "conformal_sets",
    "control_risk",
    "controlled_sets",
    "coverage",
    "ece",
    "empirical_bernstein",
    "evaluate",
    "fit_temperature",
    "holm",
    "is_transductive",
    "nll",
    "omniglot_challenge",
    "plan",
    "race",
    "rank_over_datasets",
    "rank_tables",
    "read_runs",
    "reliability",
    "returns",
    "selective",
    "sign_flips",
    "signed_rank",
    "tempered",
    "uncertainty",
    "within_alphabet_runs",
]
