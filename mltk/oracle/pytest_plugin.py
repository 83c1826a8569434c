"""What the fixture `mltk_oracle` of other projects' tests is; pytest finds it in `mltk_pytest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mltk.installation import needed_for
from mltk.oracle.check import check
from mltk.oracle.verdict import Report

with needed_for("the report of a check"):
    from mltk.oracle.report_text import to_text


class Oracle:
    """Judges functions of a test."""

    def check(self, computation: str, candidate: str | Callable[..., Any], **options: Any) -> Report:
        """Fail unless a function computes what mltk computes.

        Args:
            computation: Such as ``"maml"``; ``mltk oracle computations`` lists all.
            candidate: The function. It is called in this process; given as ``"package.module:function"``, in
                one of its own, which survives crashes.
            **options: As of `mltk.oracle.check`: ``arrays``, ``dtype``, ``timeout``, ``examples``,
                ``seed``.

        Returns:
            The report, if the function is right.

        Raises:
            AssertionError: If it is wrong, or cannot do any case. The message says what is wrong.
        """
        __tracebackhide__ = True
        report = check(candidate, [computation], **options)
        if not report.passed:
            (found,) = report.verdicts
            names = f" ({', '.join(found.diagnosis.names)})" if found.diagnosis else ""
            raise AssertionError(f"{found.computation} is {found.verdict}{names}\n{to_text(report)}")
        return report
