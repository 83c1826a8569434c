"""A small module, its data, and MAML on it without clones, for the tests of Torch modules."""

import torch
from torch import nn

from mltk.modules.functions import update_module


def mlp(dtype=torch.float64):
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def data(dtype=torch.float64):
    return torch.randn(5, 3, dtype=dtype), torch.randn(5, 2, dtype=dtype)


def inner_step(module, x, y, lr=0.1, loss=nn.functional.mse_loss):
    grads = torch.autograd.grad(loss(module(x), y), list(module.parameters()), create_graph=True)
    return update_module(module, [-lr * g for g in grads])


def functional_maml(module, x, y, qx, qy, steps, lr=0.1):
    """The same by torch.func.functional_call: parameters in a dict, nothing cloned."""
    params = dict(module.named_parameters())
    for _ in range(steps):
        loss = nn.functional.mse_loss(torch.func.functional_call(module, params, (x,)), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
    loss = nn.functional.mse_loss(torch.func.functional_call(module, params, (qx,)), qy)
    return torch.autograd.grad(loss, list(module.parameters()))
