"""The backends under test: NumPy, and Torch with each of its engines."""

import mltk

BACKENDS = {
    "numpy": ("numpy", {}),
    "torch-analytic": ("torch", {"engine": "analytic"}),
    "torch-autograd": ("torch", {"engine": "autograd"}),
}


def backend_of(name, dtype="float64"):
    """One of `BACKENDS`."""
    library, options = BACKENDS[name]
    return mltk.backend(library, dtype=dtype, **options)


ROUTES = NUMPY, ANALYTIC, AUTOGRAD = tuple(backend_of(name) for name in BACKENDS)
