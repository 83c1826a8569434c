"""What the command line can name: learners, task families and backends."""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import entry_points

from mltk.plugins import GROUP


class AlgorithmName(StrEnum):
    """Learners."""

    MAML = "maml"
    FOMAML = "fomaml"
    META_SGD = "meta-sgd"
    ANIL = "anil"
    BOIL = "boil"
    REPTILE = "reptile"
    IMPLICIT_MAML = "implicit-maml"
    LEARNED_OPTIMIZER = "learned-optimizer"
    STOCHASTIC_MAML = "stochastic-maml"
    PROTOTYPICAL = "prototypical"
    MATCHING = "matching"
    RIDGE = "ridge"
    LOGISTIC = "logistic"


class TransformName(StrEnum):
    """What a learned optimiser learns about its steps."""

    SCALE = "scale"
    BIAS = "bias"
    MOMENTUM = "momentum"
    KRONECKER = "kronecker"
    META_CURVATURE = "meta-curvature"
    NETWORK = "network"
    CLIP = "clip"


class DataName(StrEnum):
    """Task families."""

    SINUSOID = "sinusoid"
    HARMONIC = "harmonic"
    LINEAR_REGRESSION = "linear-regression"
    BLOBS = "blobs"
    BANDITS = "bandits"
    NAVIGATION = "navigation"
    GLYPHS = "glyphs"
    OMNIGLOT = "omniglot"
    CIFAR_FS = "cifar-fs"
    IMAGES = "images"


class Protocol(StrEnum):
    """Tests of a trained learner."""

    UNSEEN_TASKS = "unseen-tasks"
    OMNIGLOT_CHALLENGE = "omniglot-challenge"


class Dtype(StrEnum):
    """Precisions."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


def backend_names() -> list[str]:
    """The installed backends."""
    return sorted(entry_points(group=GROUP).names)
