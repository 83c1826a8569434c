"""A run is continued with what it was started with: constants, structure and code count, too."""

import importlib
import linecache
import random
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
import mltk.training.config
from mltk.errors import RunError
from mltk.training.fingerprint import fingerprint

TASKS = mltk.data.Sinusoid(shots=5, queries=5)


class Scaled(nn.Module):
    """A user's layer."""

    def __init__(self, scale=2.0, function=torch.tanh):
        super().__init__()
        self.scale, self.function = scale, function
        self.register_buffer("offset", torch.zeros(1))

    def forward(self, x):
        return self.function(self.scale * x) + self.offset


def network(*, seed=1, activation=nn.Tanh, change=lambda net: None, frozen=True):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, 8), activation(), nn.LayerNorm(8), Scaled(), nn.Linear(8, 1))
    if frozen:
        net[0].requires_grad_(False)
    change(net)
    return net


def learner(**options):
    return mltk.algorithms.MAML(ModuleModel(network(**options)), "mse")


def train(algorithm, out, *, steps, tasks=TASKS, backend="torch"):
    return mltk.train(
        algorithm, tasks, backend=mltk.backend(backend), steps=steps, out=out, resume=True, log_every=2
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, r"algorithm\.model\.0\.weight: float32 \(8, 1\) \w+ before, float32 \(8, 1\) \w+ now"),
        ({"activation": nn.ReLU}, r"algorithm\.model\.1: Tanh\(\) before, ReLU\("),
        ({"activation": nn.LeakyReLU}, r"algorithm\.model\.1: Tanh\(\) before, LeakyReLU\("),
        (
            {"change": lambda net: setattr(net[2], "eps", 1e-3)},
            r"algorithm\.model\.2: .*eps=1e-05.*eps=0\.001",
        ),
        (
            {"change": lambda net: setattr(net[3], "scale", 3.0)},
            r"algorithm\.model\.3: .*scale=2\.0.*scale=3\.0",
        ),
        (
            {"change": lambda net: setattr(net[3], "function", torch.relu)},
            r"model\.3\.function: \S*tanh before, \S*relu now",
        ),
        ({"change": lambda net: net[3].offset.add_(1)}, r"algorithm\.model\.3\.offset"),
        ({"change": lambda net: net.eval()}, r"in evaluation mode"),
        ({"frozen": False}, r"algorithm\.model\.0\.bias: .* before, nothing now"),
        (
            {"change": lambda net: net[3].register_forward_hook(lambda module, x, y: y + 1)},
            r"model\.3\._forward_hooks",
        ),
    ],
    ids=["backbone", "relu", "leaky", "eps", "attribute", "function", "buffer", "mode", "thawed", "hook"],
)
def test_a_run_is_not_continued_with_another_module(change, named, tmp_path):
    train(learner(), tmp_path, steps=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=named):
        train(learner(**change), tmp_path, steps=8)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert train(learner(), tmp_path, steps=8).steps == 8


def test_what_is_trained_may_start_elsewhere(tmp_path):
    """A process that continues a run need not seed Torch as the first one did: the checkpoint decides."""
    train(learner(frozen=False), tmp_path, steps=4)
    assert train(learner(frozen=False, seed=2), tmp_path, steps=8).steps == 8


@pytest.mark.parametrize(
    "two",
    [
        lambda: [ModuleModel(nn.LeakyReLU(slope)) for slope in (0.01, 0.2)],
        lambda: [ModuleModel(nn.Tanh(), inputs=take) for take in (torch.sin, torch.cos)],
        lambda: [ModuleModel(nn.Tanh(), output=name) for name in ("logits", "hidden")],
    ],
    ids=["slope", "inputs", "output"],
)
def test_settings_of_modules_count(two):
    first, second = (fingerprint("m", model) for model in two())
    assert first != second


class Table:
    """A user's task source with arrays and settings."""

    def __init__(self, *, slope=1.0, table=None, words=("a", "b"), base=TASKS):
        self.slope, self.words, self._base = slope, words, base
        self.table = np.linspace(0, 1, 64).reshape(8, 8) if table is None else table
        self.generator, self.other = np.random.default_rng(), random.Random()

    @cached_property
    def derived(self):
        return self.table + 1

    def sample(self, n_tasks, rng, backend):
        self.derived  # noqa: B018 - fills the cache
        return self._base.sample(n_tasks, rng, backend)


CHANGED = np.linspace(0, 1, 64).reshape(8, 8)
CHANGED[3, 4] += 1e-12


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"slope": 2.0}, r"tasks\.slope: 1\.0 before, 2\.0 now"),
        ({"table": CHANGED}, r"tasks\.table: float64 \(8, 8\) \w+ before"),
        ({"table": np.linspace(0, 1, 64).reshape(4, 16)}, r"tasks\.table: .*\(4, 16\)"),
        ({"words": ("a", "c")}, r"tasks\.words: \('a', 'b'\) before, \('a', 'c'\) now"),
        ({"base": mltk.data.Sinusoid(shots=5, queries=5, noise=0.1)}, r"tasks\._base"),
    ],
    ids=["setting", "value", "shape", "container", "source within"],
)
def test_a_run_is_not_continued_with_another_task_source(change, named, tmp_path):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    train(maml, tmp_path, steps=4, tasks=Table(), backend="numpy")
    with pytest.raises(RunError, match=named):
        train(maml, tmp_path, steps=8, tasks=Table(**change), backend="numpy")
    assert train(maml, tmp_path, steps=8, tasks=Table(), backend="numpy").steps == 8


@dataclass(frozen=True)
class Mine:
    """A user's learner around one of mltk's."""

    inner: object
    weights: object

    def init(self, backend, seed):
        return self.inner.init(backend, seed)

    def value_and_grad(self, meta_params, episode):
        return self.inner.value_and_grad(meta_params, episode)


def test_a_run_is_not_continued_with_another_learner(tmp_path):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    many = np.arange(5000.0)  # NumPy prints the ends of so many numbers alone
    other = many.copy()
    other[2500] = 0
    train(Mine(maml, many), tmp_path, steps=4, backend="numpy")
    with pytest.raises(RunError, match=r"algorithm\.weights: float64 \(5000,\)"):
        train(Mine(maml, other), tmp_path, steps=8, backend="numpy")
    assert train(Mine(maml, many.copy()), tmp_path, steps=8, backend="numpy").steps == 8


def test_runs_of_earlier_versions_are_continued(tmp_path):
    train(learner(), tmp_path, steps=4)
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().partition("[contents]")[0])
    assert train(learner(seed=2), tmp_path, steps=8).steps == 8


def test_what_is_mltks_own_needs_no_fingerprint(tmp_path):
    train(mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse"), tmp_path, steps=2, backend="numpy")
    assert "contents" not in (tmp_path / "config.toml").read_text()


def test_an_object_may_say_itself_what_counts(tmp_path):
    class Counting(Table):
        calls = 0

        def sample(self, n_tasks, rng, backend):
            self.calls += 1
            return super().sample(n_tasks, rng, backend)

        def fingerprint(self):
            return {"slope": self.slope}

    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    source = Counting()
    train(maml, tmp_path, steps=4, tasks=source, backend="numpy")
    assert train(maml, tmp_path, steps=8, tasks=source, backend="numpy").steps == 8
    with pytest.raises(RunError, match=r"tasks\.slope: 1\.0 before, 3\.0 now"):
        train(maml, tmp_path, steps=12, tasks=Counting(slope=3.0), backend="numpy")


def made(source, name="f"):
    """A function or class of a source that Python can look up."""
    file = f"<test {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    space = {"__name__": "users_own"}
    exec(compile(source, file, "exec"), space)
    return space[name]


def test_code_counts_and_its_comments_do_not():
    first, second, other = (
        fingerprint("f", made(source))
        for source in (
            "def f(x):\n    return x + 1\n",
            'def f(x):\n    """Says something."""\n    # why\n    return (x +\n            1)\n',
            "def f(x):\n    return x - 1\n",
        )
    )
    assert first == second != other


def test_what_a_function_has_closed_over_counts():
    one, same, other = (made(f"def g(k):\n    return lambda z: k * z\nf = g({k})\n") for k in (1, 1.0, -1))
    facts = [fingerprint("f", each) for each in (one, same, other)]
    assert facts[0]["f.k"] == "1"
    assert facts[2]["f.k"] == "-1"
    assert facts[0] != facts[1]


LAYER = """
import torch
class Layer(torch.nn.Module):
    def forward(self, x):
        return torch.FUNCTION(x)
"""


def test_what_the_forward_of_a_users_module_calls_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    facts = []
    for function in ("tanh", "relu", "tanh"):
        name = f"layers_{len(facts)}"
        (tmp_path / f"{name}.py").write_text(LAYER.replace("FUNCTION", function))
        facts.append(fingerprint("m", ModuleModel(importlib.import_module(name).Layer())))
    assert facts[0] == facts[2] != facts[1]


def test_a_task_source_of_mltk_that_holds_arrays_is_described_by_them(tmp_path):
    @dataclass(frozen=True)
    class Holding:
        values: np.ndarray

    described = mltk.training.config.to_config(np.zeros((2, 3)))
    assert described == {"type": "array float64 (2, 3)"}
    one, other = (fingerprint("t", Holding(np.full((2, 3), value))) for value in (0.0, 1.0))
    assert one["t.values"] != other["t.values"]


values = st.one_of(
    hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=3, max_side=3)),
    st.lists(st.one_of(st.integers(), st.text(), st.floats(allow_nan=False)), max_size=50),
    st.dictionaries(st.text(), st.binary(), max_size=5),
    st.sets(st.text()),
    st.just(partial(np.add, 2)),
)


@given(value=values)
def test_anything_has_short_facts_that_are_the_same_again(value):
    facts = fingerprint("it", value)
    assert facts == fingerprint("it", value)
    assert all(len(fact) < 200 for fact in facts.values())


def test_what_refers_to_itself_and_what_is_opaque_is_described_too():
    class Ring:
        pass

    ring = Ring()
    ring.ring, ring.file, ring.strange = ring, open(__file__), object()  # noqa: SIM115
    with ring.file:
        assert fingerprint("ring", ring) == fingerprint("ring", ring)
    ring.many, ring.deep = list(range(10**6)), [[number] for number in range(1000)]
    facts = fingerprint("ring", ring)
    ring.many[500_000] = ring.deep[500][0] = 0
    assert {name for name, fact in fingerprint("ring", ring).items() if fact != facts[name]} == {
        "ring.many",
        "ring.deep",
    }
