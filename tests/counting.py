"""Counting work: calls of methods, and how many objects are alive at once."""

import weakref
from contextlib import contextmanager


@contextmanager
def replaced(owner, name, function):
    """A method is another one meanwhile."""
    real = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextmanager
def calls(owner, name):
    """The arguments of each call of a method meanwhile, without the object itself."""
    found, real = [], getattr(owner, name)

    def watched(self, *args, **options):
        found.append((args, options))
        return real(self, *args, **options)

    with replaced(owner, name, watched):
        yield found


class Alive:
    """How many of some objects were alive at once, and how many are now."""

    def __init__(self):
        self.most, self._found = 0, []

    def add(self, thing):
        self._found.append(weakref.ref(thing))
        self.most = max(self.most, self.now)

    @property
    def now(self):
        return sum(found() is not None for found in self._found)


@contextmanager
def alive(kind):
    """The objects of a class that are made meanwhile."""
    found, real = Alive(), kind.__init__

    def watched(self, *args, **options):
        real(self, *args, **options)
        found.add(self)

    with replaced(kind, "__init__", watched):
        yield found


@contextmanager
def residuals_alive(operation):
    """The residuals of an operation that are made meanwhile."""
    found, real = Alive(), operation.forward

    def watched(self, p, x):
        y, residuals = real(self, p, x)
        found.add(residuals[0])
        return y, residuals

    with replaced(operation, "forward", watched):
        yield found
