"""The head and the body of a model: what made the outputs, in whatever order the layers were registered."""

import pytest
import torch
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
from mltk import tree
from mltk.algorithms import ANIL, BOIL, MAML, LearnedOptimizer
from mltk.errors import SettingError, UnsupportedError
from mltk.optim.transforms import Scale

BACKEND = mltk.backend("torch", dtype="float64")
EPISODE = mltk.data.Sinusoid(5, 5).sample(2, 0, BACKEND)


class HeadFirst(nn.Module):
    """The head is registered before the body."""

    def __init__(self):
        super().__init__()
        self.top = nn.Linear(4, 1)
        self.body = nn.Sequential(nn.Linear(1, 4), nn.Tanh())

    def forward(self, x):
        return self.top(self.body(x))


class Nested(nn.Module):
    """The last layer of the last part is not its last child."""

    def __init__(self):
        super().__init__()
        self.stem, self.part = nn.Linear(1, 1), HeadFirst()

    def forward(self, x):
        return torch.sigmoid(self.part(self.stem(x)))


class Token(nn.Module):
    """A parameter of the module itself enters early; another layer runs last and is thrown away."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)
        self.aside = nn.Linear(1, 1)
        self.position = nn.Parameter(torch.ones(1))

    def forward(self, x):
        outputs = self.fc(x + self.position)
        self.aside(outputs)
        return outputs


class Cosine(nn.Module):
    """A classifier on normalised weights, whose parameter is used more than once."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 4))
        self.body = nn.Linear(1, 4)

    def forward(self, x):
        return torch.tanh(self.body(x)) @ nn.functional.normalize(self.weight).T


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.stem = nn.LSTM(2, 1, batch_first=True), nn.Linear(1, 2)

    def forward(self, x):
        return self.rnn(self.stem(x[:, None]))[0][:, -1]


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.top = nn.Linear(4, 1)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.top(self.layer(torch.stack([x, x**2, torch.sin(x), torch.cos(x)], dim=-1)).mean(1))


def normed():
    return nn.Sequential(nn.Linear(1, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 1)), nn.Tanh())


HEADS = {
    "head-first": (HeadFirst, {"top.weight", "top.bias"}),
    "nested": (Nested, {"part.top.weight", "part.top.bias"}),
    "token": (Token, {"fc.weight", "fc.bias"}),
    "cosine": (Cosine, {"weight"}),
    "recurrent": (Recurrent, {f"rnn.{kind}_{way}_l0" for kind in ("weight", "bias") for way in ("ih", "hh")}),
    "attention": (Attending, {"top.weight", "top.bias"}),
    "parametrized": (
        normed,
        {"1.bias", "1.parametrizations.weight.original0", "1.parametrizations.weight.original1"},
    ),
    "sequential": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.Tanh()),
        {"0.0.weight", "0.0.bias"},
    ),
    "norm": (lambda: nn.Sequential(nn.Linear(1, 3), nn.LayerNorm(3), nn.ReLU()), {"1.weight", "1.bias"}),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_is_what_made_the_outputs(name):
    make, head = HEADS[name]
    model = ModuleModel(make(), vectorize=name != "recurrent")
    assert set(model.last_layer(EPISODE.support_x)) == head
    assert set(model.last_layer()) == head


@pytest.mark.parametrize("vectorize", [True, False])
def test_anil_adapts_the_head_and_boil_the_body(vectorize):
    for learner, moving in ((ANIL, {"top"}), (BOIL, {"body"})):
        maml = learner(ModuleModel(HeadFirst(), vectorize=vectorize), "mse", inner_lr=0.1)
        start = maml.init(BACKEND, 0)
        state = maml.adapt(start, EPISODE.support_x, EPISODE.support_y)
        for name, leaf in tree.flatten(state).items():
            same = leaf.shape == tree.flatten(start)[name].shape
            assert same == (name.partition(".")[0] not in moving), name
        by_name = MAML(maml.model, "mse", inner_lr=0.1, adapt_only=sorted(moving))
        found, expected = (m.value_and_grad(start, EPISODE) for m in (maml, by_name))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Parallel(HeadFirst):
    def __init__(self):
        super().__init__()
        self.beside = nn.Linear(4, 1)

    def forward(self, x):
        hidden = self.body(x)
        return self.top(hidden) + self.beside(hidden)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Parallel, r"beside\.bias is used last, but .*top\.weight reach the outputs beside it; name the"),
        (Tied, r"ambiguous: second.bias is used last, but it shares parameters with first; name"),
    ],
)
def test_what_is_ambiguous_must_be_named(make, reason):
    maml = ANIL(ModuleModel(make()), "mse")
    params = maml.init(BACKEND, 0)
    with pytest.raises(UnsupportedError, match=reason):
        maml.value_and_grad(params, EPISODE)


def test_what_is_learned_of_the_head_needs_the_module_to_have_run():
    model = ModuleModel(HeadFirst())
    for learner in (
        ANIL(model, "mse", learn_lr="element"),
        LearnedOptimizer(model, "mse", Scale(), adapt_only="head"),
    ):
        with pytest.raises(UnsupportedError, match=r"known after its first run only.*last_layer\(x\)"):
            learner.init(BACKEND, 0)
    model.last_layer(EPISODE.support_x)
    learner = ANIL(model, "mse", learn_lr="element")
    assert learner.init(BACKEND, 0)["lr"].keys() == {"top"}


def test_a_model_that_does_not_know_its_last_layer_has_it_named():
    class Own:
        @property
        def shapes(self):
            return {"b": (1,), "a": (1,)}

    for preset in (ANIL, BOIL):
        with pytest.raises(UnsupportedError, match=r"Own has no last_layer\(x\).*name the parameters: b, a"):
            preset(Own(), "mse")


def test_the_body_of_a_single_layer_is_nothing():
    with pytest.raises(SettingError, match="leaves no parameter"):
        BOIL(mltk.models.mlp([1, 1]), "mse")
    model = ModuleModel(nn.Linear(1, 1))
    boil = BOIL(model, "mse")
    with pytest.raises(SettingError, match="leaves no parameter"):
        boil.value_and_grad(boil.init(BACKEND, 0), EPISODE)


def test_the_head_of_a_sequential_model_is_its_last_layer_with_parameters():
    layers = [mltk.ops.Linear(2, 3), mltk.ops.Tanh(), mltk.ops.LayerNorm(3), mltk.ops.ReLU()]
    assert mltk.models.Sequential(layers).last_layer() == ("2.weight", "2.bias")
