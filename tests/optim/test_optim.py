"""Outer optimisers: equal to Torch's over many steps, pure, and at home on every library and device."""

import array_api_strict
import numpy as np
import pytest
import torch
from assertions import agree
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import optim, tree
from mltk.errors import TreeError

STEPS = 40

rates = st.floats(1e-4, 0.3)
decays = st.sampled_from([0.0, 0.01, 0.3])
shapes = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=4)


def conversion(library):
    """From NumPy to a library."""
    return {"numpy": np.asarray, "torch": torch.as_tensor, "strict": array_api_strict.asarray}[library]


def problem(shapes, seed):
    """Parameters in a nested tree, and the gradients of each step, in NumPy."""
    rng = np.random.default_rng(seed)
    names = [f"{i % 2}.leaf{i}" for i in range(len(shapes))]

    def draw():
        return {name: rng.normal(size=shape) for name, shape in zip(names, shapes, strict=True)}

    return draw(), [draw() for _ in range(STEPS)]


def ours(optimizer, params, grads, convert):
    params = tree.unflatten({name: convert(leaf) for name, leaf in params.items()})
    state = optimizer.init(params)
    for grad in grads:
        grad = tree.unflatten({name: convert(leaf) for name, leaf in grad.items()})
        updates, state = optimizer.update(grad, state, params)
        params = optim.apply_updates(params, updates)
    return {name: np.from_dlpack(leaf) for name, leaf in tree.flatten(params).items()}


def theirs(make, params, grads, *, max_norm=None, schedule=None):
    params = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in params.items()}
    optimizer = make(list(params.values()))
    scheduler = schedule and schedule(optimizer)
    for grad in grads:
        for name, leaf in params.items():
            leaf.grad = torch.tensor(grad[name])
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), max_norm)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return {name: leaf.detach().numpy() for name, leaf in params.items()}


@pytest.fixture(params=["numpy", "torch", "strict"])
def convert(request):
    return conversion(request.param)


@settings(max_examples=25)
@given(
    shapes=shapes,
    lr=rates,
    momentum=st.floats(0, 0.99),
    nesterov=st.booleans(),
    decay=decays,
    seed=st.integers(0, 99),
)
def test_sgd_is_torchs(convert, shapes, lr, momentum, nesterov, decay, seed):
    params, grads = problem(shapes, seed)
    nesterov = nesterov and momentum > 0
    found = ours(
        optim.SGD(lr, momentum=momentum, nesterov=nesterov, weight_decay=decay), params, grads, convert
    )
    expected = theirs(
        lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay),
        params,
        grads,
    )
    agree(found, expected, rtol=1e-12)


@settings(max_examples=25)
@given(
    shapes=shapes,
    lr=rates,
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.999)),
    eps=st.sampled_from([1e-8, 1e-3]),
    decay=st.none() | decays,
    seed=st.integers(0, 99),
)
def test_adam_and_adamw_are_torchs(convert, shapes, lr, betas, eps, decay, seed):
    params, grads = problem(shapes, seed)
    if decay is None:
        optimizer = optim.Adam(lr, beta1=betas[0], beta2=betas[1], eps=eps)
        expected = theirs(lambda p: torch.optim.Adam(p, lr=lr, betas=betas, eps=eps), params, grads)
    else:
        optimizer = optim.AdamW(lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=decay)
        expected = theirs(
            lambda p: torch.optim.AdamW(p, lr=lr, betas=betas, eps=eps, weight_decay=decay), params, grads
        )
    agree(ours(optimizer, params, grads, convert), expected, rtol=1e-12)


@settings(max_examples=25)
@given(shapes=shapes, max_norm=st.floats(0.1, 20), seed=st.integers(0, 99))
def test_clipping_before_momentum_is_torchs(convert, shapes, max_norm, seed):
    params, grads = problem(shapes, seed)
    found = ours(
        optim.chain(optim.ClipByGlobalNorm(max_norm), optim.SGD(0.1, momentum=0.9)), params, grads, convert
    )
    expected = theirs(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), params, grads, max_norm=max_norm)
    agree(found, expected, rtol=1e-12)


@settings(max_examples=25)
@given(start=rates, share=st.floats(0, 1), steps=st.integers(20, 60), warmup=st.integers(0, 19))
def test_cosine_is_torchs(start, share, steps, warmup):
    def schedule(optimizer):
        scheduler = torch.optim.lr_scheduler
        cosine = scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=share * start)
        if not warmup:
            return cosine
        rise = scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        return scheduler.SequentialLR(optimizer, [rise, cosine], milestones=[warmup])

    cosine = optim.Cosine(start, steps, end=share * start, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=start)
    scheduler = schedule(optimizer)
    for step in range(steps + 1):
        assert cosine(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        scheduler.step()
    assert cosine(steps + 7) == pytest.approx(share * start)


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.AdamW])
def test_optimisers_follow_a_schedule_as_torchs_do(convert, optimizer):
    params, grads = problem([(3,), (2, 2)], 0)
    found = ours(optimizer(optim.StepDecay(0.1, every=7, factor=0.3)), params, grads, convert)
    expected = theirs(
        lambda p: getattr(torch.optim, optimizer.__name__)(p, lr=0.1),
        params,
        grads,
        schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=7, gamma=0.3),
    )
    agree(found, expected, rtol=1e-12)


ALL = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    optim.Adam(optim.Cosine(0.1, 10)),
    optim.AdamW(0.1),
    optim.ClipByGlobalNorm(0.1),
    optim.chain(optim.ClipByGlobalNorm(0.1), optim.Adam()),
    optim.HypergradientDescent(optim.SGD(0.1, momentum=0.9), 0.01),
    optim.HypergradientDescent(optim.AdamW(0.1), 0.01),
]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_arguments_are_left_as_they_are(optimizer, convert):
    params, grads = (
        {"a": {"b": convert(np.arange(3.0) + i)}, "c": convert(np.asarray(2.0 + i))} for i in (0, 1)
    )
    _, state = optimizer.update(grads, optimizer.init(params), params)
    before = [{name: str(leaf) for name, leaf in tree.flatten(t).items()} for t in (params, grads, state)]
    updates, _ = optimizer.update(grads, state, params)
    optim.apply_updates(params, updates)
    after = [{name: str(leaf) for name, leaf in tree.flatten(t).items()} for t in (params, grads, state)]
    assert before == after


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_no_value_is_fetched_from_a_device(optimizer):
    params = {"weight": torch.zeros(3, 2, device="meta"), "lr": torch.zeros((), device="meta")}
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(params, state, params)
        moved = optim.apply_updates(params, updates)
    for name, leaf in moved.items():
        assert (leaf.device.type, leaf.shape) == ("meta", params[name].shape)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaves_keep_library_shape_and_dtype(optimizer, dtype):
    for name in ("numpy", "torch"):
        backend = mltk.backend(name, dtype=dtype)
        params = {"weight": backend.asarray(np.ones((2, 3))), "lr": backend.asarray(np.asarray(0.5))}
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        moved = optim.apply_updates(params, updates)
        for key, leaf in moved.items():
            assert backend.owns(leaf)
            assert tuple(leaf.shape) == tuple(params[key].shape)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_gradients_are_matched_by_name(optimizer):
    params = {"a": np.zeros(2), "b": np.ones(3)}
    grads = {"a": np.asarray([1.0, 2.0]), "b": np.asarray([3.0, 4.0, 5.0])}
    expected, _ = optimizer.update(grads, optimizer.init(params), params)
    found, _ = optimizer.update(dict(reversed(grads.items())), optimizer.init(params), params)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf)
    with pytest.raises(TreeError, match="b"):
        optimizer.update({"a": grads["a"]}, optimizer.init(params), params)
