"""The benchmark: the same exact meta-gradient by mltk and by every installed peer, turn by turn.

All contestants, each in a process of its own, are timed in turn, A B C A B C, after comparing their
gradients; fresh processes measure the peak memory of each. The numbers of one machine vary: only ratios are
conclusions.
"""

from mltk.benchmark.commands import app

__all__ = ["app"]
