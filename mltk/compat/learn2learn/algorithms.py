"""`MAML` and `MetaSGD`, as in learn2learn; they stand in the Torch backend, which is found as a plug-in."""

from importlib import import_module

from mltk.plugins import load

_served = import_module(f"{load('torch').__module__}.learn2learn")

MAML = _served.MAML
MetaSGD = _served.MetaSGD

__all__ = ["MAML", "MetaSGD"]
