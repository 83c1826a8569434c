"""Every public setting refuses what makes no sense, by its name; all objects are written and rebuilt."""

from dataclasses import fields
from math import inf, nan

import pytest
from test_settings import PUBLIC

import mltk
from mltk import heads, ops
from mltk.algorithms import (
    MAML,
    BayesianRidge,
    ImplicitMAML,
    LearnedOptimizer,
    LogisticRegression,
    Matching,
    Prototypical,
    Reptile,
    RidgeRegression,
    StochasticMAML,
)
from mltk.data import (
    CIFARFS,
    Bandits,
    Blobs,
    ClassPart,
    Glyphs,
    Harmonic,
    ImageFolder,
    ImageTasks,
    Jitter,
    LinearRegression,
    Mixture,
    Navigation,
    Omniglot,
    Retrying,
    Sinusoid,
)
from mltk.errors import SettingError
from mltk.heads import (
    BayesianRidgeHead,
    FullContextMatchingHead,
    LogisticHead,
    MatchingHead,
    PrototypicalHead,
    RidgeHead,
)
from mltk.optim import (
    IDBD,
    SGD,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    Cosine,
    HypergradientDescent,
    StepDecay,
    transforms,
)
from mltk.task_analysis.curricula import (
    ClassConditional,
    ClassPairs,
    Curriculum,
    HardMining,
    UniformDifficulty,
)
from mltk.training.config import from_config, to_config

MODEL = mltk.models.mlp([3, 4, 2])
DESCENT = {"model": MODEL, "loss": "mse"}
SETS = {"shots": 1, "queries": 1}

GOOD = {
    **dict.fromkeys((MAML, ImplicitMAML, Reptile), DESCENT),
    LearnedOptimizer: DESCENT | {"transform": transforms.Scale()},
    StochasticMAML: {"model": MODEL},
    **{kind: {"embedding": MODEL} for kind in (BayesianRidge, LogisticRegression, RidgeRegression)},
    **{kind: {"embedding": MODEL} for kind in (Matching, Prototypical)},
    FullContextMatchingHead: {"features": 3},
    ops.LSTM: {"features": 2, "hidden": 2},
    **{kind: {"kernel_size": 2} for kind in (ops.AveragePool, ops.MaxPool)},
    **{kind: {"features": 3} for kind in (ops.BatchNorm, ops.LayerNorm)},
    ops.Convolution: {"in_channels": 1, "out_channels": 1, "kernel_size": 3},
    ops.DropRows: {"rows": 1},
    ops.Gaussian: {"std": 1.0},
    ops.Linear: {"in_features": 1, "out_features": 1},
    ops.LogLikelihood: {"distribution": ops.Categorical()},
    ops.PolicyLoss: {"distribution": ops.Categorical(), "horizon": 2},
    ops.FunctionLoss: {"function": abs},
    SGD: {"learning_rate": 0.1},
    mltk.optim.Chain: {"transforms": (Adam(),)},
    ClipByGlobalNorm: {"max_norm": 1.0},
    Cosine: {"start": 0.1, "steps": 10},
    HypergradientDescent: {"optimizer": Adam(), "hyper_rate": 0.1},
    StepDecay: {"start": 0.1, "every": 2},
    transforms.Chain: {"transforms": (transforms.Bias(),)},
    transforms.Clip: {"limit": 1.0},
    Blobs: SETS | {"ways": 3},
    **dict.fromkeys((Harmonic, LinearRegression, Sinusoid), SETS),
    ImageFolder: {"root": "images", "image_size": 4},
    ImageTasks: SETS | {"ways": 2, "dataset": Glyphs(2, 2, 4)},
    ClassPart: {"dataset": Glyphs(2, 2, 4)},
    Mixture: {"sources": (Sinusoid(**SETS),)},
    **{kind: {"tasks": Sinusoid(**SETS)} for kind in (HardMining, Retrying, UniformDifficulty)},
    Curriculum: {"tasks": Sinusoid(**SETS), "steps": 10},
    **{kind: {"tasks": ImageTasks(Glyphs(2, 2, 4), 2, 1, 1)} for kind in (ClassConditional, ClassPairs)},
}
"""The settings that must be given."""

COUNT, COUNT_OR_ZERO, FLAG = (0, 1.5, True, "1"), (-1, 1.0), (1, None, "yes")
NOT_NEGATIVE, POSITIVE, BOUNDS = (-0.1, nan, "loud"), (0.0, -1.0, inf), ((1.0, 0.0), 3.0, (0.0, inf))
NO_MODEL, NO_LOSS, RATE = (None, "mlp"), ("hinge", ["mse"]), (-0.1, nan, "fast")
STEPS = {"loss": NO_LOSS, "model": NO_MODEL, "inner_lr": (*RATE, (0.1, 1.0)), "inner_steps": COUNT_OR_ZERO}
KEPT = dict.fromkeys(("first_order", "checkpoint"), FLAG)
NAMED = ("7", "neck", 3, ["0", "7"])
CALIBRATION = {"scale": POSITIVE, "learn_scale": FLAG, "learn_bias": FLAG}
LINEAR = CALIBRATION | {"reg_lambda": POSITIVE, "learn_lambda": FLAG}
NEWTON = LINEAR | {"steps": COUNT}
RIDGE = LINEAR | {"use_woodbury": (1, "auto"), "intercept": FLAG}
DISTANCES = {"distance": ("manhattan", None), "temperature": (0, -1.0, "warm")}
TEMPERATURE = {"temperature": (0.0, -1.0, 0.02)}
WINDOW = {"kernel_size": (0, 2.5, (3, 3, 3), True), "stride": (0, -1), "padding": ((0, -1), (0, 2), 2)}
MOMENTS = {"beta1": (1.0, -0.1), "beta2": (1.0, -0.1), "eps": (-1.0,), "learning_rate": RATE}
EXAMPLES = {"shots": COUNT, "queries": COUNT}
WRAPPED = {"tasks": (None, "sinusoid", HardMining(Sinusoid(**SETS)))}
BY_CLASS = {"tasks": (*WRAPPED["tasks"], Sinusoid(**SETS)), "strength": (-0.1, nan), "memory": (-0.1, 1.1)}

REFUSED = {
    MAML: STEPS | {"learn_lr": ("vector",), "lr_per_step": (True, *FLAG), "adapt_only": NAMED} | KEPT,
    ImplicitMAML: STEPS | {"reg_lambda": POSITIVE, "cg_steps": COUNT},
    Reptile: STEPS | {"inner_steps": COUNT, "inner_batch": (0, 2.5)},
    LearnedOptimizer: {name: STEPS[name] for name in ("loss", "model", "inner_steps")}
    | KEPT
    | {"lr": RATE, "adapt_only": NAMED, "transform": ("scale", transforms.Scale), "learn_init": FLAG},
    StochasticMAML: {name: STEPS[name] for name in ("model", "inner_lr", "inner_steps")}
    | KEPT
    | {"sampled_step": FLAG, "baseline": FLAG},
    LogisticRegression: NEWTON | {"embedding": NO_MODEL},
    RidgeRegression: RIDGE | {"embedding": NO_MODEL},
    BayesianRidge: CALIBRATION | {"embedding": NO_MODEL},
    Matching: {"embedding": NO_MODEL, "full_context": FLAG, "processing_steps": COUNT, "features": (0,)}
    | TEMPERATURE,
    Prototypical: DISTANCES | {"embedding": (3, None)},
    FullContextMatchingHead: TEMPERATURE | {"features": COUNT, "processing_steps": COUNT},
    MatchingHead: TEMPERATURE,
    PrototypicalHead: DISTANCES,
    LogisticHead: NEWTON,
    RidgeHead: RIDGE,
    BayesianRidgeHead: CALIBRATION,
    ops.LSTM: {"features": COUNT, "hidden": COUNT, "reverse": FLAG},
    ops.Attention: {"scale": POSITIVE},
    ops.MaxPool: WINDOW,
    ops.AveragePool: WINDOW,
    ops.Convolution: WINDOW
    | {"in_channels": COUNT, "out_channels": COUNT, "padding": ((0, -1), 0.5)}
    | {"bias": FLAG},
    ops.BatchNorm: {"features": COUNT, "eps": NOT_NEGATIVE, "statistics": ("running",), "rows": (0,)}
    | {"spatial_axes": (3,)},
    ops.LayerNorm: {"features": ((), (3, 0), 0, None, "3"), "eps": NOT_NEGATIVE},
    ops.CrossEntropy: {"label_smoothing": (1.5, nan), "class_weights": (2, [1, 0])},
    ops.SmoothL1: {"beta": POSITIVE},
    ops.DropRows: {"rows": COUNT, "axes": COUNT},
    ops.Flatten: {"out_features": (0,)},
    ops.Linear: {"in_features": COUNT, "out_features": COUNT, "bias": FLAG},
    ops.Gaussian: {"std": POSITIVE},
    ops.PolicyLoss: {"box": FLAG, "horizon": COUNT, "distribution": ("categorical", ops.Categorical)},
    ops.LogLikelihood: {"distribution": (None, ops.Categorical)},
    IDBD: {"meta_rate": NOT_NEGATIVE, "initial_rate": POSITIVE},
    SGD: {"learning_rate": (*RATE, "0.1"), "momentum": (*NOT_NEGATIVE, inf), "weight_decay": NOT_NEGATIVE}
    | {"nesterov": (True, *FLAG)},
    Adam: MOMENTS,
    AdamW: MOMENTS | {"weight_decay": NOT_NEGATIVE},
    ClipByGlobalNorm: {"max_norm": POSITIVE},
    Cosine: {"start": RATE, "steps": COUNT, "end": NOT_NEGATIVE, "warmup": (10, -1)},
    StepDecay: {"start": RATE, "every": COUNT, "factor": NOT_NEGATIVE},
    HypergradientDescent: {
        "hyper_rate": NOT_NEGATIVE,
        "optimizer": (ClipByGlobalNorm(1.0), SGD(Cosine(0.1, 5))),
    },
    transforms.Backtrack: {"risk": (-0.1, 1.1, nan, "high"), "halvings": COUNT},
    transforms.Clip: {"limit": POSITIVE, "by": ("sign",)},
    transforms.Momentum: {"initial": (nan, (0.1, 0.2)), "per": ("layer",)},
    transforms.Network: {"hidden": ((0,), 20), "activation": ("sine", ["relu"]), "scale": (-1.0, 1000.0)}
    | {"shared": FLAG},
    transforms.Scale: {"initial": ("big", (0.2, 0.1), nan), "per": ("layer",)},
    CIFARFS: {"split": ("val",), "image_size": COUNT},
    Omniglot: {"part": ("images",), "image_size": COUNT, "split": ("vinyals",)}
    | {"alphabets": ("Latin", (), ("Klingon",))},
    Glyphs: dict.fromkeys(("alphabets", "characters", "drawings"), COUNT)
    | {"difficulty": (1.01, nan, "hard"), "seed": (-1, 2**63), "image_size": (7,)},
    ImageFolder: {"root": (3,), "image_size": COUNT, "channels": (2,), "white": POSITIVE, "at_least": (0,)}
    | {"classes": (3, ())},
    ClassPart: {"dataset": ("glyphs", Glyphs, None), "share": (0, 1, nan), "kept_back": FLAG}
    | {"seed": COUNT_OR_ZERO},
    Mixture: {"sources": ((), (3,), Sinusoid(**SETS)), "together": FLAG}
    | {"weights": (3, [1.0], (-1.0,), (0.0,), (1.0, 2.0))},
    ImageTasks: EXAMPLES
    | {"ways": (1,), "rotations": FLAG, "jitter": (0.1,), "within": ("family",)}
    | {"dataset": ("omniglot", Glyphs, None)},
    Jitter: {"rotation": NOT_NEGATIVE, "scale": (inf,), "shear": (1.0,), "translation": ("far", -0.1)},
    Bandits: {"arms": (1,), "trajectories": COUNT, "pulls": COUNT, "means": BOUNDS, "noise": NOT_NEGATIVE},
    Blobs: EXAMPLES | {"ways": (1,), "features": (1, 0), "separation": NOT_NEGATIVE, "centre": (-1.0,)},
    Harmonic: EXAMPLES
    | dict.fromkeys(("amplitude", "spread", "noise"), NOT_NEGATIVE)
    | dict.fromkeys(("frequency", "phase", "centre"), BOUNDS),
    LinearRegression: EXAMPLES
    | {"features": COUNT, "prior_mean": ((1.0, 2.0), nan), "prior_scale": POSITIVE, "x_scale": POSITIVE}
    | {"noise": NOT_NEGATIVE},
    Navigation: {"trajectories": COUNT, "horizon": COUNT, "goals": BOUNDS, "std": POSITIVE}
    | {"max_step": POSITIVE},
    Sinusoid: EXAMPLES
    | dict.fromkeys(("amplitude", "frequency", "phase", "x"), BOUNDS)
    | {"noise": NOT_NEGATIVE},
    Retrying: {"tasks": (None, "sinusoid"), "retries": (-1, 1.5), "wait": NOT_NEGATIVE},
    HardMining: WRAPPED | {"candidates": (1, 2.0)},
    UniformDifficulty: WRAPPED | {"divisor": ("mean",), "memory": (-0.1, 1.1)},
    ClassConditional: BY_CLASS,
    ClassPairs: BY_CLASS,
    Curriculum: WRAPPED | {"steps": COUNT, "first": (-0.1, 1.1), "candidates": (1, 2.0)},
}
"""For each class and setting the values that it must not take."""

UNCHECKED = {
    ops.FunctionLoss: {"function"},
    transforms.Chain: {"transforms"},
    mltk.optim.Chain: {"transforms"},
}
"""Settings that a function of the same name checks."""

VALUES = [
    (kind, name, value)
    for kind, settings in REFUSED.items()
    for name, values in settings.items()
    for value in values
]


@pytest.mark.parametrize(
    ("kind", "name", "value"), VALUES, ids=lambda part: getattr(part, "__name__", repr(part))
)
def test_a_value_that_makes_no_sense_is_refused_by_the_name_of_its_setting(kind, name, value):
    with pytest.raises(SettingError, match=rf"\b{name}\b.*(; expected|need|the model has)"):
        kind(**GOOD.get(kind, {}) | {name: value})


def test_no_setting_is_left_out():
    for kind in PUBLIC:
        taken = REFUSED.get(kind, {}).keys() | UNCHECKED.get(kind, set())
        assert taken == {field.name for field in fields(kind)}, kind


WRITTEN = [kind for kind in PUBLIC if kind is not ops.FunctionLoss and kind.__name__ not in heads.__all__]
"""Heads are described by their learners, and functions by nothing that could be read."""


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_public_object_comes_back_from_its_configuration(kind):
    made = kind(**GOOD.get(kind, {}))
    assert from_config(to_config(made)) == made
