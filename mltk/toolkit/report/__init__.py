"""One page about runs and learners, as a file or served on this machine."""

from mltk.toolkit.report.dashboard import dashboard
from mltk.toolkit.report.page import report

__all__ = ["dashboard", "report"]
