"""The known mistakes of learners."""

from __future__ import annotations

from mltk.oracle.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = ()
