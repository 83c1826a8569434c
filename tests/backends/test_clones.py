"""Torch modules: a clone is a differentiable copy, an update a differentiable step, a detach a cut."""

import copy
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_module_problems import data, functional_maml, inner_step, mlp

from mltk.errors import SettingError, ShapeError
from mltk.modules.functions import clone_module, detach_module, meta_grad, update_module


class Tied(nn.Module):
    """An embedding that is also the output layer, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.out = nn.Linear(3, 7, bias=False)
        self.out.weight = self.embed.weight
        self.nothing = None
        self.register_module("absent", None)
        self.register_parameter("missing", None)

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(self.embed(x))))))


def snapshot(module):
    """Everything of a module that must not change: identities, values, flags and numbers of entries."""
    return [
        (
            name,
            id(part),
            part.training,
            {k: v.copy() if isinstance(v, dict | set | list) else id(v) for k, v in vars(part).items()},
            {k: (p.detach().clone(), p.requires_grad, p._version) for k, p in part.state_dict().items()},
        )
        for name, part in module.named_modules()
    ]


def assert_unchanged(module, before):
    for (name, identity, training, attributes, values), now in zip(before, snapshot(module), strict=True):
        assert (name, identity, training) == now[:3]
        assert attributes.keys() == now[3].keys()
        for key, old in attributes.items():
            if isinstance(old, dict):
                assert {k: id(v) for k, v in old.items()} == {k: id(v) for k, v in now[3][key].items()}
            else:
                assert now[3][key] == old
        for key, (value, requires_grad, version) in values.items():
            torch.testing.assert_close(now[4][key][0], value, rtol=0, atol=0)
            assert now[4][key][1:] == (requires_grad, version)


@given(steps=st.integers(0, 3), lr=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
def test_gradients_through_clone_and_updates_are_those_of_functional_call(steps, lr, seed):
    torch.manual_seed(seed)
    module, (x, y), (qx, qy) = mlp(), data(), data()
    clone = clone_module(module)
    for _ in range(steps):
        assert inner_step(clone, x, y, lr) is clone
    grads = meta_grad(clone, "mse", qx, qy, wrt=module)
    for grad, expected in zip(grads, functional_maml(module, x, y, qx, qy, steps, lr), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-14)
        assert not grad.requires_grad


def test_an_update_is_differentiable_in_the_parameter_and_in_the_update():
    module = nn.Linear(2, 1, bias=False).double()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    step = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)

    def loss(weight, step, scale):
        clone = clone_module(module)
        clone._parameters["weight"] = weight * 1
        return (update_module(clone, [scale * step])(torch.ones(1, 2, dtype=torch.float64)) ** 3).sum()

    assert torch.autograd.gradgradcheck(loss, (module.weight, step, scale))


def test_a_clone_of_a_clone_reaches_the_clone_and_the_origin():
    module, (x, y) = mlp(), data()
    clone = inner_step(clone_module(module), x, y)
    second = inner_step(clone_module(clone), x, y)
    through = meta_grad(second, "mse", x, y, wrt=clone)
    back = torch.autograd.grad(
        list(clone.parameters()), list(module.parameters()), through, retain_graph=True
    )
    for found, expected in zip(meta_grad(second, "mse", x, y, wrt=module), back, strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(back, functional_maml(module, x, y, x, y, 2), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_clone_owns_its_memory_and_nothing_that_is_done_to_it_changes_the_original():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2)))
    module.register_buffer("steps", torch.tensor(3), persistent=False)
    before = snapshot(module)
    clone = clone_module(module)
    clone(torch.randn(6, 3))
    update_module(clone, [torch.ones_like(p) for p in clone.parameters()])
    with torch.no_grad():
        for tensor in [*clone.parameters(), *clone.buffers()]:
            tensor.add_(1)
    detach_module(clone)
    clone.eval().requires_grad_(True)
    clone.to(torch.float64)
    clone[2].append(nn.ReLU())
    clone.register_buffer("other", torch.zeros(1), persistent=False)
    clone.register_forward_hook(lambda *_: None)
    clone.new = 3
    assert_unchanged(module, before)
    assert "steps" not in clone.state_dict()


def test_shared_parameters_and_modules_stay_shared_and_are_updated_once():
    module = Tied()
    clone = clone_module(module)
    assert clone.first is clone.second is not module.first
    assert clone.out.weight is clone.embed.weight is not module.embed.weight
    assert clone.absent is None
    assert clone.missing is None
    assert [name for name, _ in clone.named_parameters()] == [name for name, _ in module.named_parameters()]
    update_module(clone, [torch.full_like(p, i + 1) for i, p in enumerate(clone.parameters())])
    assert clone.out.weight is clone.embed.weight
    for i, (new, old) in enumerate(zip(clone.parameters(), module.parameters(), strict=True)):
        torch.testing.assert_close(new, old + i + 1)


def test_tied_weights_get_the_sum_of_their_gradients():
    module, x, y = Tied().double(), torch.randint(7, (6,)), torch.randint(7, (6,))
    nn.functional.cross_entropy(module(x), y).backward()
    for grad, p in zip(
        meta_grad(clone_module(module), "cross_entropy", x, y, wrt=module), module.parameters(), strict=True
    ):
        torch.testing.assert_close(grad, p.grad)


def test_a_memo_keeps_tensors_shared_across_calls():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    memo = {}
    a, b = clone_module(first, memo=memo), clone_module(second, memo)
    assert a.weight is b.weight
    assert a.bias is not b.bias
    again = clone_module(first, memo)
    assert again is not a
    assert again.weight is a.weight
    bias = b.bias
    a.weight.update = torch.ones(2, 2)
    a.bias.update = None
    memo = {}
    update_module(a, memo=memo)
    update_module(b, updates=None, memo=memo)
    assert a.weight is b.weight
    assert b.bias is bias
    torch.testing.assert_close(b.weight, first.weight + 1)


def test_with_a_memo_a_parameter_of_two_modules_is_updated_once():
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = weight = first.weight
    memo = {}
    for module in (first, second):
        update_module(module, [torch.ones(2, 2)], memo)
    assert first.weight is second.weight
    torch.testing.assert_close(first.weight, weight + 1)


def test_a_module_that_holds_itself():
    module = nn.Linear(2, 2)
    module.me = module
    clone = clone_module(module)
    assert clone.me is clone is not module
    assert len(list(update_module(clone, [None, torch.ones(2)]).parameters())) == 2
    torch.testing.assert_close(clone.me.bias, module.bias + 1)


def test_a_memo_keeps_the_originals_or_another_tensor_could_be_taken_for_one_of_them():
    memo, module = {}, nn.Linear(1, 1, bias=False).requires_grad_(False)
    clone_module(module, memo)
    alive = weakref.ref(module.weight)
    del module
    assert alive() is not None
    memo.clear()
    assert alive() is None


def test_the_attribute_update_is_used_and_reset():
    module = clone_module(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    weight, bias, mean = module[0].weight, module[0].bias, module[1].running_mean
    weight.update, mean.update = torch.ones(2, 2), torch.full((2,), 3.0)
    update_module(module)
    torch.testing.assert_close(module[0].weight, weight + 1)
    torch.testing.assert_close(module[1].running_mean, mean + 3)
    assert module[0].bias is bias
    assert weight.update is None
    assert mean.update is None
    assert module[0].weight is update_module(module)[0].weight


def test_none_leaves_a_parameter_and_frozen_ones_stay_frozen():
    module = mlp()
    module[0].weight.requires_grad_(False)
    clone = clone_module(module)
    assert [p.requires_grad for p in clone.parameters()] == [False, True, True, True]
    old = list(clone.parameters())
    update_module(clone, [None, torch.ones_like(old[1]), None, torch.ones_like(old[3])])
    new = list(clone.parameters())
    assert [a is b for a, b in zip(new, old, strict=True)] == [True, False, True, False]
    assert [p.requires_grad for p in new] == [False, True, True, True]
    update_module(clone, [torch.ones_like(p) for p in new])
    assert [p.requires_grad for p in clone.parameters()] == [False, True, True, True]
    torch.testing.assert_close(clone[0].weight, module[0].weight + 1)
    x, y = data()
    grads = meta_grad(clone, "mse", x, y, wrt=module)
    assert grads[0].abs().sum() == 0 < grads[1].abs().sum()


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_list_of_another_length_is_an_error_that_says_both(count):
    clone = clone_module(mlp())
    old = list(clone.parameters())
    with pytest.raises(SettingError, match=rf"updates has {count} entries.*4 parameters"):
        update_module(clone, [None] * count)
    assert all(a is b for a, b in zip(clone.parameters(), old, strict=True))


@pytest.mark.parametrize("wrong", [torch.ones(4), torch.ones(1, 4, 3), torch.ones(()), 2.0])
def test_an_update_of_another_shape_is_an_error_that_says_both(wrong):
    clone = clone_module(mlp())
    old = list(clone.parameters())
    found = str(tuple(wrong.shape)) if isinstance(wrong, torch.Tensor) else "2.0"
    with pytest.raises(ShapeError) as caught:
        update_module(clone, [wrong, None, None, None])
    assert found in str(caught.value)
    assert "(4, 3)" in str(caught.value)
    assert "0.weight" in str(caught.value)
    old[0].update = wrong
    with pytest.raises(ShapeError):
        update_module(clone)
    assert all(a is b for a, b in zip(clone.parameters(), old, strict=True))


def test_updates_follow_the_order_of_parameters_even_of_a_module_that_chooses_its_own():
    class Chosen(nn.Sequential):
        def parameters(self, recurse=True):
            return iter([self[1].weight, self[0].bias])

    clone = clone_module(Chosen(nn.Linear(2, 2), nn.Linear(2, 3)))
    old = list(clone.parameters())
    update_module(clone, (p * i for i, p in enumerate(clone.parameters(), 1)))
    for i, (new, p) in enumerate(zip(clone.parameters(), old, strict=True), 1):
        torch.testing.assert_close(new, p * (1 + i))


def test_a_detach_cuts_in_place_and_keeps_what_was_computed_before():
    module, (x, y) = mlp(), data()
    clone = inner_step(clone_module(module), x, y)
    before = nn.functional.mse_loss(clone(x), y)
    tensors = list(clone.parameters())
    assert detach_module(clone, keep_requires_grad=True) is None
    assert all(a is b for a, b in zip(clone.parameters(), tensors, strict=True))
    assert all(p.is_leaf and p.requires_grad for p in clone.parameters())
    assert all(not grad.any() for grad in meta_grad(clone, "mse", x, y, wrt=module))
    assert all(grad.any() for grad in meta_grad(clone, "mse", x, y, wrt=clone))
    for found, expected in zip(
        torch.autograd.grad(before, list(module.parameters())),
        functional_maml(module, x, y, x, y, 1),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    assert all(p.requires_grad and p.is_leaf for p in module.parameters())
    detach_module(clone)
    assert not any(p.requires_grad for p in clone.parameters())


def test_detaching_keeps_frozen_parameters_frozen_and_cuts_buffers_and_views():
    module = mlp()
    module[2].bias.requires_grad_(False)
    module.register_buffer("scale", torch.ones(2, requires_grad=True))
    clone = clone_module(module)
    assert clone.scale.grad_fn is not None
    whole = torch.randn(8, dtype=torch.float64, requires_grad=True)
    clone[2]._parameters["weight"] = (whole * 1).view(2, 4)
    detach_module(clone, keep_requires_grad=True)
    assert [p.requires_grad for p in clone.parameters()] == [True, True, True, False]
    assert clone[2].weight.is_leaf
    assert clone.scale.is_leaf
    assert clone.scale.requires_grad
    assert module.scale.requires_grad


def test_a_detached_clone_can_be_trained_copied_and_saved():
    module, (x, y) = mlp(), data()
    clone = inner_step(clone_module(module), x, y)
    other = mlp()
    other.load_state_dict(clone.state_dict())
    torch.testing.assert_close(other(x), clone(x))
    detach_module(clone, keep_requires_grad=True)
    torch.testing.assert_close(copy.deepcopy(clone)(x), clone(x))
    start = nn.functional.mse_loss(clone(x), y)
    optimizer = torch.optim.SGD(clone.parameters(), lr=0.1)
    start.backward()
    optimizer.step()
    assert nn.functional.mse_loss(clone(x), y) < start
    assert all(p.grad is None for p in module.parameters())
