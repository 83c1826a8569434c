"""Task families and datasets."""

from mltk.data.sinusoid import Sinusoid

__all__ = ["Sinusoid"]
