"""What is wrong with outputs: which known mistakes give the same, or where the error sits."""

from mltk.oracle.diagnosis.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
