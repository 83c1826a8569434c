"""Any `torch.nn.Module` as a model: equal to the same network built from operations."""

import numpy as np
import pytest
import torch
from assertions import same_gradient
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
from mltk import tree
from mltk.algorithms import MAML, MetaSGD
from mltk.errors import SettingError, UnsupportedError

BACKEND = mltk.backend("torch", dtype="float64")
RNG = np.random.default_rng(0)


def classification(*features, ways=3, tasks=2):
    """Episodes of random images or vectors."""
    x, q = (BACKEND.asarray(RNG.normal(size=(tasks, 2 * ways, *features))) for _ in range(2))
    y = BACKEND.asarray(np.tile(np.arange(ways), (tasks, 2)))
    return mltk.Episode(x, y, q, y, ways=ways, backend=BACKEND)


def mlp():
    module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3))
    return module, mltk.models.mlp([3, 6, 3], activation="tanh"), classification(3)


def conv4():
    layers, channels = [], 1
    for _ in range(4):
        layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
        channels = 4
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))
    return module, mltk.models.conv4(1, 16, width=4, out_features=3), classification(1, 16, 16)


def meta_gradient(model, episode, meta_params=None, **settings):
    maml = MAML(model, "cross_entropy", inner_lr=0.1, inner_steps=2, **settings)
    meta_params = maml.init(BACKEND, seed=0) if meta_params is None else meta_params
    return maml.value_and_grad(meta_params, episode)


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("network", [mlp, conv4], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "settings",
    [{}, {"adapt_only": "head"}, {"learn_lr": "element"}, {"checkpoint": True}, {"first_order": True}],
    ids=str,
)
def test_a_module_has_the_meta_gradient_of_the_same_network(vectorize, network, settings):
    module, model, episode = network()
    before = {name: leaf.clone() for name, leaf in module.state_dict().items()}
    wrapped = ModuleModel(module, vectorize=vectorize)
    meta_params = MAML(wrapped, "cross_entropy", **settings).init(BACKEND, seed=0)
    assert dict(wrapped.shapes) == dict(model.shapes)
    same_gradient(
        meta_gradient(wrapped, episode, meta_params, **settings),
        meta_gradient(model, episode, meta_params, **settings),
    )
    for name, leaf in module.state_dict().items():
        torch.testing.assert_close(leaf, before[name], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_predictions_are_those_of_the_module_with_the_adapted_parameters():
    module, _, episode = conv4()
    module.double()
    maml = MAML(ModuleModel(module), "cross_entropy", inner_lr=0.1, inner_steps=2)
    state = maml.adapt(maml.init(BACKEND, seed=0), episode.support_x, episode.support_y)
    outputs = maml.predict(state, episode.query_x)
    for task in range(2):
        own = {name: leaf[task] for name, leaf in tree.flatten(state).items()}
        module.load_state_dict(own, strict=False)
        with torch.no_grad():
            torch.testing.assert_close(outputs[task], module(episode.query_x[task]))


class Tied(nn.Module):
    """Two layers that share their weight, with a floating and an integer buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("count", torch.tensor(2))

    def forward(self, x):
        return self.second(torch.tanh(self.first(x))) + self.shift * self.count


class Untied(nn.Module):
    """`Tied`, written without modules that share."""

    def __init__(self, tied):
        super().__init__()
        self.weight = nn.Parameter(tied.first.weight.detach().clone())
        self.biases = nn.ParameterList([tied.first.bias.detach().clone(), tied.second.bias.detach().clone()])

    def forward(self, x):
        hidden = torch.tanh(x @ self.weight.T + self.biases[0])
        return hidden @ self.weight.T + self.biases[1] + 2 * torch.arange(1, 4)


@pytest.mark.parametrize("vectorize", [True, False])
def test_tied_parameters_count_once(vectorize):
    tied = Tied()
    wrapped = ModuleModel(tied, vectorize=vectorize)
    assert list(wrapped.shapes) == ["first.weight", "first.bias", "second.bias"]
    episode = classification(3)
    value, grads = meta_gradient(wrapped, episode)
    expected_value, expected = meta_gradient(ModuleModel(Untied(tied)), episode)
    flat = tree.flatten(expected)
    names = {"first.weight": "weight", "first.bias": "biases.0", "second.bias": "biases.1"}
    same_gradient(
        (value, grads), (expected_value, tree.unflatten({name: flat[other] for name, other in names.items()}))
    )


def test_frozen_parameters_are_constants():
    module, _, episode = mlp()
    full_value, full = meta_gradient(ModuleModel(module), episode, adapt_only="2")
    module[0].requires_grad_(False)
    wrapped = ModuleModel(module)
    assert list(wrapped.shapes) == ["2.weight", "2.bias"]
    same_gradient(meta_gradient(wrapped, episode), (full_value, {"2": full["2"]}))


def test_evaluation_mode_uses_the_running_statistics_at_wrapping():
    module, _, episode = conv4()
    module.double()
    with torch.no_grad():
        module(episode.support_x[0] + 1)
    module.eval()
    wrapped = ModuleModel(module)
    params = wrapped.init(BACKEND, 0)
    with torch.no_grad():
        expected = module(episode.query_x[0])
        module[1].running_mean += 1
    torch.testing.assert_close(wrapped.apply(params, episode.query_x)[0], expected)


@pytest.mark.parametrize("module_dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_backend_rules(module_dtype, dtype):
    module, _, episode = conv4()
    module.to(module_dtype)
    backend = mltk.backend("torch", dtype=dtype)
    sets = [backend.asarray(getattr(episode, f"{a}_{b}")) for a in ("support", "query") for b in "xy"]
    maml = MetaSGD(ModuleModel(module), "cross_entropy")
    meta_params = maml.init(backend, seed=0)
    value, grads = maml.value_and_grad(meta_params, mltk.Episode(*sets, ways=3))
    assert backend.owns(value)
    assert all(backend.owns(leaf) for leaf in tree.leaves(grads))


class Attention(nn.Module):
    """A transformer layer over the features as tokens."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        tokens = torch.stack([x, x**2, torch.sin(x), torch.ones_like(x)], dim=-1)
        return self.head(self.layer(tokens).mean(dim=1))


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_attention_has_exact_second_derivatives(vectorize, training):
    model = ModuleModel(Attention().train(training), vectorize=vectorize)
    episode = classification(5)
    maml = MAML(model, "cross_entropy", inner_lr=0.1, inner_steps=2)
    meta_params = maml.init(BACKEND, seed=0)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    _, grads = maml.value_and_grad(meta_params, episode)
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    rng = np.random.default_rng(0)
    direction = tree.map(lambda p: BACKEND.asarray(rng.normal(size=tuple(p.shape))), meta_params)
    slope = sum(float((g * d).sum()) for g, d in zip(tree.leaves(grads), tree.leaves(direction), strict=True))

    def value_at(step):
        moved = tree.map(lambda p, d: p + step * d, meta_params, direction)
        return float(maml.value_and_grad(moved, episode)[0])

    assert (value_at(1e-5) - value_at(-1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-6)


class Recurrent(nn.Module):
    """The features as a sequence."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer(1, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x[..., None])[0][:, -1])


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda layer: layer.__name__)
def test_recurrent_modules_run_one_task_after_the_other(layer):
    module, episode = Recurrent(layer), classification(5)
    with pytest.raises(UnsupportedError, match=r"vmap cannot run Recurrent.*vectorize=False"):
        meta_gradient(ModuleModel(module), episode)
    value, grads = meta_gradient(ModuleModel(module, vectorize=False), episode)
    single = []
    for task in range(2):
        arrays = [getattr(episode, name)[task : task + 1] for name in ("support_x", "support_y")]
        arrays += [getattr(episode, name)[task : task + 1] for name in ("query_x", "query_y")]
        one = mltk.Episode(*arrays, ways=3, backend=BACKEND)
        single.append(meta_gradient(ModuleModel(module, vectorize=False), one))
    mean = tree.map(lambda a, b: (a + b) / 2, single[0][1], single[1][1])
    same_gradient((value, grads), ((single[0][0] + single[1][0]) / 2, mean))


def test_errors_of_the_module_itself_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"(?i)size|shape"):
        meta_gradient(ModuleModel(nn.Linear(7, 3)), classification(3))


def test_the_analytic_engine_says_that_it_cannot():
    analytic = mltk.backend("torch", dtype="float64", engine="analytic")
    module, _, episode = mlp()
    episode = mltk.Episode(
        episode.support_x, episode.support_y, episode.query_x, episode.query_y, ways=3, backend=analytic
    )
    with pytest.raises(UnsupportedError, match=r"not ModuleModel.*autograd"):
        meta_gradient(ModuleModel(module), episode)


@pytest.mark.parametrize("module", [None, nn.Linear, mltk.models.mlp([1, 1]), torch.tanh])
def test_only_modules_are_wrapped(module):
    with pytest.raises(SettingError, match=r"expected a torch\.nn\.Module"):
        ModuleModel(module)
