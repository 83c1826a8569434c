"""mltk.Module: what clones, updates and detaches do, what it costs, and that no memory is kept."""

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_modules import MODEL, NUMPY, X, Y, module_on

import mltk
from mltk import ops
from mltk.errors import ShapeError, TreeError
from mltk.errors import UnsupportedError as Unsupported
from mltk.models import Sequential
from mltk.modules.module import Module


def test_frozen_parameters_count_as_constants():
    module = module_on()
    weight, *_ = module.parameters()
    assert weight.requires_grad_(False) is weight
    clone = mltk.clone_module(module)
    grads = clone.grad("mse", X, Y)
    assert [g is None for g in grads] == [True, False, False, False]
    first = next(clone.parameters())
    assert not first.requires_grad
    assert not (2 * first + 1).requires_grad
    assert (next(module_on().parameters()) * first).requires_grad
    mltk.update_module(clone, [None if g is None else -0.1 * g for g in grads])
    found = mltk.meta_grad(clone, "mse", X, Y, wrt=module)
    assert not found[0].any()
    assert all(g.any() for g in found[1:])
    weight.requires_grad = True
    assert all(g is not None for g in module.grad("mse", X, Y))


def test_only_leaves_can_be_frozen_and_a_detach_makes_leaves():
    module = module_on()
    clone = mltk.clone_module(module)
    with pytest.raises(Unsupported, match="detach_module"):
        next(clone.parameters()).requires_grad_(False)
    assert mltk.detach_module(clone) is None
    assert clone.grad("mse", X, Y) == [None] * 4
    assert all(not g.any() for g in mltk.meta_grad(clone, "mse", X, Y, wrt=module))
    assert all(p.requires_grad for p in module.parameters())
    next(clone.parameters()).requires_grad_()
    assert [g is not None for g in clone.grad("mse", X, Y)] == [True, False, False, False]


def test_detach_keeps_what_was_frozen_and_what_was_computed_before():
    module = module_on()
    list(module.parameters())[1].requires_grad_(False)
    clone = mltk.clone_module(module)
    later = mltk.clone_module(clone)
    mltk.detach_module(clone, keep_requires_grad=True)
    assert [p.requires_grad for p in clone.parameters()] == [True, False, True, True]
    found = mltk.meta_grad(later, "mse", X, Y, wrt=module)
    expected = [None if g is None else g.detach() for g in module.grad("mse", X, Y)]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    leaf = mltk.clone_module(module)
    mltk.detach_module(module, keep_requires_grad=True)
    assert mltk.meta_grad(leaf, "mse", X, Y, wrt=module)[0].any()


def test_a_clone_and_its_origin_do_not_change_each_other():
    module = module_on()
    before = [p.detach().copy() for p in module.parameters()]
    clone = mltk.clone_module(module)
    assert mltk.update_module(clone, [-g for g in clone.grad("mse", X, Y)]) is clone
    for p, old, new in zip(module.parameters(), before, clone.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach(), old)
        assert (new.detach() != old).any()
    assert [name for name, _ in clone.named_parameters()] == list(MODEL.shapes)
    np.testing.assert_array_equal(clone(X), MODEL.apply(clone.params, X[None])[0])


def test_two_clones_with_one_memo_share_their_parameters():
    module, memo, done = module_on(), {}, {}
    first, second = (mltk.clone_module(module, memo) for _ in range(2))
    assert all(p is q for p, q in zip(first.parameters(), second.parameters(), strict=True))
    for clone in (first, second):
        mltk.update_module(clone, [-0.1 * g for g in module.grad("mse", X, Y)], done)
    assert all(p is q for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_updates_in_attributes_are_taken_once():
    module = module_on()
    first, second, *_ = module.parameters()
    first.update, second.update = np.ones((3, 2)), -2 * second
    mltk.update_module(module)
    now = list(module.parameters())
    np.testing.assert_array_equal(now[0].detach(), first.detach() + 1)
    np.testing.assert_array_equal(now[1].detach(), -second.detach())
    assert first.update is second.update is now[0].update is None
    mltk.update_module(module)
    assert all(a is b for a, b in zip(module.parameters(), now, strict=True))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_links_keep_no_memory_after_the_modules_are_dropped(checkpoint):
    gc.collect()
    gc.disable()  # without cycles, counting references is enough
    try:
        module = module_on(checkpoint=checkpoint)
        clone = mltk.clone_module(module)
        seen = []
        for _ in range(3):
            grads = clone.grad("mse", X, Y)
            seen += [weakref.ref(grads[0].source.node), weakref.ref(grads[0]), weakref.ref(clone)]
            seen += [weakref.ref(p.source.node) for p in clone.parameters()]
            mltk.update_module(clone, [-0.1 * g for g in grads])
        mltk.meta_grad(clone, "mse", X, Y, wrt=module)
        alive = sum(ref() is not None for ref in seen)
        assert alive > 5
        del clone, grads
        kept = {p.source.node for p in module.parameters()}
        assert {ref() for ref in seen} <= {None} | kept
    finally:
        gc.enable()


def test_a_detached_gradient_frees_its_forward_pass_at_once():
    module = module_on()
    gc.disable()
    try:
        grads = module.grad("mse", X, Y)
        node = weakref.ref(grads[0].source.node)
        plain = [g.detach() for g in grads]
        del grads
        assert node() is None
    finally:
        gc.enable()
    mltk.update_module(module, [-0.1 * g for g in plain])


def test_thousands_of_updates_neither_overflow_the_stack_nor_lose_the_link():
    """On a quadratic (w - t)² each step multiplies by 1 - 2 lr, and so does the way back; momentum too."""
    model = Sequential([ops.Linear(1, 1, bias=False)])
    module = Module(model, {"0": {"weight": np.array([[3.0]])}})
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    clone, velocity, steps = mltk.clone_module(module), 0.0, 5000
    weight, slope = np.array([3.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(steps):
        (g,) = clone.grad("mse", x, y)
        velocity = 0.5 * velocity + g
        mltk.update_module(clone, [-1e-4 * velocity])
        for state in (weight, slope):
            state[1] = 0.5 * state[1] + 2 * state[0]
            state[0] -= 1e-4 * state[1]
    (found,) = mltk.meta_grad(clone, "mse", x, y, wrt=module)
    assert found[0, 0] == pytest.approx(2 * weight[0] * slope[0], rel=1e-9)
    assert 0.1 < slope[0] < 0.5
    del clone, velocity, g  # freeing the chain is not recursive either


def test_one_hessian_product_for_a_gradient_and_none_that_leads_nowhere(monkeypatch):
    from mltk.engines.analytic import AnalyticLinearization

    calls = []
    product = AnalyticLinearization.hvp
    monkeypatch.setattr(AnalyticLinearization, "hvp", lambda self, v: calls.append(1) or product(self, v))
    module, other = module_on(), module_on()
    clone = mltk.clone_module(module)
    for _ in range(3):
        mltk.update_module(clone, [-0.1 * g for g in clone.grad("mse", X, Y)])
    middle = mltk.clone_module(clone)
    mltk.update_module(middle, [-0.1 * g for g in middle.grad("mse", X, Y)])
    mltk.update_module(middle, [-0.1 * g for g in other.grad("mse", X, Y)])
    assert not calls
    for wrt, expected in ((module, 4), (clone, 1), (middle, 0), (other, 1)):
        calls.clear()
        mltk.meta_grad(middle, "mse", X, Y, wrt=wrt)
        assert len(calls) == expected


@pytest.mark.parametrize(("checkpoint", "expected"), [(False, [True, False]), (True, [False, False, True])])
def test_a_gradient_asks_the_engine_for_no_more_than_it_needs(checkpoint, expected, monkeypatch):
    from mltk.engines.analytic import AnalyticEngine

    asked = []
    linearize = AnalyticEngine.linearize

    def record(self, *arguments, wrt, curvature):
        asked.append((curvature, set(wrt)))
        return linearize(self, *arguments, wrt=wrt, curvature=curvature)

    monkeypatch.setattr(AnalyticEngine, "linearize", record)
    module = module_on(checkpoint=checkpoint)
    next(module.parameters()).requires_grad_(False)
    clone = mltk.clone_module(module)
    updates = [None if g is None else -0.1 * g for g in clone.grad("mse", X, Y)]
    assert len(asked) == 1
    mltk.meta_grad(mltk.update_module(clone, updates), "mse", X, Y, wrt=module)
    assert asked == [(curvature, set(MODEL.shapes) - {"0.weight"}) for curvature in expected]


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 100))
def test_the_loss_is_that_of_one_task_without_an_axis_for_it(count, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((count, 2)), rng.standard_normal((count, 1))
    module = module_on()
    lin = NUMPY.engine.linearize(
        mltk.contracts.Objective(MODEL, ops.loss("mse")), module.params, x[None], y[None]
    )
    for g, expected in zip(module.grad("mse", x, y), mltk.tree.leaves(lin.grad), strict=True):
        np.testing.assert_array_equal(g.detach(), expected[0])
    assert module(x).shape == (count, 1)


def test_an_update_that_fails_leaves_the_module_as_it_was():
    module = module_on()
    before = list(module.parameters())
    before[0].update = np.ones((3, 2))
    before[1].update = np.ones(7)
    with pytest.raises(ShapeError, match=r"'0\.bias'"):
        mltk.update_module(module)
    assert all(p is q for p, q in zip(module.parameters(), before, strict=True))
    assert before[0].update is not None


def test_images_need_their_axis_of_examples():
    model = mltk.models.conv4(1, 16, width=2, out_features=2)
    module = Module(model, model.init(NUMPY, 0))
    with pytest.raises(ShapeError, match=r"\(1, 16, 16\).*2 axes.*expected 3"):
        module(np.zeros((1, 16, 16)))


def normed(statistics, **settings):
    return Sequential([ops.Linear(2, 3), ops.BatchNorm(3, spatial_axes=0, statistics=statistics, **settings)])


def test_batch_norm_takes_constants_that_stand_beside_its_parameters():
    for statistics in ("support", "population"):
        model = normed(statistics)
        tree = model.init(NUMPY, 0)
        tree["1"] |= {"running_mean": np.full(3, 0.5), "running_var": np.full(3, 2.0)}
        module = Module(model, tree)
        clone = mltk.clone_module(module)
        mltk.update_module(clone, [-0.1 * g for g in clone.grad("mse", X, np.zeros((5, 3)))])
        np.testing.assert_array_equal(clone(X)[:2], clone(X[:2]))  # no example sees another one
        assert len(mltk.meta_grad(clone, "mse", X, np.zeros((5, 3)), wrt=module)) == 4
        del tree["1"]["running_var"]
        with pytest.raises(TreeError, match="alone"):
            Module(model, tree)


def test_batch_norm_by_the_first_rows_is_the_support_set_s():
    model = normed("support", rows=3)
    module = Module(model, model.init(NUMPY, 0))
    np.testing.assert_array_equal(module(X)[:4], module(X[:4]))


def test_parameters_of_torch_are_taken_without_their_record():
    layer = torch.nn.Linear(2, 1)
    model = Sequential([ops.Linear(2, 1)])
    module = Module(model, {"0": {"weight": layer.weight, "bias": layer.bias}})
    outputs = module(torch.zeros(3, 2))
    assert not outputs.requires_grad
    assert not module.grad("mse", torch.zeros(3, 2), torch.ones(3, 1))[0].detach().requires_grad
    assert module.params["0"]["weight"].data_ptr() == layer.weight.data_ptr()


def test_any_torch_module_by_the_autograd_engine():
    from mltk_backends.torch import ModuleModel

    backend = mltk.backend("torch", engine="autograd")
    model = ModuleModel(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GELU(), torch.nn.Linear(3, 1)))
    module = Module(model, model.init(backend, 0), backend=backend)
    x, y = backend.asarray(X), backend.asarray(Y)
    clone = mltk.clone_module(module)
    mltk.update_module(clone, [-0.1 * g for g in clone.grad("mse", x, y)])
    assert all(g.any() for g in mltk.meta_grad(clone, "mse", x, y, wrt=module))
