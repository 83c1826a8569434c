"""Transforms of gradients against values that are known by other means."""

import numpy as np
import pytest
import torch

import mltk
from mltk import models, tree
from mltk.errors import SettingError
from mltk.optim.transforms import Bias, Clip, Kronecker, MetaCurvature, Momentum, Network, Scale, chain
from mltk.optim.transforms import network as network_module

mltk.backend("numpy")

TASKS = 3


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def matrices(transform, shape, rng):
    """Random factors for a parameter ``w`` of this shape."""
    shapes = transform.shapes({"w": shape})
    return {name.removeprefix("w."): rng.standard_normal(size) for name, size in shapes.items()}


def directions(transform, p, g):
    return transform.forward({"w": p}, {"w": g}, {})[0]["w"]


def test_scales_are_drawn_from_their_range(rng):
    network = {"w": (40, 50)}
    drawn = Scale((0.005, 0.1)).init(network, rng)["w"]
    assert drawn.min() >= 0.005
    assert drawn.max() <= 0.1
    assert drawn.mean() == pytest.approx(0.0525, abs=0.003)
    assert np.all(Scale(0.3).init(network, rng)["w"] == 0.3)


def test_learned_names_of_scales():
    network = {"0.weight": (2, 3), "0.bias": (2,)}
    assert Scale().shapes(network) == network
    assert Scale(per="tensor").shapes(network) == {"0.weight": (), "0.bias": ()}
    assert Scale(per="scalar").shapes(network) == {"scale": ()}
    assert Momentum(per="scalar").shapes(network) == {"decay": ()}


def test_kronecker_is_the_kronecker_product_on_the_elements(rng):
    g = rng.standard_normal((TASKS, 3, 4))
    p = matrices(Kronecker(), (3, 4), rng)
    expected = g.reshape(TASKS, 12) @ np.kron(p["left"], p["right"]).T
    np.testing.assert_allclose(directions(Kronecker(), p, g).reshape(TASKS, 12), expected, atol=1e-12)


def test_kronecker_multiplies_all_filters_of_a_convolution_alike(rng):
    g = rng.standard_normal((TASKS, 5, 3, 2, 2))
    p = matrices(Kronecker(), (5, 3, 2, 2), rng)
    assert (p["left"].shape, p["right"].shape) == ((3, 3), (4, 4))
    expected = p["left"] @ g.reshape(TASKS, 5, 3, 4) @ p["right"].T
    np.testing.assert_allclose(directions(Kronecker(), p, g), expected.reshape(g.shape), atol=1e-12)


def test_a_vector_has_one_factor(rng):
    g = rng.standard_normal((TASKS, 4))
    for transform, factor in ((Kronecker(), "left"), (MetaCurvature(), "out")):
        p = matrices(transform, (4,), rng)
        assert list(p) == [factor]
        np.testing.assert_allclose(directions(transform, p, g), g @ p[factor].T, atol=1e-12)


def test_meta_curvature_multiplies_along_each_axis(rng):
    g = rng.standard_normal((TASKS, 3, 4, 2, 2))
    p = matrices(MetaCurvature(), (3, 4, 2, 2), rng)
    assert list(p) == ["out", "in", "filter"]
    expected = np.einsum("ao,bi,cf,toif->tabc", p["out"], p["in"], p["filter"], g.reshape(TASKS, 3, 4, 4))
    np.testing.assert_allclose(directions(MetaCurvature(), p, g), expected.reshape(g.shape), atol=1e-12)


def test_meta_curvature_of_a_matrix_has_no_filter_and_is_kronecker(rng):
    g = rng.standard_normal((TASKS, 3, 4))
    p = matrices(MetaCurvature(), (3, 4), rng)
    assert list(p) == ["out", "in"]
    np.testing.assert_array_equal(
        directions(MetaCurvature(), p, g), directions(Kronecker(), {"left": p["out"], "right": p["in"]}, g)
    )


@pytest.mark.parametrize("per", ["element", "tensor", "scalar"])
def test_momentum_by_hand(rng, per):
    """After n steps the direction is the sum of the gradients, each times the decay to its age."""
    transform = Momentum(0.3, per=per)
    grads = [{"w": rng.standard_normal((TASKS, 2, 3))} for _ in range(5)]
    p = transform.init({"w": (2, 3)}, rng)
    state = transform.start(grads[0])
    for g in grads:
        direction, state, _ = transform.forward(p, g, state)
    expected = sum(0.3**age * g["w"] for age, g in enumerate(reversed(grads)))
    np.testing.assert_allclose(direction["w"], expected, atol=1e-12)


def test_a_decay_of_zero_has_a_gradient_from_the_second_step_on(rng):
    transform = Momentum()
    first, second, cotangent = ({"w": rng.standard_normal((TASKS, 4))} for _ in range(3))
    p = transform.init({"w": (4,)}, rng)
    _, state, res = transform.forward(p, first, transform.start(first))
    nothing = tree.map(np.zeros_like, state)
    np.testing.assert_array_equal(transform.vjp(p, res, cotangent, nothing)[0]["w"], np.zeros(TASKS))
    _, _, res = transform.forward(p, second, state)
    found = transform.vjp(p, res, cotangent, nothing)[0]["w"]
    np.testing.assert_allclose(found, np.sum(cotangent["w"] * first["w"], axis=1), atol=1e-12)


@pytest.mark.parametrize("norm", [0.5, 7.0])
def test_clip_by_norm_is_torchs_for_each_task(rng, norm):
    grads = {"a": rng.standard_normal((TASKS, 4, 5)), "b": 3 * rng.standard_normal((TASKS, 2))}
    found, _, _ = Clip(norm).forward({}, grads, {})
    norms = []
    for task in range(TASKS):
        leaves = [torch.zeros(g.shape[1:], dtype=torch.float64, requires_grad=True) for g in grads.values()]
        for leaf, g in zip(leaves, grads.values(), strict=True):
            leaf.grad = torch.tensor(g[task])
        norms.append(float(torch.nn.utils.clip_grad_norm_(leaves, norm)))
        for leaf, name in zip(leaves, grads, strict=True):
            np.testing.assert_allclose(found[name][task], leaf.grad, rtol=1e-5)
    assert norm == 7.0 or min(norms) > norm


def test_a_clipped_gradient_loses_what_points_along_it(rng):
    g = {"w": 100 * rng.standard_normal((TASKS, 6))}
    _, _, res = Clip(1.0).forward({}, g, {})
    _, pulled, _ = Clip(1.0).vjp({}, res, g, {})
    np.testing.assert_allclose(pulled["w"], np.zeros((TASKS, 6)), atol=1e-12)


def test_kinks_of_clips_are_torchs():
    g = np.asarray([[3.0, -4.0]])
    for transform in (Clip(5.0), Clip(4.0, by="value"), Clip(3.0, by="value")):
        x = torch.tensor(g, requires_grad=True)
        d, _, res = transform.forward({}, {"w": x}, {})
        (expected,) = torch.autograd.grad(d["w"][0, 0], x)
        _, found, _ = transform.vjp({}, res, {"w": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}, {})
        np.testing.assert_allclose(found["w"].detach(), expected, atol=1e-15)


def test_features_are_those_of_the_paper():
    """Andrychowicz et al. (2016), appendix A, which the network here passes through as it is."""
    transform = Network(hidden=())
    p = {"0": {"weight": np.asarray([[1.0, 0.0]]), "bias": np.zeros(1)}}
    g = np.asarray([[2.0, -0.5, 1e-3, 1e-5, -1e-5, 0.0]])
    large = np.abs(g) >= np.exp(-10)
    with np.errstate(divide="ignore"):
        size = np.where(large, np.log(np.abs(g)) / 10, -1)
    sign = np.where(large, np.sign(g), np.exp(10) * g)
    for weights, feature in (([1.0, 0.0], size), ([0.0, 1.0], sign)):
        p["0"]["weight"] = np.asarray([weights])
        d = transform.forward(p, {"w": g}, {})[0]["w"]
        np.testing.assert_allclose(d - g, feature, atol=1e-15, rtol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_blocks_of_coordinates_change_nothing(rng, monkeypatch, shared):
    """The network's memory is bounded by going through the coordinates in blocks."""
    network = {"0.weight": (5, 3), "0.bias": (5,)}
    transform = Network(hidden=(4,), shared=shared)
    p = tree.map(lambda leaf: rng.standard_normal(leaf.shape), transform.init(network, rng))
    draw = lambda: tree.unflatten({k: rng.standard_normal((TASKS, *s)) for k, s in network.items()})  # noqa: E731
    grads, cotangents = draw(), draw()

    def run():
        d, _, res = transform.forward(p, grads, {})
        g_p, g_grads, _ = transform.vjp(p, res, cotangents, {})
        return tree.flatten({"d": d, "p": g_p, "g": g_grads})

    whole = run()
    monkeypatch.setattr(network_module, "BLOCK", 2 * TASKS)
    for name, leaf in run().items():
        np.testing.assert_allclose(leaf, whole[name], atol=1e-12, err_msg=name)


def test_a_chain_is_the_composition(rng):
    first, second = Scale(per="scalar"), Bias()
    both = chain(first, second)
    g = {"w": rng.standard_normal((TASKS, 2))}
    p = {"0": {"scale": np.asarray(0.5)}, "1": {"w": np.asarray([1.0, -1.0])}}
    np.testing.assert_allclose(both.forward(p, g, {})[0]["w"], 0.5 * g["w"] + [1.0, -1.0], atol=1e-15)
    assert both.shapes({"w": (2,)}) == {"0.scale": (), "1.w": (2,)}


def test_a_chain_without_learned_arrays_or_state_is_empty(rng):
    both = chain(Clip(1.0), Clip(0.5, by="value"))
    g = {"w": np.ones((TASKS, 2))}
    assert both.init({"w": (2,)}, rng) == {}
    assert both.start(g) == {}
    d, state, res = both.forward({}, g, {})
    assert state == {}
    assert both.vjp({}, res, d, {})[0] == {}


def test_transforms_serve_models_of_either_library(backend32, rng):
    """A transform starts on the arrays of a model, in its precision."""
    model = models.mlp([1, 4, 1])
    params = model.init(backend32, 0)
    transform = chain(Clip(1.0), Momentum(), Kronecker(), Network(), Scale(0.1))
    p = tree.map(backend32.asarray, transform.init(model.shapes, rng))
    grads = tree.map(lambda leaf: backend32.xp.stack([leaf, 2 * leaf]), params)
    d, state, res = transform.forward(p, grads, transform.start(grads))
    for values in (d, state, *transform.vjp(p, res, d, state)):
        assert all(backend32.owns(leaf) for leaf in tree.leaves(values))


@pytest.mark.parametrize(
    ("links", "message"), [([], "transforms is"), ([Scale(), Scale], r"transforms\[1\] is")]
)
def test_a_chain_has_transforms_for_links(links, message):
    with pytest.raises(SettingError, match=message):
        chain(*links)
