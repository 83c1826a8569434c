"""Meta-learning algorithms: one file each, all with ``init``, ``adapt``, ``predict``, ``value_and_grad``."""

from mltk.algorithms.implicit_maml import ImplicitMAML
from mltk.algorithms.maml import ANIL, BOIL, MAML, MetaSGD
from mltk.algorithms.reptile import Reptile

__all__ = ["ANIL", "BOIL", "MAML", "ImplicitMAML", "MetaSGD", "Reptile"]
