"""The oracle: exact test vectors, and the check that judges other implementations by them."""

from mltk.installation import needed_for

with needed_for("the oracle"):
    from mltk.oracle.candidate import CandidateError, Command
    from mltk.oracle.check import check
    from mltk.oracle.verdict import Report, Verdict

__all__ = ["CandidateError", "Command", "Report", "Verdict", "check"]
