"""Counting work: linearisations, and how many of them are alive at once."""

import weakref
from contextlib import contextmanager

from mltk.engines.analytic import AnalyticLinearization


class Alive:
    """How many linearisations were alive at once."""

    most = 0


@contextmanager
def linearizations_alive():
    """Watch the linearisations of the analytic engine."""
    found, refs, real = Alive(), [], AnalyticLinearization.__init__

    def watched(self, *args, **options):
        real(self, *args, **options)
        refs.append(weakref.ref(self))
        found.most = max(found.most, sum(ref() is not None for ref in refs))

    AnalyticLinearization.__init__ = watched
    try:
        yield found
    finally:
        AnalyticLinearization.__init__ = real
