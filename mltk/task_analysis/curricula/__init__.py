"""Curricula: task sources that wrap another one, see the learner, and choose or weigh what it trains on."""

import sys

from mltk.task_analysis.curricula.class_conditional import ClassConditional
from mltk.task_analysis.curricula.class_pairs import ClassPairs
from mltk.task_analysis.curricula.hard_mining import HardMining
from mltk.task_analysis.curricula.pacing import Curriculum
from mltk.task_analysis.curricula.uniform_difficulty import UniformDifficulty
from mltk.training.config import register

__all__ = ["ClassConditional", "ClassPairs", "Curriculum", "HardMining", "UniformDifficulty"]

register(sys.modules[__name__])
