"""Clone, update and detach modules without losing gradients: Torch's modules, and `mltk.Module`."""

from mltk.modules.functions import LearnableOptimizer, clone_module, detach_module, meta_grad, update_module
from mltk.modules.module import Module

__all__ = ["LearnableOptimizer", "Module", "clone_module", "detach_module", "meta_grad", "update_module"]
