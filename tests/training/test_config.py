"""Configurations: what is written is what is rebuilt, and only mltk's own classes are ever rebuilt."""

import contextlib
import tomllib
from dataclasses import dataclass, fields

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mltk import algorithms, data, models, ops, optim
from mltk.errors import RunError, SettingError
from mltk.ops.activation import ACTIVATIONS
from mltk.training.config import differences, from_config, registry, to_config

counts = st.integers(1, 20)
positive = st.floats(1e-6, 10, allow_nan=False)
pairs = st.tuples(positive, positive).map(lambda pair: tuple(sorted(pair)))
sizes = counts | st.tuples(counts, counts)

operations = st.one_of(
    st.builds(ops.Linear, counts, counts, bias=st.booleans()),
    st.builds(ops.Convolution, counts, counts, sizes, stride=sizes, padding=sizes, bias=st.booleans()),
    st.builds(ops.BatchNorm, counts, eps=positive, spatial_axes=st.sampled_from([0, 2])),
    st.builds(ops.LayerNorm, counts | st.tuples(counts, counts, counts)),
    st.builds(ops.MaxPool, sizes, stride=st.none() | sizes),
    st.builds(ops.AveragePool, sizes, stride=st.none() | sizes),
    st.sampled_from([*(kind() for kind in ACTIVATIONS.values()), ops.Flatten(), ops.GlobalAveragePool()]),
)
# The first layer is a body, without which adapt_only="body" would leave nothing to adapt.
networks = st.lists(operations, max_size=4).map(
    lambda layers: models.Sequential([ops.Linear(1, 3), *layers, ops.Linear(3, 2)])
)
losses = st.sampled_from(["mse", "cross_entropy", ops.MeanSquaredError(), ops.CrossEntropy()])
learners = st.one_of(
    st.builds(
        algorithms.MAML,
        networks,
        losses,
        inner_lr=positive,
        inner_steps=st.integers(0, 5),
        first_order=st.booleans(),
        adapt_only=st.sampled_from([None, "head", "body"]),
    ),
    st.builds(algorithms.MetaSGD, networks, losses, inner_lr=pairs, lr_per_step=st.booleans()),
    st.builds(algorithms.Reptile, networks, losses),
    st.builds(algorithms.ImplicitMAML, networks, losses),
    st.builds(
        algorithms.Prototypical,
        networks,
        distance=st.sampled_from(["sqeuclidean", "cosine"]),
        temperature=positive | st.just("learned"),
    ),
    st.builds(algorithms.Matching, networks, full_context=st.booleans(), processing_steps=counts),
    st.builds(algorithms.RidgeRegression, networks, use_woodbury=st.sampled_from([None, False, True])),
    st.builds(algorithms.LogisticRegression, networks, reg_lambda=positive, steps=counts),
    st.builds(algorithms.BayesianRidge, networks, scale=positive),
)
schedules = st.one_of(
    st.builds(optim.Cosine, positive, st.integers(10, 99), end=positive, warmup=st.integers(0, 9)),
    st.builds(optim.StepDecay, positive, counts, factor=positive),
)
optimisers = st.one_of(
    st.builds(optim.SGD, positive | schedules, momentum=st.floats(0, 1)),
    st.builds(optim.Adam, positive | schedules, beta1=st.floats(0, 0.999)),
    st.builds(optim.AdamW, positive | schedules, weight_decay=positive),
)
chains = st.lists(optimisers | st.builds(optim.ClipByGlobalNorm, positive), max_size=3).map(
    lambda transforms: optim.chain(*transforms)
)
datasets = st.one_of(
    st.builds(data.Glyphs, counts, counts, counts, difficulty=st.floats(0, 1)),
    st.builds(data.Omniglot, alphabets=st.none() | st.just(("Latin", "Greek")), image_size=counts),
    st.builds(data.CIFARFS, st.sampled_from(["train", "test"])),
    st.builds(
        data.ImageFolder, st.sampled_from(["pictures", "/a/b c"]), counts, channels=st.sampled_from([1, 3])
    ),
)
sources = st.one_of(
    st.builds(data.Sinusoid, counts, counts, amplitude=pairs, noise=positive),
    st.builds(data.Harmonic, counts, counts),
    st.builds(
        data.ImageTasks,
        datasets,
        st.integers(2, 9),
        counts,
        counts,
        within=st.sampled_from([None, "alphabet"]),
        rotations=st.booleans(),
        jitter=st.none() | st.builds(data.Jitter, rotation=positive),
    ),
)

gaussians = st.builds(ops.Gaussian, positive)
policies = st.one_of(
    gaussians,
    st.builds(ops.PolicyLoss, gaussians | st.just(ops.Categorical()), counts, box=st.booleans()),
    st.builds(algorithms.StochasticMAML, networks, inner_lr=positive, sampled_step=st.booleans()),
    st.builds(data.Bandits, st.integers(2, 9), pulls=counts),
    st.builds(data.Navigation, counts, std=positive),
)


def through_toml(config):
    return tomllib.loads(tomli_w.dumps({"it": config}))["it"]


@settings(max_examples=100)
@given(st.one_of(learners, networks, optimisers, chains, sources, policies))
@example(optim.AdamW(0.1, weight_decay=0.2))
def test_rebuilt_from_toml_it_is_the_same(value):
    assert from_config(through_toml(to_config(value))) == value


def test_the_registry_holds_the_public_dataclasses_of_mltk_alone():
    names = registry()
    for name in ("algorithms.MAML", "models.Sequential", "ops.Linear", "data.Sinusoid", "optim.Adam"):
        assert f"mltk.{name}" in names
    for name, known in names.items():
        module, _, short = name.rpartition(".")
        assert known.__module__.startswith(module)
        assert known.__name__ == short


def test_settings_come_back_as_python_has_them():
    learner = algorithms.MAML(
        models.mlp([1, 2, 1]), "mse", inner_lr=np.float32(0.1), adapt_only=["0.weight", "2"]
    )
    found = from_config(through_toml(to_config(learner)))
    assert found.inner_lr == np.float32(0.1)
    assert type(found.inner_lr) is float
    assert found.adapt_only == ("0.weight", "2")
    assert found.learn_lr is None


@dataclass(frozen=True)
class Mine:
    """A user's own class."""

    width: int = 3


class Faster(optim.Adam):
    """A user's variant of a class of mltk."""


def test_a_class_of_the_users_own_is_described_but_not_rebuilt():
    assert to_config(Faster()).keys() == {"type"}
    assert to_config(Mine()) == {"type": "Mine(width=3)"}
    assert "0x" not in to_config(object())["type"]
    with pytest.raises(RunError, match=r"Mine\(width=3\)"):
        from_config(to_config(optim.Chain((optim.Adam(), Mine()))))


@pytest.mark.parametrize(
    "name", ["os.system", "mltk.training.run_folder.RunFolder", "mltk.models.mlp", "Adam", "", 3, ["x"]]
)
def test_nothing_else_is_rebuilt(name):
    with pytest.raises(RunError, match="no public class"):
        from_config({"type": name})


def test_settings_that_are_not_valid_are_refused():
    with pytest.raises(RunError, match="unknown settings: speed"):
        from_config({"type": "mltk.optim.Adam", "speed": 3})
    with pytest.raises(RunError, match="in_features"):
        from_config({"type": "mltk.ops.Linear", "out_features": 3})
    with pytest.raises(RunError, match="beta1") as caught:
        from_config({"type": "mltk.optim.Adam", "beta1": 2.0})
    assert isinstance(caught.value.__cause__, SettingError)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(max_examples=50)
@given(st.data())
def test_any_text_gives_an_object_or_a_run_error(given_data):
    name = given_data.draw(st.sampled_from(sorted(registry())))
    values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=2)
    names = [field.name for field in fields(registry()[name])]
    config = given_data.draw(st.dictionaries(st.sampled_from([*names, "other"]), values))
    with contextlib.suppress(RunError):
        assert isinstance(from_config({**config, "type": name}), registry()[name])


def test_differences_name_the_setting_and_both_values():
    old = {"seed": 0, "algorithm": to_config(algorithms.MAML(models.mlp([1, 2, 1]), "mse", inner_lr=0.1))}
    new = {"seed": 0, "algorithm": to_config(algorithms.MAML(models.mlp([1, 3, 1]), "mse", inner_lr=0.1))}
    assert differences(old, old) == []
    assert differences(old, new) == [
        "algorithm.model.layers.0.out_features: 2 before, 3 now",
        "algorithm.model.layers.2.in_features: 2 before, 3 now",
    ]
    assert differences({"a": 1, "b": 1, "d": 1}, {"a": 1.0, "c": "x", "d": True}) == [
        "b: 1 before, nothing now",
        "c: nothing before, x now",
        "d: 1 before, True now",
    ]
