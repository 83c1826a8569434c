"""Meta-learning algorithms: one file each, all with ``init``, ``adapt``, ``predict``, ``value_and_grad``."""

from mltk.algorithms.maml import ANIL, BOIL, MAML, MetaSGD

__all__ = ["ANIL", "BOIL", "MAML", "MetaSGD"]
