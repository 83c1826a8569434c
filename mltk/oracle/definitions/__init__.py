"""Every computation a second time, in 50-digit arithmetic, written for itself.

Nothing here uses the rules of `mltk.ops` or Torch: networks, learners and heads are spelled out once more
on `Tensor`, arrays of 50-digit numbers that differentiate themselves. Rounded once to float64, the results
are the same bytes on every machine.
"""

from mltk.oracle.definitions.tensor import Tensor, constant, grad, variable

__all__ = ["Tensor", "constant", "grad", "variable"]
