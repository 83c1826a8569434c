"""Meta-learning algorithms: one file each, all with ``init``, ``adapt``, ``predict``, ``value_and_grad``."""

from mltk.algorithms.bayesian_ridge import BayesianRidge
from mltk.algorithms.implicit_maml import ImplicitMAML
from mltk.algorithms.learned_optimizer import LearnedOptimizer
from mltk.algorithms.logistic_regression import LogisticRegression
from mltk.algorithms.maml import ANIL, BOIL, MAML, MetaSGD
from mltk.algorithms.matching import Matching
from mltk.algorithms.prototypical import Prototypical
from mltk.algorithms.reptile import Reptile
from mltk.algorithms.ridge_regression import RidgeRegression
from mltk.algorithms.stochastic_maml import StochasticMAML

__all__ = [
    "ANIL",
    "BOIL",
    "MAML",
    "BayesianRidge",
    "ImplicitMAML",
    "LearnedOptimizer",
    "LogisticRegression",
    "Matching",
    "MetaSGD",
    "Prototypical",
    "Reptile",
    "RidgeRegression",
    "StochasticMAML",
]
