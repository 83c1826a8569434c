"""Modules with several inputs or outputs, and with layers called like what learners learn."""

from typing import NamedTuple

import pytest
import torch
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
from mltk import tree
from mltk.algorithms import MAML, LearnedOptimizer, MetaSGD, Prototypical, RidgeRegression
from mltk.errors import SettingError, UnsupportedError
from mltk.optim.transforms import Scale

BACKEND = mltk.backend("torch", dtype="float64")
EPISODE = mltk.data.Sinusoid(5, 5).sample(2, 0, BACKEND)
BOTH = pytest.mark.parametrize("vectorize", [True, False])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.table = nn.Linear(2, 3), nn.Embedding(4, 3)

    def forward(self, image, ids):
        return self.image(image) * self.table(ids)


class Packed(nn.Module):
    """`TwoInputs`, on one array."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x[:, :2], x[:, 2].long())


@BOTH
@pytest.mark.parametrize(
    "inputs",
    [lambda x: (x[:, :2], x[:, 2].long()), lambda x: {"ids": x[:, 2].long(), "image": x[:, :2]}],
    ids=["tuple", "dict"],
)
def test_several_inputs_are_cut_out_of_one_array(vectorize, inputs):
    module = TwoInputs()
    x = torch.cat([torch.randn(2, 6, 2), torch.arange(12).reshape(2, 6, 1) % 4], dim=2).double()
    y = torch.arange(12).reshape(2, 6) % 3
    episode = mltk.Episode(x, y, x + 0, y, ways=3, backend=BACKEND)
    found, expected = (
        maml.value_and_grad(maml.init(BACKEND, 0), episode)
        for maml in (
            MAML(ModuleModel(module, vectorize=vectorize, inputs=inputs), "cross_entropy", inner_lr=0.1),
            MAML(ModuleModel(Packed(module), vectorize=False), "cross_entropy", inner_lr=0.1),
        )
    )
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1]["module"])


class Answer(NamedTuple):
    hidden: torch.Tensor
    logits: torch.Tensor


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.layer, self.answer = nn.Linear(1, 2), answer

    def forward(self, x):
        return self.answer(torch.tanh(x), self.layer(x))


@BOTH
@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (Answer, "logits"),
        (lambda hidden, logits: {"hidden": hidden, "logits": logits}, "logits"),
        (lambda *both: both, 1),
        (lambda *both: list(both), -1),
    ],
    ids=["namedtuple", "dict", "tuple", "list"],
)
def test_one_tensor_of_several_is_chosen(vectorize, answer, output):
    module = Answering(answer).double()
    model = ModuleModel(module, vectorize=vectorize, output=output)
    outputs = model.apply(model.init(BACKEND, 0), EPISODE.support_x)
    torch.testing.assert_close(outputs, module.layer(EPISODE.support_x))


@pytest.mark.parametrize(
    ("answer", "output", "names"),
    [
        (Answer, None, "Answer with hidden, logits"),
        (Answer, "logit", "Answer with hidden, logits"),
        (lambda hidden, logits: {"hidden": hidden, "logits": logits}, "no", "dict with hidden, logits"),
        (lambda *both: both, None, "tuple"),
        (lambda *both: both, 2, "tuple"),
    ],
)
def test_outputs_that_are_not_chosen_are_listed(answer, output, names):
    model = ModuleModel(Answering(answer), output=output)
    with pytest.raises(UnsupportedError, match=rf"Answering gives a {names}, and output is {output!r}; exp"):
        model.apply(model.init(BACKEND, 0), EPISODE.support_x)


def test_inputs_must_be_a_function():
    with pytest.raises(SettingError, match="inputs is 2; expected a function"):
        ModuleModel(nn.Linear(1, 1), inputs=2)


class Named(nn.Module):
    """Two layers under chosen names."""

    def __init__(self, *names):
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Linear(1, 3))
        self.add_module(names[1], nn.Linear(3, 1))

    def forward(self, x):
        return getattr(self, self.names[1])(torch.tanh(getattr(self, self.names[0])(x)))


def twins(*names):
    """The same network with layers called so, and with plain names."""
    named, plain = Named(*names), Named("one", "two")
    plain.load_state_dict(dict(zip(plain.state_dict(), named.state_dict().values(), strict=True)))
    return ModuleModel(named), ModuleModel(plain)


@pytest.mark.parametrize(
    "learner",
    [
        lambda model: MetaSGD(model, "mse", inner_steps=2),
        lambda model: MAML(model, "mse", learn_lr="scalar", lr_per_step=True, inner_steps=2),
        lambda model: LearnedOptimizer(model, "mse", Scale(), inner_steps=2),
    ],
    ids=["meta-sgd", "maml", "learned-optimizer"],
)
def test_layers_may_be_called_like_what_is_learned_beside_them(learner):
    results = []
    for model in twins("lr", "transform"):
        algorithm = learner(model)
        params = algorithm.init(BACKEND, seed=1)
        assert params.keys() == algorithm.value_and_grad(params, EPISODE)[1].keys()
        assert {
            name: tuple(leaf.shape) for name, leaf in tree.flatten(params).items()
        } == algorithm.meta_shapes
        results.append(algorithm.value_and_grad(params, EPISODE))
        state = algorithm.adapt(params, EPISODE.support_x, EPISODE.support_y)
        assert algorithm.predict(state, EPISODE.query_x).shape == EPISODE.query_y.shape
    torch.testing.assert_close(results[0][0], results[1][0])
    for a, b in zip(*(tree.leaves(grads) for _, grads in results), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("learner", [Prototypical, lambda e: RidgeRegression(e)], ids=["metric", "ridge"])
def test_an_embedding_may_have_a_layer_called_head(learner):
    episode = mltk.data.Blobs(ways=2, shots=2, queries=4, features=1).sample(2, 0, BACKEND)
    results = []
    for model in twins("body", "head"):
        algorithm = learner(model)
        params = algorithm.init(BACKEND, seed=1)
        results.append(algorithm.value_and_grad(params, episode))
        state = algorithm.adapt(params, episode.support_x, episode.support_y)
        results[-1] += (algorithm.predict(state, episode.query_x),)
        assert params.keys() == results[-1][1].keys()
    torch.testing.assert_close(results[0][::2], results[1][::2])
    for a, b in zip(*(tree.leaves(grads) for _, grads, _ in results), strict=True):
        torch.testing.assert_close(a, b)
