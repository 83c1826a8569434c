"""LearnableOptimizer: its public name, and what it refuses."""

import pytest
import torch
from mltk_backends.torch.learnable_optimizer import LearnableOptimizer
from torch import nn

from mltk import modules
from mltk.errors import MismatchError, SettingError, ShapeError, UnsupportedError
from mltk.modules import functions
from mltk.optim.transforms import Scale


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_the_public_name_asks_the_library_of_the_module():
    model = network()
    learned = modules.LearnableOptimizer(model, Scale(), lr=0.1)
    assert isinstance(learned, LearnableOptimizer)
    assert learned.model is model
    assert len(list(learned.modules())) < 10  # the model is none of them
    assert not any(each is model for each in learned.modules())
    with pytest.raises(SettingError, match=r"torch\.nn\.Module"):
        modules.LearnableOptimizer(object(), Scale())


def test_modules_without_autograd_are_sent_to_the_learned_optimizer(monkeypatch):
    class Foreign:
        pass

    monkeypatch.setitem(functions._registered, Foreign, object())
    with pytest.raises(UnsupportedError, match=r"Foreign.*algorithms\.LearnedOptimizer"):
        modules.LearnableOptimizer(Foreign(), Scale())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda: ("model", Scale()), SettingError, "model is a str"),
        (lambda: (nn.Tanh(), Scale()), SettingError, "no parameter that needs a gradient"),
        (lambda: (network(), "scale"), SettingError, "transform is 'scale'"),
        (lambda: (network(), lambda p: p.clone), SettingError, r"for 0\.weight"),
        (lambda: (network(), Scale(), float("nan")), SettingError, "lr is nan"),
        (lambda: (network(), Scale(), "fast"), SettingError, "lr is 'fast'"),
        (
            lambda: (nn.Sequential(nn.Linear(1, 1).double(), nn.Linear(1, 1)), Scale()),
            MismatchError,
            r"torch\.float32 on cpu, torch\.float64 on cpu",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        LearnableOptimizer(*arguments())


def test_a_direction_of_another_shape_is_refused():
    model = network()
    learned = LearnableOptimizer(model, lambda p: nn.Linear(p.shape[-1], 1))
    model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(ShapeError, match=r"direction of 0\.weight has shape \(4, 1\).*\(4, 3\)"):
        learned.step()
