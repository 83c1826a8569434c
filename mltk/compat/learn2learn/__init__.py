"""learn2learn's interface: ``import mltk.compat.learn2learn as l2l``. It needs Torch."""

from mltk.compat.learn2learn import algorithms
from mltk.modules.functions import clone_module, detach_module, update_module
from mltk.ops.dice import magic_box

__all__ = ["algorithms", "clone_module", "detach_module", "magic_box", "update_module"]
