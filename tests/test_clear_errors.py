"""What a newcomer does wrong first, and what is said: each message names the way out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
from mltk.algorithms import MAML, Prototypical, StochasticMAML
from mltk.checks import did_you_mean
from mltk.data.files.registry import look_up
from mltk.errors import (
    BackendError,
    DtypeError,
    MismatchError,
    MltkError,
    RunError,
    SettingError,
    ShapeError,
    TreeError,
)
from mltk.oracle.candidate.settings import Settings
from mltk.oracle.computations import computation
from mltk.oracle.layers import operation

NUMPY = mltk.backend("numpy")
BLOBS = mltk.data.Blobs(2, 1, 1, features=3)
LEARNER = MAML(mltk.models.mlp([3, 2]), "cross_entropy")
PROTOTYPICAL = Prototypical(mltk.models.mlp([3, 2]))


def sets(*, tasks=2, per_class=2, features=(3,)):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(tasks, 2 * per_class, *features)).astype(np.float32)
    return x, np.tile([0, 1], (tasks, per_class))


def test_integer_labels_without_ways():
    x, y = sets()
    with pytest.raises(DtypeError, match=r"support_y has dtype int64; .* for labels ways=…, how many"):
        mltk.Episode(x, y, x, y)


@given(
    features=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    per_class=st.integers(1, 3),
    labels=st.booleans(),
)
def test_a_missing_task_axis(features, per_class, labels):
    x, y = sets(features=features, per_class=per_class)
    if not labels:
        y = y[..., None].astype(np.float32)
    ways = 2 if labels else None
    mltk.Episode(x, y, x, y, ways=ways)
    with pytest.raises(ShapeError, match=r"axis of the tasks missing\? array\[None\] makes one task"):
        mltk.Episode(x[0], y[0], x[0], y[0], ways=ways)
    mltk.Episode(x[0][None], y[0][None], x[0][None], y[0][None], ways=ways)


def test_a_missing_task_axis_where_learners_are_called():
    x, y = sets(features=(1, 16, 16))
    images = mltk.algorithms.Prototypical(mltk.models.conv4(1, 16, width=2, statistics="batch"))
    for learner, inputs in ((LEARNER, sets()[0]), (images, x)):
        meta_params = learner.init(NUMPY, 0)
        state = learner.adapt(meta_params, inputs, y)
        with pytest.raises(ShapeError, match="axis of the tasks missing"):
            learner.adapt(meta_params, inputs[0], y[0])
        learner.predict(state, inputs)
    with pytest.raises(ShapeError, match=r"query_x .* axis of the tasks missing"):
        LEARNER.predict(LEARNER.adapt(LEARNER.init(NUMPY, 0), *sets()), sets()[0][0])


@pytest.mark.parametrize("learner", [LEARNER, PROTOTYPICAL], ids=["gradient-based", "embedding-based"])
def test_inputs_in_double_precision_are_not_blamed_on_the_parameters(learner):
    x, y = sets()
    meta_params = learner.init(NUMPY, 0)
    state = learner.adapt(meta_params, x, y)
    wide = x.astype(np.float64)
    for name, call, like in (
        ("support_x", lambda: learner.adapt(meta_params, wide, y), "meta_params"),
        ("query_x", lambda: learner.predict(state, wide), "state"),
        (
            "episode",
            lambda: learner.value_and_grad(meta_params, mltk.Episode(wide, y, wide, y, ways=2)),
            "meta_params",
        ),
    ):
        with pytest.raises(MismatchError) as raised:
            call()
        assert str(raised.value).startswith(
            f"{name} holds an array of numpy float64 on cpu; "
            f"expected an array of numpy float32 on cpu, like {like}"
        )


def test_parameters_that_differ_among_themselves_are_blamed():
    x, y = sets()
    meta_params = LEARNER.init(NUMPY, 0)
    meta_params["0"]["bias"] = meta_params["0"]["bias"].astype(np.float64)
    with pytest.raises(MismatchError, match=r"^meta_params holds an array of numpy float64"):
        LEARNER.adapt(meta_params, x, y)


def test_a_missing_folder(tmp_path):
    (tmp_path / "meta-sgd").mkdir()
    with pytest.raises(RunError, match=r"missing: there is no folder .*did you mean 'meta-sgd'\?"):
        mltk.load_run(tmp_path / "metasgd")
    with pytest.raises(RunError, match=r"config\.toml is missing"):
        mltk.load_run(tmp_path / "meta-sgd")
    with pytest.raises(MltkError, match="cannot be read: No such file"):
        mltk.data.ImageFolder(tmp_path / "images", image_size=28).tasks(2, 1, 1).sample(1, 0, NUMPY)


EMPTY = {
    "backend_of": (lambda: mltk.backend_of({}), MismatchError, "holds no array; expected at least one"),
    "evaluate": (
        lambda: mltk.evaluate(Prototypical(mltk.models.Sequential([])), {}, BLOBS, episodes=1),
        SettingError,
        "meta_params holds no array to tell; expected a backend",
    ),
    "train": (
        lambda: mltk.train(Prototypical(mltk.models.Sequential([])), BLOBS, backend=NUMPY, steps=1),
        SettingError,
        "no meta-parameters; expected one that can be trained",
    ),
    "adapt": (lambda: LEARNER.adapt({}, *sets()), TreeError, "meta_params: '0.weight' is missing"),
    **{
        type(optimizer).__name__: (
            lambda optimizer=optimizer: optimizer.update({}, optimizer.init({}), {}),
            TreeError,
            "params is a tree without arrays",
        )
        for optimizer in (
            mltk.optim.SGD(0.1),
            mltk.optim.Adam(),
            mltk.optim.AdamW(),
            mltk.optim.ClipByGlobalNorm(1.0),
        )
    },
}


@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_tree(case):
    call, error, message = EMPTY[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("model", lambda module: MAML(module, "mse")),
        ("model", lambda module: mltk.algorithms.Reptile(module, "mse")),
        ("model", StochasticMAML),
        ("embedding", Prototypical),
    ],
)
@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2))])
def test_a_module_of_torch_is_no_model_but_can_be_made_one(name, make, module):
    with pytest.raises(SettingError, match=f"{name} is a .*torch.nn.Module; .*ModuleModel"):
        make(module)
    make(ModuleModel(module))


MISSPELT = {
    "loss": (lambda: mltk.ops.loss("cross_entrpy"), "cross_entropy"),
    "loss, like its class": (lambda: MAML(mltk.models.mlp([3, 2]), "CrossEntropy"), "cross_entropy"),
    "loss, capitals": (lambda: mltk.ops.loss("MSE"), "mse"),
    "backend": (lambda: mltk.backend("pytorch"), "torch"),
    "dtype": (lambda: mltk.backend("numpy", dtype="float46"), "float64"),
    "engine": (lambda: mltk.backend("torch", engine="autgrad"), "autograd"),
    "engine of numpy": (lambda: mltk.backend("numpy", engine="analytical"), "analytic"),
    "activation": (lambda: mltk.models.mlp([3, 2, 1], activation="sigmod"), "sigmoid"),
    "statistics": (lambda: mltk.models.conv4(1, 16, statistics="suport"), "support"),
    "distance": (lambda: Prototypical(mltk.models.mlp([3, 2]), distance="euclidean"), "sqeuclidean"),
    "temperature": (lambda: Prototypical(mltk.models.mlp([3, 2]), temperature="learnt"), "learned"),
    "learn_lr": (lambda: MAML(mltk.models.mlp([3, 2]), "mse", learn_lr="elements"), "element"),
    "adapt_only": (lambda: MAML(mltk.models.mlp([3, 2]), "mse", adapt_only="heads"), "head"),
    "per": (lambda: mltk.optim.transforms.Scale(per="tensors"), "tensor"),
    "by": (lambda: mltk.optim.transforms.Clip(1.0, by="norms"), "norm"),
    "part": (lambda: mltk.data.Omniglot("backgroud"), "background"),
    "split": (lambda: mltk.data.CIFARFS("trian"), "train"),
    "data set": (lambda: look_up("omniglot-backgroun"), "omniglot-background"),
    "computation": (lambda: computation("prototypcal"), "prototypical"),
    "layer": (lambda: operation({"layer": "linaer"}), "linear"),
    "setting of the oracle": (lambda: Settings({"inner_lr": 1.0, "inner_steps": 1}).innerlr, "inner_lr"),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_a_misspelt_name_gets_a_suggestion(case):
    call, meant = MISSPELT[case]
    with pytest.raises((MltkError, AttributeError)) as raised:
        call()
    assert f"(did you mean {meant!r}?)" in str(raised.value)


def test_names_that_are_near_nothing_get_none():
    assert did_you_mean("wibble", ["mse", "cross_entropy"]) == ""
    assert did_you_mean(3, ["mse"]) == ""
    for distance in (None, 3, ["cosine"]):
        with pytest.raises(SettingError, match=r"distance is .*; expected one of sqeuclidean, cosine$"):
            Prototypical(mltk.models.mlp([3, 2]), distance=distance)
    with pytest.raises(BackendError, match="there is no backend 'cupy'"):
        mltk.backend("cupy")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["train", "mamll", "--data", "sinusoid"], "maml"),
        (["train", "maml", "--data", "sinusiod"], "sinusoid"),
        (["train", "maml", "--data", "sinusoid", "--backend", "nunpy"], "numpy"),
        (["train", "maml", "--data", "sinusoid", "--dtype", "float46"], "float64"),
        (["data", "get", "omniglot-backgroun"], "omniglot-background"),
        (["oracle", "check", "x.py:f", "-c", "prototypcal"], "prototypical"),
        (["oracle", "mistakes", "first-oder"], "first-order"),
    ],
)
def test_a_misspelt_choice_of_the_command_line_gets_a_suggestion(arguments, meant):
    from typer.testing import CliRunner

    from mltk.cli import app

    outcome = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000", "TERMINAL_WIDTH": "1000"})
    assert outcome.exit_code != 0
    words = " ".join((outcome.output + outcome.stderr).replace("│", " ").split())
    assert f"(did you mean '{meant}'?)" in words
