"""LearnableOptimizer: meta-descent through a transform of gradients, on any Torch module."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mltk_backends.torch.learnable_optimizer import LearnableOptimizer
from torch import nn
from torch.func import functional_call

from mltk import modules
from mltk.errors import SettingError
from mltk.optim.transforms import Bias, Clip, Kronecker, MetaCurvature, Momentum, Network, Scale, chain

TRANSFORMS = {
    "scale": Scale(),
    "bias": Bias(),
    "momentum": Momentum(0.5),
    "kronecker": Kronecker(),
    "meta-curvature": MetaCurvature(),
    "network": Network(hidden=(3,)),
    "chain": chain(Clip(0.5), Momentum(0.3, per="scalar"), Scale(per="tensor")),
}


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(sizes=(3, 4, 2)):
    return nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:]))


def batches(count, n=6, sizes=(3, 4, 2)):
    return [(torch.randn(n, sizes[0]), torch.randn(n, sizes[2])) for _ in range(count)]


def loss_of(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def descend(model, learned, data, *, rate=0.05):
    """Meta-descent as the docstring shows it; the losses, and the transform's gradients before each step."""
    losses, grads = [], []
    for batch in data:
        learned.zero_grad()
        for p in learned.parameters():
            p.grad = None
        loss = loss_of(model, batch)
        loss.backward()
        grads.append([p.grad for p in learned.parameters()])
        with torch.no_grad():
            for p in learned.parameters():
                if p.grad is not None:
                    p -= rate * p.grad
        learned.step()
        losses.append(loss.item())
    return losses, grads


@given(lr=st.floats(0.01, 0.5), n=st.integers(1, 5), hidden=st.integers(1, 4), steps=st.integers(2, 4))
def test_the_hypergradient_of_a_scalar_step_is_a_product_of_gradients(lr, n, hidden, steps):
    sizes = (2, hidden, 2)
    model = network(sizes)
    learned = LearnableOptimizer(model, Scale(per="scalar"), lr=lr)
    (scale,) = learned.parameters()
    before = None
    for batch in batches(steps, n, sizes):
        learned.zero_grad()
        scale.grad = None
        loss_of(model, batch).backward()
        g = torch.cat([p.grad.flatten() for p in model.parameters()])
        if before is None:
            assert scale.grad is None
        else:  # Baydin et al. 2018, equation 5
            torch.testing.assert_close(scale.grad, -lr * g @ before, rtol=1e-12, atol=1e-14)
        before = g
        learned.step()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_is_the_loop_written_with_functions(name):
    transform, lr, rate = TRANSFORMS[name], 0.3, 0.05
    model, data = network(), batches(5)
    learned = LearnableOptimizer(model, transform, lr=lr, seed=3)
    params = {key: p.detach().clone() for key, p in model.named_parameters()}
    p = {key: leaf.detach().clone().requires_grad_() for key, leaf in learned.named_parameters()}
    arrays = nested({key.removeprefix("transforms.learned."): leaf for key, leaf in p.items()})
    state = transform.start(nested({key: torch.zeros_like(leaf)[None] for key, leaf in params.items()}))
    shapes = {key: tuple(leaf.shape) for key, leaf in params.items()}
    drawn = flat(transform.init(shapes, np.random.default_rng(3)))
    assert {f"transforms.learned.{key}" for key in drawn} == p.keys()
    for key, leaf in drawn.items():
        np.testing.assert_array_equal(p[f"transforms.learned.{key}"].detach(), leaf)
    expected = []
    for x, y in data:
        leaves = {key: leaf if leaf.requires_grad else leaf.requires_grad_() for key, leaf in params.items()}
        loss = nn.functional.mse_loss(functional_call(model, leaves, (x,)), y)
        wanted = [*leaves.values(), *p.values()]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        grads = dict(zip(leaves, found[: len(leaves)], strict=True))
        with torch.no_grad():
            for leaf, grad in zip(p.values(), found[len(leaves) :], strict=True):
                if grad is not None:
                    leaf -= rate * grad
        expected.append(loss.item())
        tasks = nested({key: g.detach()[None] for key, g in grads.items()})
        directions, state, _ = transform.forward(arrays, tasks, state)
        state = nested({key: leaf.detach() for key, leaf in flat(state).items()})
        params = {key: leaves[key].detach() - lr * d[0] for key, d in flat(directions).items()}
    losses, _ = descend(model, learned, data, rate=rate)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    for key, leaf in model.named_parameters():
        torch.testing.assert_close(leaf, params[key], rtol=1e-12, atol=1e-12)
    for key, leaf in learned.named_parameters():
        torch.testing.assert_close(leaf, p[key], rtol=1e-12, atol=1e-12)


def flat(tree, above=""):
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def nested(flat):
    tree = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def test_without_anything_learned_it_is_gradient_descent():
    model, data = network(), batches(4)
    twin = copy.deepcopy(model)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.2)
    learned = LearnableOptimizer(model, lambda p: nn.Identity(), lr=0.2)
    assert list(learned.parameters()) == []
    for batch in data:
        learned.zero_grad()
        loss_of(model, batch).backward()
        learned.step()
        sgd.zero_grad()
        loss_of(twin, batch).backward()
        sgd.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-14)


def identity_at_first(p):
    layer = nn.Linear(p.shape[-1], p.shape[-1], bias=False)
    nn.init.eye_(layer.weight)
    return layer


def test_a_linear_layer_for_each_parameter_learns():
    model = network()
    data = batches(1) * 60
    twin = copy.deepcopy(model)
    learned = LearnableOptimizer(model, identity_at_first, lr=0.1)
    assert [tuple(p.shape) for p in learned.parameters()] == [(3, 3), (4, 4), (4, 4), (2, 2)]
    losses, grads = descend(model, learned, data, rate=2.0)
    plain, _ = descend(twin, LearnableOptimizer(twin, lambda p: nn.Identity(), lr=0.1), data)
    assert grads[0] == [None] * 4
    assert all(g.abs().max() > 0 for g in grads[1])
    assert losses[-1] < 0.9 * plain[-1]


def test_zero_grad_is_of_the_model_alone():
    model = network()
    learned = LearnableOptimizer(model, Scale())
    descend(model, learned, batches(2))
    loss_of(model, batches(1)[0]).backward()
    kept = [p.grad.clone() for p in learned.parameters()]
    learned.zero_grad(set_to_none=False)
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in model.parameters())
    learned.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    for p, grad in zip(learned.parameters(), kept, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0)


class TwoHeads(nn.Module):
    """Which head is used is said from outside; the other one gets no gradient."""

    def __init__(self):
        super().__init__()
        self.body, self.heads, self.used = (
            nn.Linear(3, 4),
            nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)]),
            0,
        )

    def forward(self, x):
        return self.heads[self.used](torch.tanh(self.body(x)))


@pytest.mark.parametrize("transform", [Momentum(0.5), chain(Clip(1.0), Scale()), lambda p: nn.Identity()])
def test_parameters_without_gradient_stay_and_their_state_too(transform):
    model = TwoHeads()
    learned = LearnableOptimizer(model, transform, lr=0.1)
    descend(model, learned, batches(2))
    velocity = {key: b.clone() for key, b in learned.named_buffers()}
    idle = {name: p.detach().clone() for name, p in model.named_parameters() if "heads.0" in name}
    model.used = 1
    descend(model, learned, batches(2))
    assert idle
    for name, p in model.named_parameters():
        if name in idle:
            torch.testing.assert_close(p.detach(), idle[name], rtol=0, atol=0)
            assert p.requires_grad
            assert p.grad_fn is None  # nothing is kept of the step that made it
    for key, b in learned.named_buffers():
        if "heads.0" in key:
            torch.testing.assert_close(b, velocity[key], rtol=0, atol=0)
    model.used = 0
    descend(model, learned, batches(1))
    assert all(not torch.equal(p, idle[name]) for name, p in model.named_parameters() if name in idle)


def test_frozen_parameters_have_no_transform_and_stay():
    model = network()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight
    learned = LearnableOptimizer(model, Scale())
    assert "transforms.learned.0.weight" not in learned.state_dict()
    descend(model, learned, batches(3))
    assert model[0].weight is frozen
    assert not frozen.requires_grad
    frozen.requires_grad_()
    learned.zero_grad()
    loss_of(model, batches(1)[0]).backward()
    with pytest.raises(SettingError, match=r"0\.weight has a gradient, but needed none"):
        learned.step()


def test_shared_parameters_stay_shared():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 2))
    model[2].weight = model[0].weight
    learned = LearnableOptimizer(model, Scale())
    assert sum("weight" in name for name in learned.state_dict()) == 2
    start = model[0].weight
    descend(model, learned, batches(2))
    assert model[2].weight is model[0].weight
    assert model[0].weight is not start


def test_a_clone_is_optimised_and_its_original_is_not():
    model = network()
    clone = modules.clone_module(model)
    twin = copy.deepcopy(model)
    before = [p.detach().clone() for p in model.parameters()]
    data = batches(3)
    losses, _ = descend(clone, LearnableOptimizer(clone, Scale(), lr=0.1), data)
    expected, _ = descend(twin, LearnableOptimizer(twin, Scale(), lr=0.1), data)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    for p, start in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), start, rtol=0, atol=0)
    reached = [p.grad for p in model.parameters()]
    loss_of(clone, data[0]).backward()  # the first step has cut the clone from its original
    for p, grad in zip(model.parameters(), reached, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0)


def test_the_parameters_that_stood_before_a_step_are_not_touched():
    model = network()
    owned = list(model.parameters())
    values = [p.detach().clone() for p in owned]
    descend(model, LearnableOptimizer(model, Scale()), batches(2))
    for p, value in zip(owned, values, strict=True):
        assert p.requires_grad
        torch.testing.assert_close(p.detach(), value, rtol=0, atol=0)


@pytest.mark.parametrize("asked", [False, True])
def test_a_parameter_that_was_replaced_outside_asks_for_zero_grad(asked):
    model = network()
    learned = LearnableOptimizer(model, Scale(), lr=0.1)
    descend(model, learned, batches(1))
    modules.update_module(model, [torch.zeros_like(p) for p in model.parameters()])
    before = model[0].weight
    if asked:
        learned.zero_grad()
    loss_of(model, batches(1)[0]).backward()
    if asked:
        learned.step()
        assert not torch.equal(model[0].weight, before)
    else:
        with pytest.raises(SettingError, match=r"0\.weight has been replaced.*zero_grad"):
            learned.step()


def test_recurrent_layers_see_their_new_weights():
    torch.manual_seed(2)
    model = nn.LSTM(3, 2)
    learned = LearnableOptimizer(model, Scale(), lr=0.5)
    x = torch.randn(4, 3)
    for _ in range(2):
        learned.zero_grad()
        model(x)[0].square().mean().backward()
        learned.step()
    twin = nn.LSTM(3, 2)
    twin.load_state_dict({name: p.detach() for name, p in model.named_parameters()})
    torch.testing.assert_close(model(x)[0], twin(x)[0], rtol=1e-12, atol=1e-14)


def nodes_behind(tensor):
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


@pytest.mark.parametrize("transform", [Momentum(0.5), chain(Momentum(0.5), Scale()), identity_at_first])
def test_memory_does_not_grow_with_the_steps(transform):
    model = network()
    learned = LearnableOptimizer(model, transform, lr=0.01)
    data = batches(1) * 2
    descend(model, learned, data, rate=1e-3)
    depth = [nodes_behind(p) for p in model.parameters()]
    old = [weakref.ref(p) for p in model.parameters()]
    gc.collect()
    alive = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    descend(model, learned, data * 100, rate=1e-3)
    gc.collect()
    assert [nodes_behind(p) for p in model.parameters()] == depth
    assert [reference() for reference in old] == [None] * len(old)
    assert sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()) <= alive
    assert all(not b.requires_grad for b in learned.buffers())


def test_a_gradient_that_has_a_graph_itself_is_a_constant():
    model, batch = network(), batches(1)[0]
    learned = LearnableOptimizer(model, Scale(), lr=0.1)
    wanted = torch.autograd.grad(loss_of(model, batch), list(model.parameters()), create_graph=True)
    for p, g in zip(model.parameters(), wanted, strict=True):
        p.grad = g
    owned = list(model.parameters())
    learned.step()
    found = torch.autograd.grad(loss_of(model, batch), owned, allow_unused=True)
    assert found == (None,) * len(owned)


def test_the_state_dict_brings_transform_and_memory_back():
    transform = chain(Momentum(0.5), Scale())
    model, data = network(), batches(6)
    learned = LearnableOptimizer(model, transform, lr=0.1)
    descend(model, learned, data[:3])
    stand, kept = copy.deepcopy((model.state_dict(), learned.state_dict()))
    expected, _ = descend(model, learned, data[3:], rate=0)
    forgotten = {name: torch.zeros_like(leaf) if ".state." in name else leaf for name, leaf in kept.items()}
    found = {}
    for case, state in {"whole": kept, "without velocity": forgotten}.items():
        again = network()
        again.load_state_dict(stand)
        resumed = LearnableOptimizer(again, transform, lr=0.1)
        resumed.load_state_dict(state)
        found[case], _ = descend(again, resumed, data[3:], rate=0)
    assert found["whole"] == expected
    assert found["without velocity"] != expected


def test_it_works_within_no_grad_and_keeps_dtype():
    model = network().float()
    learned = LearnableOptimizer(model, Scale(per="tensor"), lr=0.1)
    batch = tuple(part.float() for part in batches(1)[0])
    loss_of(model, batch).backward()
    with torch.no_grad():
        learned.step()
    loss_of(model, batch).backward()
    assert all(p.grad is not None and p.dtype == torch.float32 for p in learned.parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters())
