"""The diagonal Fisher information, against its definition: squared gradients of each example by autograd."""

from itertools import product

import numpy as np
import pytest
from routes import ROUTES

import mltk
from mltk import tree
from mltk.errors import SettingError, ShapeError
from mltk.task_analysis.fisher import diagonal_fisher

torch = pytest.importorskip("torch")

MODEL = mltk.models.mlp([2, 4, 3], activation="tanh")


def by_autograd(params, x, terms):
    """The mean over examples of squared gradients; ``terms`` gives losses and how much each counts."""
    total = {}
    for example in x:
        leaves = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in tree.flatten(params).items()}
        outputs = MODEL.apply(tree.unflatten(leaves), torch.tensor(example[None, None]))[0, 0]
        for loss, weight in terms(outputs):
            grads = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
            for name, grad in zip(leaves, grads, strict=True):
                total[name] = total.get(name, 0) + float(weight) * grad.numpy() ** 2 / len(x)
    return total


def of_labels(outputs):
    logs = torch.log_softmax(outputs, 0)
    return [(-log, log.detach().exp()) for log in logs]


def of_values(outputs):
    """Residuals of one or minus one have the moments that a Gaussian's squared gradients ask for."""
    signs = list(product([-1.0, 1.0], repeat=outputs.shape[0]))
    targets = [outputs.detach() + torch.tensor(each, dtype=outputs.dtype) for each in signs]
    return [(((target - outputs) ** 2).sum() / 2, 1 / len(signs)) for target in targets]


@pytest.mark.parametrize("backend", ROUTES, ids=str)
@pytest.mark.parametrize("labels", [True, False])
def test_it_is_the_mean_of_squared_gradients_over_what_the_model_expects(backend, labels):
    rng = np.random.default_rng(0)
    shared, x = MODEL.init(mltk.backend("numpy", dtype="float64"), 0), rng.normal(size=(3, 5, 2))
    own = tree.map(lambda leaf: leaf + rng.normal(size=(3, *leaf.shape)), shared)
    mixed = {**own, "0": {**own["0"], "bias": shared["0"]["bias"]}}
    for params in (shared, own, mixed):
        there = tree.map(backend.asarray, params)
        found = diagonal_fisher(MODEL, there, backend.asarray(x), labels=labels)
        for task in range(3):
            of_task = tree.map(
                lambda leaf, like, t=task: leaf[t] if leaf.ndim > like.ndim else leaf, params, shared
            )
            expected = by_autograd(of_task, x[task], of_labels if labels else of_values)
            for name, leaf in tree.flatten(found).items():
                np.testing.assert_allclose(
                    backend.to_numpy(leaf)[task], expected[name], rtol=1e-10, atol=1e-14
                )


def test_what_has_no_gradient_for_each_example_is_refused():
    numpy = mltk.backend("numpy")
    layers = [mltk.ops.Linear(2, 3), mltk.ops.BatchNorm(3, statistics="batch"), mltk.ops.Linear(3, 1)]
    model = mltk.models.Sequential(layers)
    x = numpy.asarray(np.ones((1, 4, 2)))
    with pytest.raises(SettingError, match='statistics="batch"'):
        diagonal_fisher(model, model.init(numpy, 0), x, labels=False)
    images = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3)])
    with pytest.raises(ShapeError, match="vectors"):
        diagonal_fisher(images, images.init(numpy, 0), numpy.asarray(np.ones((1, 4, 1, 5, 5))), labels=False)
