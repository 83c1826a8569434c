"""Clones of Torch modules within compiled functions, and of compiled modules."""

import torch
from torch import nn

from mltk.modules.functions import clone_module, meta_grad, update_module


def loss_of(outputs, target=None):
    return (outputs**2).sum()


def test_a_compiled_function_that_clones_updates_and_runs():
    module, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.ones(2, 3).double()

    def query_loss(x):
        clone = clone_module(module)
        update_module(clone, [-0.1 * p * x.mean() for p in clone.parameters()])
        return loss_of(clone(x))

    compiled = torch.compile(query_loss, backend="aot_eager")
    for _ in range(2):
        expected = torch.autograd.grad(query_loss(x), list(module.parameters()))
        for grad, right in zip(
            torch.autograd.grad(compiled(x), list(module.parameters())), expected, strict=True
        ):
            torch.testing.assert_close(grad, right)
        with torch.no_grad():
            module[0].weight.mul_(2)


def test_a_compiled_module_gives_a_compiled_clone_that_calls_itself():
    module = nn.Linear(2, 2, bias=False)
    compiled = torch.compile(module, backend="eager")
    x = torch.ones(1, 2)
    before = compiled(x).detach()
    clone = clone_module(compiled)
    update_module(clone, [torch.ones(2, 2)])
    torch.testing.assert_close(clone(x), before + 2)
    torch.testing.assert_close(compiled(x), before)
    assert type(clone) is type(compiled)
    (grad,) = meta_grad(clone, loss_of, x, None, wrt=compiled)
    torch.testing.assert_close(grad, 2 * (before + 2).mT.expand(2, 2).detach())


def test_a_module_compiled_in_place_gives_a_clone_that_calls_itself():
    module = nn.Linear(2, 2, bias=False)
    module.compile(backend="eager")
    x = torch.ones(1, 2)
    before = module(x).detach()
    torch.testing.assert_close(update_module(clone_module(module), [torch.ones(2, 2)])(x), before + 2)
