"""`mltk.compat.learn2learn`: scripts for another library, with the meta-gradients of mltk's own learners."""

import subprocess
import sys

import pytest
import torch
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
import mltk.compat.learn2learn as l2l
from mltk import tree
from mltk.errors import SettingError, UnsupportedError

BACKEND = mltk.backend("torch", dtype="float64")
EPISODE = mltk.data.Sinusoid(5, 5).sample(3, 0, BACKEND)


def network():
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def train_step(wrapper, steps=2, **settings):
    """The outer loss of a script, whose gradients are left in the parameters."""
    total = 0.0
    for task in range(3):
        learner = wrapper.clone()
        for _ in range(steps):
            loss = nn.functional.mse_loss(learner(EPISODE.support_x[task]), EPISODE.support_y[task])
            learner.adapt(loss, **settings)
        total += nn.functional.mse_loss(learner(EPISODE.query_x[task]), EPISODE.query_y[task]) / 3
    total.backward()
    return total.detach()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_maml_has_the_meta_gradient_of_mltk(first_order, late):
    module = network()
    wrapper = l2l.algorithms.MAML(module, lr=0.1, first_order=first_order and not late)
    value = train_step(wrapper, **({"first_order": first_order} if late else {}))
    ours = mltk.algorithms.MAML(
        ModuleModel(module), "mse", inner_lr=0.1, inner_steps=2, first_order=first_order
    )
    expected, grads = ours.value_and_grad(ours.init(BACKEND, 0), EPISODE)
    torch.testing.assert_close(value, expected)
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.grad, tree.flatten(grads)[name])


def test_meta_sgd_has_the_meta_gradient_of_mltk_also_for_its_step_sizes():
    module = network()
    wrapper = l2l.algorithms.MetaSGD(module, lr=0.1)
    value = train_step(wrapper)
    ours = mltk.algorithms.MetaSGD(ModuleModel(module), "mse", inner_lr=0.1, inner_steps=2)
    params = {**ours.init(BACKEND, 0)}
    params["lr"] = tree.map(lambda rate: torch.full_like(rate, 0.1), params["lr"])
    expected, grads = ours.value_and_grad(params, EPISODE)
    torch.testing.assert_close(value, expected)
    flat = tree.flatten(grads)
    for (name, p), rate in zip(module.named_parameters(), wrapper.lrs, strict=True):
        torch.testing.assert_close(p.grad, flat[name])
        torch.testing.assert_close(rate.grad, flat[f"lr.{name}"])
    assert len(list(wrapper.parameters())) == 8


@pytest.mark.parametrize("wrap", [lambda m: l2l.algorithms.MAML(m, 0.1), l2l.algorithms.MetaSGD])
def test_calls_and_attributes_are_the_modules(wrap):
    module = network()
    module.register_buffer("shift", torch.ones(2))
    module.note = "kept"
    wrapper, x = wrap(module), EPISODE.support_x[0]
    assert wrapper.note == "kept"
    assert wrapper.shift is module.shift
    assert wrapper.clone().note == "kept"
    torch.testing.assert_close(wrapper(x), module(x))
    torch.testing.assert_close(wrapper.clone()(x), module(x))
    with pytest.raises(AttributeError, match="absent"):
        _ = wrapper.absent


@pytest.mark.parametrize("wrap", [lambda m: l2l.algorithms.MAML(m, 0.1), l2l.algorithms.MetaSGD])
def test_what_is_done_to_a_clone_leaves_the_module(wrap):
    module = network()
    before = [p.detach().clone() for p in module.parameters()]
    learner = wrap(module).clone()
    learner.adapt(learner(EPISODE.support_x[0]).pow(2).mean())
    for p, old, new in zip(module.parameters(), before, learner.module.parameters(), strict=True):
        assert torch.equal(p, old)
        assert not torch.equal(new, old)
        assert p.grad is None


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x):
        return self.used(x)


def adapted(maml, **settings):
    learner = maml.clone()
    learner.adapt(learner(torch.ones(2, 1)).sum(), **settings)
    return learner


def test_parameters_without_a_part_in_the_loss_must_be_allowed_and_stay():
    module = Partly()
    with pytest.raises(SettingError, match=r"unused\.weight, unused\.bias have no part.*allow_unused=True"):
        adapted(l2l.algorithms.MAML(module, 0.1))
    for learner in (
        adapted(l2l.algorithms.MAML(module, 0.1, allow_unused=True)),
        adapted(l2l.algorithms.MAML(module, 0.1), allow_unused=True),
    ):
        assert torch.equal(learner.unused.weight, module.unused.weight)
        torch.testing.assert_close(learner.used.weight, module.used.weight - 0.2)


def test_frozen_parameters_must_be_allowed_and_stay():
    module = Partly()
    module.used.bias.requires_grad_(False)
    with pytest.raises(SettingError, match=r"used\.bias need no gradient.*allow_nograd=True"):
        adapted(l2l.algorithms.MAML(module, 0.1, allow_unused=True))
    for learner in (
        adapted(l2l.algorithms.MAML(module, 0.1, allow_nograd=True)),
        adapted(l2l.algorithms.MAML(module, 0.1), allow_nograd=True),
        adapted(l2l.algorithms.MAML(module, 0.1).clone(allow_nograd=True, allow_unused=True)),
    ):
        assert torch.equal(learner.used.bias, module.used.bias)
        torch.testing.assert_close(learner.used.weight, module.used.weight - 0.2)


def test_a_layer_under_two_names_is_updated_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.net = nn.Sequential(self.layer, nn.Identity())

        def forward(self, x):
            return self.net(x)

    module = Shared()
    learner = adapted(l2l.algorithms.MAML(module, 0.1))
    torch.testing.assert_close(learner.layer.weight, module.layer.weight - 0.2)
    assert learner.net[0].weight is learner.layer.weight


def test_a_derivative_that_torch_lacks_is_named():
    class Distances(Partly):
        def forward(self, x):
            return torch.cdist(self.used(x), torch.zeros(1, 1))

    learner = l2l.algorithms.MAML(Distances(), 0.1, allow_unused=True).clone()
    learner.adapt(learner(torch.ones(2, 1)).sum())
    loss = learner(torch.ones(2, 1)).sum()
    slope = sum(p.sum() for p in learner.used.parameters()) + loss
    with pytest.raises(UnsupportedError, match="adapting Distances needs the derivative of _cdist_backward"):
        l2l.algorithms.MAML(learner.module, 0.1, allow_unused=True).adapt(
            torch.autograd.grad(slope, learner.used.weight, create_graph=True)[0].sum()
        )


@pytest.mark.parametrize("wrap", [lambda m: l2l.algorithms.MAML(m, 0.1), l2l.algorithms.MetaSGD])
def test_only_modules_are_wrapped(wrap):
    with pytest.raises(SettingError, match=r"expected a torch\.nn\.Module"):
        wrap(mltk.models.mlp([1, 1]))


def test_step_sizes_are_one_for_each_parameter():
    with pytest.raises(SettingError, match="lrs has 1 entries; expected one for each of 4"):
        l2l.algorithms.MetaSGD(network(), lrs=[torch.ones(1)])


def test_without_torch_the_import_says_what_to_install():
    program = (
        "import sys; sys.modules['torch'] = None; import mltk\n"
        "try: import mltk.compat.learn2learn\n"
        "except mltk.errors.BackendError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "torch" in done.stdout
    assert "pip install" in done.stdout
