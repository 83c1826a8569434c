"""Task families and datasets."""

from mltk.data.blobs import Blobs
from mltk.data.harmonic import Harmonic
from mltk.data.linear_regression import LinearRegression
from mltk.data.sinusoid import Sinusoid
from mltk.data.source import TaskSource

__all__ = ["Blobs", "Harmonic", "LinearRegression", "Sinusoid", "TaskSource"]
