"""The toolkit: what is around a learner, to choose it, to foresee and to watch it, and to recover."""

from mltk.toolkit.change_detection import ChangeDetector, Cusum, EDetector
from mltk.toolkit.evidence import Evidence, gather, known

__all__ = ["ChangeDetector", "Cusum", "EDetector", "Evidence", "gather", "known"]
