"""Bridges: a model of mltk as a torch.nn.Module and back, the same function under the same names."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mltk_backends.torch import ModuleModel, from_module, to_module
from routes import NUMPY
from torch import nn

import mltk
from mltk import modules, ops, tree
from mltk.errors import SettingError, TreeError
from mltk.models import Sequential, conv4, mlp
from mltk.ops.activation import ACTIVATIONS

TORCH = mltk.backend("torch", dtype="float64")

SOME = st.sampled_from([kind() for kind in ACTIVATIONS.values()])
STATISTICS = st.sampled_from(["batch", "support", "population"])


@st.composite
def image_layers(draw, channels, extent):
    """Layers for images of a size, and the number of features that they leave."""
    layers = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["convolution", "norm", "layer norm", "max", "average", "activation"]))
        if kind == "convolution":
            size = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
            if min(extent[k] + 2 * padding - size[k] for k in (0, 1)) < 0:
                continue
            out = draw(st.integers(1, 3))
            layers.append(ops.Convolution(channels, out, size, stride, padding, bias=draw(st.booleans())))
            channels, extent = out, layers[-1].window.places(extent)
        elif kind in ("max", "average") and min(extent) >= 2:
            pool = ops.MaxPool if kind == "max" else ops.AveragePool
            layers.append(pool(2, draw(st.sampled_from([None, 1, 2])), draw(st.integers(0, 1))))
            extent = layers[-1].window.places(extent)
        elif kind == "norm":
            eps, rows = draw(st.sampled_from([1e-5, 0.1])), draw(st.sampled_from([None, 3]))
            layers.append(ops.BatchNorm(channels, eps, statistics=draw(STATISTICS), rows=rows))
        elif kind == "layer norm":
            layers.append(ops.LayerNorm((channels, *extent), draw(st.sampled_from([1e-5, 0.1]))))
        else:
            layers.append(draw(SOME))
    if draw(st.booleans()):
        return [*layers, ops.GlobalAveragePool()], channels
    features = channels * extent[0] * extent[1]
    return [*layers, ops.Flatten(draw(st.sampled_from([None, features])))], features


@st.composite
def row_layers(draw, features):
    """Layers for rows of a length, down to two numbers."""
    layers = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["linear", "norm", "layer norm", "lstm", "activation", "drop"]))
        if kind == "linear":
            out = draw(st.integers(1, 4))
            layers.append(ops.Linear(features, out, bias=draw(st.booleans())))
            features = out
        elif kind == "norm":
            eps = draw(st.sampled_from([1e-5, 0.1]))
            layers.append(ops.BatchNorm(features, eps, spatial_axes=0, statistics=draw(STATISTICS)))
        elif kind == "layer norm":
            layers.append(ops.LayerNorm(features, draw(st.sampled_from([1e-5, 0.1]))))
        elif kind == "lstm":
            out = draw(st.integers(1, 3))
            layers.append(ops.LSTM(features, out, reverse=draw(st.booleans())))
            features = out
        elif kind == "drop":
            layers.append(ops.DropRows(1))
        else:
            layers.append(draw(SOME))
    return [*layers, ops.Linear(features, 2)]


@st.composite
def problems(draw):
    """A model, its parameters in NumPy, and inputs of seven examples."""
    if draw(st.booleans()):
        shape = draw(st.integers(1, 2)), draw(st.integers(2, 6)), draw(st.integers(2, 6))
        first, features = draw(image_layers(shape[0], shape[1:]))
    else:
        first, features = [], draw(st.integers(1, 4))
        shape = (features,)
    model = Sequential([*first, *draw(row_layers(features))])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    params = tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), model.init(NUMPY, rng))
    return model, params, rng.normal(size=(7, *shape))


def on_torch(params):
    return tree.map(lambda leaf: torch.tensor(leaf), params)


def linearized(model, params, x, y):
    """The gradient and a Hessian product of the mean squared error, by the hand-derived rules."""
    engine = mltk.backend("torch", dtype="float64", engine="analytic").engine
    lin = engine.linearize(mltk.contracts.Objective(model, ops.loss("mse")), params, x[None], y[None])
    return lin.grad, lin.hvp(lin.grad)


@given(problems())
def test_a_module_is_the_same_function_of_the_same_parameters(problem):
    model, params, x = problem
    module, x = to_module(model, params), torch.tensor(x)
    assert list(module.state_dict()) == list(model.shapes)
    for name, leaf in tree.flatten(params).items():
        np.testing.assert_array_equal(module.state_dict()[name], leaf)
    outputs = model.apply(on_torch(params), x[None])[0]
    for mode in (True, False):
        torch.testing.assert_close(module.train(mode)(x), outputs, rtol=1e-9, atol=1e-10)


@given(problems())
def test_its_gradients_are_the_hand_derived_ones_twice(problem):
    model, params, x = problem
    module, x = to_module(model, params), torch.tensor(x)
    y = module(x).detach() + torch.randn(module(x).shape, dtype=torch.float64)
    grads = module.grad("mse", x, y)
    expected, product = (tree.leaves(part) for part in linearized(model, on_torch(params), x, y))
    half_square = sum(g.square().sum() for g in grads) / 2
    products = torch.autograd.grad(half_square, list(module.parameters()), materialize_grads=True)
    assert len(grads) == len(expected)
    for g, e, h, hv in zip(grads, expected, products, product, strict=True):
        torch.testing.assert_close(g, e[0], rtol=1e-7, atol=1e-8)
        scale = max(1, *(float(each.abs().max()) for each in product))
        torch.testing.assert_close(h, hv[0], rtol=1e-6, atol=1e-7 * scale)


@given(problems())
def test_there_and_back_gives_the_same_model(problem):
    model, params, _ = problem
    again, found = from_module(to_module(model, params))
    assert again == shortened(model)
    flat = tree.flatten(found)
    assert list(flat) == list(tree.flatten(params))
    for name, leaf in tree.flatten(params).items():
        np.testing.assert_array_equal(flat[name], leaf)


def shortened(model):
    """The same model, with one number in place of two equal ones, and the usual stride left out."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, ops.Convolution | ops.MaxPool | ops.AveragePool):
            layer = copy.copy(layer)
            for name in ("kernel_size", "stride", "padding"):
                value = getattr(layer, name)
                if isinstance(value, tuple) and value[0] == value[1]:
                    object.__setattr__(layer, name, value[0])
            if not isinstance(layer, ops.Convolution) and layer.stride == layer.kernel_size:
                object.__setattr__(layer, "stride", None)
        layers.append(layer)
    return Sequential(layers)


@pytest.mark.parametrize(
    "model", [mlp([1, 40, 40, 1]), conv4(1, 28), conv4(3, 16, width=(2, 3, 4, 5), out_features=5)]
)
def test_standard_networks_come_back_as_they_were(model):
    module = to_module(model, model.init(NUMPY, 0))
    assert from_module(module)[0] == model
    own = [m for m in module.modules() if not type(m).__module__.startswith("torch.nn")]
    population = sum(getattr(layer, "statistics", None) == "population" for layer in model.layers)
    flatten = sum(isinstance(layer, ops.Flatten) for layer in model.layers)
    assert len(own) == 1 + population + flatten  # all else is Torch's


def plain_network():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, stride=1),
        nn.AvgPool2d((2, 1), padding=(1, 0)),
        nn.LayerNorm((3, 2, 3)),
        nn.Flatten(),
        nn.Linear(18, 4),
        nn.BatchNorm1d(4, eps=0.1, track_running_stats=False),
        nn.SiLU(),
        nn.Linear(4, 2, bias=False),
        nn.Sequential(nn.Tanh(), nn.Sequential(nn.Identity(), nn.Sigmoid())),
        nn.Identity(),
    ).double()


@pytest.mark.parametrize("training", [True, False])
def test_a_module_of_torch_becomes_a_model(training):
    module = plain_network().train(training)
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    model, params = from_module(module)
    torch.testing.assert_close(model.apply(params, x[None])[0], module(x), rtol=1e-10, atol=1e-12)
    assert list(tree.flatten(params)) == list(module.state_dict())
    on_numpy = model.apply(tree.map(TORCH.to_numpy, params), x.numpy()[None])[0]
    np.testing.assert_allclose(on_numpy, module(x).detach(), rtol=1e-9, atol=1e-11)


def test_parameters_are_copied_both_ways():
    model = mlp([2, 3, 1])
    given = on_torch(model.init(NUMPY, 0))
    module = to_module(model, given)
    given["0"]["weight"] += 1
    assert not torch.equal(module[0].weight, given["0"]["weight"])
    _, taken = from_module(module)
    assert not any(leaf.requires_grad for leaf in tree.leaves(taken))
    taken["2"]["bias"] += 1
    assert not torch.equal(module[2].bias, taken["2"]["bias"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_dtypes_stay(name, dtype):
    model = conv4(1, 16, width=2, out_features=2, statistics="support")
    module = to_module(model, model.init(mltk.backend(name, dtype=dtype), 0))
    assert {str(p.dtype) for p in module.parameters()} == {f"torch.{dtype}"}
    assert {str(leaf.dtype) for leaf in tree.leaves(from_module(module)[1])} == {f"torch.{dtype}"}


def test_making_a_module_draws_no_random_numbers_and_stays_off_other_devices():
    model = conv4(1, 16, width=2, out_features=2)
    params = model.init(NUMPY, 0)
    before = torch.get_rng_state()
    module = to_module(model, params)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    meta = to_module(model, tree.map(lambda leaf: torch.empty(leaf.shape, device="meta"), params))
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    assert {leaf.device.type for leaf in tree.leaves(from_module(meta)[1])} == {"meta"}


def test_a_norm_of_the_current_set_takes_statistics_that_stand_beside_it():
    model = Sequential([ops.BatchNorm(2, spatial_axes=0)])
    params = model.init(NUMPY, 0)
    params["0"] |= {"running_mean": np.array([1.0, 2.0]), "running_var": np.array([4.0, 9.0])}
    x = np.random.default_rng(0).normal(size=(5, 2))
    found = to_module(model, params)(torch.tensor(x)).detach()
    np.testing.assert_allclose(found, (x - [1, 2]) / np.sqrt([4 + 1e-5, 9 + 1e-5]), rtol=1e-12)


def test_calibrated_statistics_are_buffers():
    model = conv4(1, 16, width=2)
    rng = np.random.default_rng(0)
    params = mltk.normalization.calibrate(model, model.init(NUMPY, 0), [rng.normal(size=(2, 5, 1, 16, 16))])
    module = to_module(model, params)
    assert set(dict(module.named_buffers())) == set(tree.flatten(params)) - set(model.shapes)
    x = rng.normal(size=(3, 1, 16, 16))
    expected = model.apply(params, x[None])[0]
    np.testing.assert_allclose(module(torch.tensor(x)).detach(), expected, rtol=1e-9, atol=1e-11)
    again, found = from_module(module)
    assert again == model
    assert set(tree.flatten(found)) == set(tree.flatten(params))


def test_attention_gets_its_keys_and_values_as_buffers():
    model = Sequential([ops.Linear(3, 2), ops.Attention(0.5)])
    rng = np.random.default_rng(0)
    data = {"keys": rng.normal(size=(4, 2)), "values": rng.normal(size=(4, 5))}
    params = {**model.init(NUMPY, 0), "1": data}
    module = to_module(model, params)
    x = rng.normal(size=(6, 3))
    np.testing.assert_allclose(module(torch.tensor(x)).detach(), model.apply(params, x), rtol=1e-12)
    assert len(list(module.parameters())) == 2
    assert set(tree.flatten(from_module(module)[1])) == set(module.state_dict())
    with pytest.raises(TreeError, match=r"no '1\.values'"):
        to_module(model, {**params, "1": {"keys": data["keys"]}})


def test_optimisers_of_torch_train_it_and_its_state_dict_moves():
    rng = np.random.default_rng(0)
    model = Sequential(
        [ops.Linear(2, 4), ops.LSTM(4, 3), ops.BatchNorm(3, spatial_axes=0, rows=5), ops.Linear(3, 1)]
    )
    module = to_module(model, model.init(NUMPY, 0))
    x, y = torch.tensor(rng.normal(size=(8, 2))), torch.tensor(rng.normal(size=(8, 1)))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    other = to_module(model, model.init(NUMPY, 1))
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(x), module(x), rtol=0, atol=0)
    assert copy.deepcopy(module).state_dict().keys() == module.state_dict().keys()


LOSSES = {
    "mse": ("mse", ops.MeanSquaredError(), nn.functional.mse_loss),
    "cross_entropy": ("cross_entropy", ops.CrossEntropy(), nn.CrossEntropyLoss()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_name_an_operation_or_a_function(name):
    model = mlp([2, 4, 3], activation="tanh")
    module = to_module(model, model.init(NUMPY, 0))
    x = torch.randn(5, 2, dtype=torch.float64)
    y = torch.randn(5, 3, dtype=torch.float64) if name == "mse" else torch.tensor([0, 2, 1, 1, 0])
    found = [module.grad(loss, x, y) for loss in LOSSES[name]]
    for grads in found[1:]:
        for g, e in zip(grads, found[0], strict=True):
            torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-14)
    with pytest.raises(SettingError, match="loss is 'l1'"):
        module.grad("l1", x, y)


def test_the_gradient_of_a_frozen_parameter_is_none():
    model = mlp([2, 4, 3])
    module = to_module(model, model.init(NUMPY, 0))
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    whole = module.grad("mse", x, y)
    module[0].bias.requires_grad_(False)
    with torch.no_grad():  # as everywhere, gradients that are asked for are given
        part = module.grad("mse", x, y)
    assert [g is None for g in part] == [False, True, False, False]
    for g, e in zip(part, whole, strict=True):
        assert g is None or torch.equal(g, e)
    module.requires_grad_(False)
    assert module.grad("mse", x, y) == [None] * 4


def test_what_a_loss_does_not_depend_on_has_gradient_zero():
    model = mlp([2, 4, 3])
    module = to_module(model, model.init(NUMPY, 0))
    x = torch.randn(5, 2, dtype=torch.float64)
    grads = module.grad(lambda outputs, y: module[2].weight.square().sum(), x, x)
    assert [bool(g.any()) for g in grads] == [False, False, True, False]


def test_a_clone_has_the_method_too():
    model = mlp([2, 4, 3], activation="tanh")
    module = to_module(model, model.init(NUMPY, 0))
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    clone = modules.clone_module(module)
    modules.update_module(clone, [-0.1 * g for g in clone.grad("mse", x, y)])
    found = modules.meta_grad(clone, "mse", x, y, wrt=module)
    maml = mltk.algorithms.MAML(model, "mse", inner_lr=0.1, inner_steps=1)
    episode = mltk.Episode(*(part.numpy()[None] for part in (x, y, x, y)), backend=NUMPY)
    _, expected = maml.value_and_grad(tree.map(TORCH.to_numpy, from_module(module)[1]), episode)
    for g, e in zip(found, tree.leaves(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-13)


def regression():
    return (
        mlp([1, 6, 1], activation="tanh"),
        "mse",
        mltk.data.Sinusoid(shots=4, queries=3).sample(3, 0, TORCH),
    )


def classification():
    images = TORCH.asarray(np.random.default_rng(0).normal(size=(2, 2, 6, 1, 16, 16)))
    labels = TORCH.asarray(np.tile(np.arange(3), (2, 2)))
    episode = mltk.Episode(images[0], labels, images[1], labels, ways=3, backend=TORCH)
    return conv4(1, 16, width=2, out_features=3), "cross_entropy", episode


@pytest.mark.parametrize("make", [regression, classification])
def test_the_loop_of_learn2learn_gives_the_meta_gradient_of_maml(make):
    model, name, episode = make()
    module = to_module(model, model.init(NUMPY, 0))
    loss = {"mse": nn.MSELoss(), "cross_entropy": nn.CrossEntropyLoss()}[name]
    tasks = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
    for x, y, query_x, query_y in zip(*tasks, strict=True):
        clone = mltk.clone_module(module)
        for _ in range(3):
            grads = torch.autograd.grad(loss(clone(x), y), list(clone.parameters()), create_graph=True)
            mltk.update_module(clone, [-0.1 * g for g in grads])
        (loss(clone(query_x), query_y) / len(episode.support_x)).backward()
    for wrapped in (model, ModuleModel(module)):
        maml = mltk.algorithms.MAML(wrapped, name, inner_lr=0.1, inner_steps=3)
        params = tree.unflatten({key: p.detach() for key, p in module.named_parameters()})
        _, grads = maml.value_and_grad(params, episode)
        scale = max(float(g.abs().max()) for g in tree.leaves(grads))
        for p, g in zip(module.parameters(), tree.leaves(grads), strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-10, atol=1e-10 * scale)
