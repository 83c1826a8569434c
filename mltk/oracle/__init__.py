"""The oracle: exact test vectors, and the check that judges other implementations by them."""

from mltk.oracle.candidate import CandidateError
from mltk.oracle.check import check
from mltk.oracle.verdict import Report, Verdict

__all__ = ["CandidateError", "Report", "Verdict", "check"]
