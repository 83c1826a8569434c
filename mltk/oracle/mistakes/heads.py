"""The known mistakes of heads."""

from __future__ import annotations

from mltk.oracle.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = ()
