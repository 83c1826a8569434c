"""LearnableOptimizer with a guard: no step raises the loss, and the hypergradient is of the part taken."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mltk_backends.torch.learnable_optimizer import LearnableOptimizer
from torch import nn

from mltk import modules
from mltk.errors import SettingError, ShapeError
from mltk.optim.transforms import Backtrack, Momentum, Scale, chain

TRANSFORMS = {
    "scale": Scale(),
    "chain": chain(Momentum(0.5), Scale(per="scalar")),
    "modules": lambda p: nn.Identity(),
}


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def problem(seed=0, scale=1.0):
    """A small network, and its loss on random examples."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = scale * torch.randn(6, 3), torch.randn(6, 2)
    return model, lambda: nn.functional.mse_loss(model(x), y)


def descend(learned, loss, steps, **options):
    """The loss before and after each step."""
    losses = [loss().item()]
    for _ in range(steps):
        learned.zero_grad()
        loss().backward()
        learned.step(loss, **options)
        losses.append(loss().item())
    return losses


@settings(max_examples=25)
@given(
    lr=st.floats(-2, 8).map(lambda power: 10.0**power),
    risk=st.sampled_from([0.0, 0.5, 1.0]),
    name=st.sampled_from([*TRANSFORMS]),
    seed=st.integers(0, 1000),
)
def test_no_step_raises_the_loss(lr, risk, name, seed):
    model, loss = problem(seed, scale=3.0)
    learned = LearnableOptimizer(model, TRANSFORMS[name], lr, guard=Backtrack(risk))
    losses = descend(learned, loss, 4)
    assert all(after <= before for before, after in pairwise(losses))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_steps_that_raise_nothing_are_as_without_a_guard(name):
    found = []
    for guard in (None, Backtrack()):
        model, loss = problem()
        learned = LearnableOptimizer(model, TRANSFORMS[name], 0.05, guard=guard)
        found.append((descend(learned, loss, 5), [p.tolist() for p in model.parameters()]))
    assert found[0] == found[1]
    assert sorted(found[0][0], reverse=True) == found[0][0]


def test_a_descent_that_diverges_converges_with_it():
    x = torch.linspace(-1, 1, 20)[:, None]
    ends = []
    for guard in (None, Backtrack(0.5)):
        model = nn.Linear(1, 1)
        learned = modules.LearnableOptimizer(model, Scale(), 100.0, guard=guard)
        losses = descend(learned, lambda m=model: nn.functional.mse_loss(m(x), 3 * x + 1), 60)
        ends.append(losses[-1])
    assert not ends[0] < 1e50
    assert ends[1] < 1e-12


@pytest.mark.parametrize(("lr", "part"), [(0.5, 1.0), (3.0, 0.5), (30.0, 0.0625), (1e9, 0.0)])
@pytest.mark.parametrize("inside", [False, True])
def test_the_hypergradient_is_that_of_the_part_taken(lr, part, inside):
    """On the parabola w²/2, where a step of lr goes lr times the way to the minimum."""
    model = nn.Linear(1, 1, bias=False)
    scale, guard = Scale(per="scalar"), Backtrack(0.0)
    learned = LearnableOptimizer(
        model, chain(scale, guard) if inside else scale, lr, guard=None if inside else guard
    )
    loss = lambda: (model.weight**2).sum() / 2  # noqa: E731
    start = model.weight.item()
    loss().backward()
    learned.step(loss)
    end = model.weight.item()
    assert end == pytest.approx(start * (1 - part * lr), rel=1e-12)
    learned.zero_grad()
    loss().backward()
    (p,) = learned.parameters()
    hypergradient = 0.0 if p.grad is None else p.grad.item()
    assert hypergradient == pytest.approx(-end * part * lr * start, rel=1e-12)


def test_an_infinite_step_is_not_taken():
    model, loss = problem()
    learned = LearnableOptimizer(model, Scale(1e300), 1e300, guard=Backtrack())
    losses = descend(learned, loss, 2)
    assert losses[0] == losses[1] == losses[2]


def test_the_risk_is_asked_at_each_step():
    """A step of 1.5 times the way to the minimum is taken where that is no risk, and halved where it is."""
    model, risks = nn.Linear(1, 1, bias=False), [0.0, np.ones(1)]  # of one task, as from a predictor
    learned = LearnableOptimizer(model, Scale(), 1.5, guard=Backtrack(lambda: risks.pop(0)))
    loss = lambda: (model.weight**2).sum() / 2  # noqa: E731
    start = model.weight.item()
    for factor in (-0.5, -0.5 * 0.25):
        learned.zero_grad()
        loss().backward()
        learned.step(loss)
        assert model.weight.item() == pytest.approx(factor * start, rel=1e-12)


def test_a_closure_that_fails_leaves_the_model_as_it_was():
    model, loss = problem()
    learned = LearnableOptimizer(model, Scale(), 1e3, guard=Backtrack())
    loss().backward()
    before, calls = list(model.parameters()), []

    def closure():
        calls.append(torch.is_grad_enabled())
        if len(calls) == 3:
            raise RuntimeError("no more")
        return loss()

    with pytest.raises(RuntimeError, match="no more"):
        learned.step(closure)
    assert calls == [False] * 3
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))


def test_shared_parameters_stay_shared():
    first = nn.Linear(2, 2)
    model = nn.Sequential(first, nn.Tanh(), first)
    x = torch.randn(5, 2)
    learned = LearnableOptimizer(model, Scale(), 1e3, guard=Backtrack())
    losses = descend(learned, lambda: (model(x) ** 2).mean(), 3)
    assert model[0].weight is model[2].weight
    assert losses[3] <= losses[2] <= losses[1] <= losses[0]


@pytest.mark.parametrize(
    ("transform", "guard", "message"),
    [
        (Scale(), Scale(), r"guard is Scale.*expected Backtrack"),
        (Scale(), 0.5, r"guard is 0\.5"),
        (chain(Scale(), Backtrack()), Backtrack(), r"guard is Backtrack.*no other"),
    ],
)
def test_what_guards_nothing_is_refused(transform, guard, message):
    with pytest.raises(SettingError, match=message):
        LearnableOptimizer(problem()[0], transform, guard=guard)


def test_a_guard_needs_the_loss():
    model, loss = problem()
    learned = LearnableOptimizer(model, Scale(), 0.1, guard=Backtrack())
    loss().backward()
    with pytest.raises(SettingError, match="closure is None"):
        learned.step()
    with pytest.raises(ShapeError, match=r"closure gave shape \(6, 2\)"):
        learned.step(lambda: torch.zeros(6, 2))
