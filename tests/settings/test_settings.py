"""Every public setting does what its docstring says: one that nothing shows fails here."""

import dataclasses
import inspect
from functools import cache, partial

import of_curricula  # noqa: F401 - experiments
import of_data  # noqa: F401
import of_embeddings  # noqa: F401
import of_images  # noqa: F401
import of_learners  # noqa: F401
import of_operations  # noqa: F401
import of_optimisers  # noqa: F401
import pytest
from experiments import EXPERIMENTS

from mltk import algorithms, data, heads, ops, optim
from mltk.errors import MltkError
from mltk.task_analysis import curricula

PUBLIC = [
    kind
    for package in (algorithms, heads, ops, optim, optim.transforms, data, curricula)
    for name in package.__all__
    if dataclasses.is_dataclass(kind := getattr(package, name)) and not inspect.isabstract(kind)
]
SETTINGS = [(kind, field.name) for kind in PUBLIC for field in dataclasses.fields(kind)]


def name_of(setting):
    kind, name = setting
    return f"{kind.__module__.removeprefix('mltk.')}.{kind.__name__}.{name}"


each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=name_of)


def experiment_on(setting, request):
    """The experiment on a setting, with its fixtures."""
    assert setting in EXPERIMENTS, f"nothing shows what {name_of(setting)} does: add an experiment"
    found = EXPERIMENTS[setting]
    fixtures = [name for name in inspect.signature(found).parameters if name != "kind"]
    return partial(found, setting[0], **{name: request.getfixturevalue(name) for name in fixtures})


@cache
def made(experiment, kind):
    """An experiment on several settings of a class is made once."""
    return []


@each_setting
def test_a_setting_does_what_its_docstring_says(setting, request):
    experiment, kind = experiment_on(setting, request), setting[0]
    assert f"{setting[1]}:" in documentation(kind), f"{name_of(setting)} has no docstring"
    if not made(experiment.func, kind):
        experiment()
        made(experiment.func, kind).append(True)


@each_setting
def test_a_class_that_is_deaf_to_the_setting_is_found_out(setting, request, monkeypatch):
    """One whose objects all have its default, or else the value that the first of them was given."""
    experiment, (kind, name) = experiment_on(setting, request), setting
    real, own = kind.__init__, inspect.signature(kind.__init__)
    values = [own.parameters[name].default]
    if values == [inspect.Parameter.empty]:
        values.clear()

    def deaf(self, *args, **options):
        given = own.bind(self, *args, **options)
        given.apply_defaults()
        values.append(given.arguments[name])
        given.arguments[name] = values[0]
        real(*given.args, **given.kwargs)

    monkeypatch.setattr(kind, "__init__", deaf)
    with pytest.raises((AssertionError, MltkError, TypeError, ValueError, LookupError)):
        experiment()


def documentation(kind):
    """The docstrings of a class and those that it inherits from."""
    return "\n".join(base.__doc__ or "" for base in kind.__mro__ if base is not object)


def test_no_experiment_is_on_what_is_no_setting():
    assert set(EXPERIMENTS) == set(SETTINGS)
