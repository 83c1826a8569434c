"""Torch modules: what is kept, in which dtype, and the gradient at the origin."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch_module_problems import data, functional_maml, inner_step, mlp

from mltk import ops
from mltk.errors import SettingError, ShapeError, UnsupportedError
from mltk.modules.functions import clone_module, detach_module, meta_grad, update_module


@pytest.mark.parametrize("detached", [True, False])
def test_no_memory_is_kept_after_the_clone_is_dropped(detached):
    module, (x, y) = mlp(), data()
    gc.collect()
    gc.disable()
    try:
        clone = clone_module(module)
        first = list(clone.parameters())
        inner_step(clone, x, y)
        loss = nn.functional.mse_loss(clone(x), y)
        torch.autograd.grad(loss, list(module.parameters()))
        if detached:
            detach_module(clone)
        watched = [clone, clone[0], *first, *clone.parameters(), loss]
        alive = [weakref.ref(thing) for thing in watched]
        assert len(alive) == 11
        del clone, first, loss, watched
        assert [ref() for ref in alive if ref() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("cut", [True, False])
def test_many_inner_steps_keep_no_more_than_few_if_each_is_detached(cut):
    """Numbers saved for a backward pass that are alive after the last step, themselves without a graph."""

    class Saved:
        def __init__(self, tensor):
            self.tensor, self.size = tensor.detach(), tensor.numel()

    def alive(steps):
        module, (x, y) = mlp(), data()
        saved = weakref.WeakSet()

        def pack(tensor):
            saved.add(kept := Saved(tensor))
            return kept

        clone = clone_module(module)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            for _ in range(steps):
                inner_step(clone, x, y)
                if cut:
                    detach_module(clone, keep_requires_grad=True)
            loss = nn.functional.mse_loss(clone(x), y)
            found = sum(kept.size for kept in saved)
        assert loss.requires_grad
        return found

    assert (alive(40) == alive(2)) == cut
    assert (alive(40) > 10 * alive(2)) == (not cut)


def test_the_graph_dies_with_the_clone():
    module = nn.Linear(2, 2)
    marker = torch.ones(2, 2, requires_grad=True)
    update = marker * 1
    freed = []

    class Saved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.marker = Marker()
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Marker:
        def __del__(self):
            freed.append(True)

    clone = clone_module(module)
    update_module(clone, [Saved.apply(update), None])
    assert not freed
    del clone
    assert freed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
def test_dtypes_and_memory_formats_are_kept(dtype):
    module = nn.Conv2d(2, 3, 2).to(dtype)
    module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
    module.register_buffer("count", torch.tensor(3))
    module.register_parameter("other", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    clone = clone_module(module)
    update_module(clone, [torch.ones_like(p) for p in clone.parameters()])
    for name, p in module.named_parameters():
        new = dict(clone.named_parameters())[name]
        assert new.dtype == p.dtype
        assert new.stride() == p.stride()
        torch.testing.assert_close(new, p + 1)
    assert clone.count.dtype == torch.int64


def test_without_grad_mode_a_clone_is_cut():
    module, (x, y) = mlp(), data()
    with torch.no_grad():
        clone = clone_module(module)
        update_module(clone, [torch.ones_like(p) for p in clone.parameters()])
    assert not any(p.requires_grad for p in clone.parameters())
    with torch.no_grad():
        grads = meta_grad(clone_module(module), "mse", x, y, wrt=module)
        assert all(not grad.any() for grad in grads)
        assert all(grad.any() for grad in meta_grad(module, "mse", x, y, wrt=module))


@pytest.mark.parametrize("loss", ["mse", ops.MeanSquaredError(), nn.MSELoss(), nn.functional.mse_loss])
def test_losses_by_name_by_mltk_and_by_torch_agree_and_can_be_taken_again(loss):
    module, (x, y) = mlp(), data()
    clone = inner_step(clone_module(module), x, y)
    expected = functional_maml(module, x, y, x, y, 1)
    for _ in range(2):
        for found, right in zip(meta_grad(clone, loss, x, y, wrt=module), expected, strict=True):
            torch.testing.assert_close(found, right)


def test_meta_grad_names_what_is_wrong():
    module, (x, y) = mlp(), data()
    with pytest.raises(SettingError, match="loss is 'mea'"):
        meta_grad(module, "mea", x, y, wrt=module)
    with pytest.raises(ShapeError, match=r"\(5, 2\)"):
        meta_grad(module, lambda outputs, target: outputs - target, x, y, wrt=module)
    with torch.inference_mode(), pytest.raises(UnsupportedError, match="inference_mode"):
        meta_grad(module, "mse", x, y, wrt=module)


def test_a_part_that_the_loss_does_not_use_gets_no_gradient_and_zeros_from_meta_grad():
    class Partly(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x)))

    (x, y), module = data(), Partly(*mlp(), nn.Linear(2, 2).double())
    clone = clone_module(module)
    update_module(clone, [p * 2 for p in clone.parameters()])
    value = nn.functional.mse_loss(clone(x), y)
    found = torch.autograd.grad(value, list(module.parameters()), allow_unused=True)
    assert [grad is None for grad in found] == [False] * 4 + [True] * 2
    assert [grad.any().item() for grad in meta_grad(clone_module(module), "mse", x, y, wrt=module)] == [
        True
    ] * 4 + [False] * 2
