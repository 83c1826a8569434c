"""The version of mltk, which runs record."""

__version__ = "0.1.0"
