"""Whether predictions are transductive is asked with rows of the data, and never ends an evaluation."""

import numpy as np
import pytest
import torch
from mltk_backends.torch import ModuleModel
from test_evaluation import REGRESSION, Leaking, Memory

import mltk
from mltk.evaluation import Evaluation, is_transductive

TORCH = mltk.backend("torch")
NUMPY = mltk.backend("numpy")
WORDS = 50


class Sentences:
    """Tasks of telling apart classes of sentences: ids of words, as floating numbers."""

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        labels = np.tile(np.repeat(np.arange(3), 2), (n_tasks, 1))
        parts = []
        for _ in range(2):
            words = rng.integers(WORDS // 3, size=(*labels.shape, 7)) + labels[..., None] * (WORDS // 3)
            parts += [backend.asarray(words.astype(np.float32)), backend.asarray(labels)]
        return mltk.Episode(*parts, ways=3, backend=backend)


class Reader(torch.nn.Module):
    """The mean of the embeddings of a sentence's words; ids that do not exist raise."""

    def __init__(self, normalised=False, dropout=0.0):
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, 16)
        self.out = torch.nn.Linear(16, 8)
        self.norm = torch.nn.BatchNorm1d(8, track_running_stats=False) if normalised else torch.nn.Identity()
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.norm(self.out(self.words(x.long()).mean(dim=1))))


@pytest.mark.parametrize(
    ("options", "leaks"), [({}, False), ({"normalised": True}, True), ({"dropout": 0.3}, False)]
)
def test_models_of_ids_are_evaluated_and_found_out(options, leaks):
    learner = mltk.algorithms.Prototypical(ModuleModel(Reader(**options)))
    found = mltk.evaluate(learner, learner.init(TORCH, 0), Sentences(), episodes=40)
    assert found.mean > 0.45
    assert found.transductive is leaks


class Recording(Memory):
    """Remembers the inputs that it was asked to predict."""

    def __init__(self, ways=None):
        super().__init__(ways)
        self.rows = []

    def predict(self, state, query_x):
        self.rows += list(np.asarray(query_x).reshape(-1, *query_x.shape[2:]))
        return super().predict(state, query_x)


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_ids_are_asked_about_with_rows_of_the_data_alone(tasks):
    episode = Sentences().sample(tasks, 0, NUMPY)
    learner = Recording(ways=3)
    sets = (episode.support_x, episode.support_y, episode.query_x)
    assert is_transductive(learner, {}, *sets, backend=NUMPY) is False
    held = {row.tobytes() for x in (episode.support_x, episode.query_x) for row in x.reshape(-1, 7)}
    assert {row.tobytes() for row in learner.rows} <= held


def test_features_that_are_whole_numbers_stay_while_others_are_enlarged():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 3)).astype(np.float32)
    x[..., 1] = rng.integers(0, 4, (2, 9))
    learner = Recording(ways=3)
    is_transductive(learner, {}, x[:, :6], np.tile(np.arange(6) % 3, (2, 1)), x[:, 6:], backend=NUMPY)
    seen = np.stack(learner.rows)
    assert set(seen[:, 1]) <= {0, 1, 2, 3}
    assert np.abs(seen[:, 0]).max() > 100


class Touchy(Leaking):
    """Raises when it is asked to predict anything but what it was asked first."""

    first = None

    def predict(self, state, query_x):
        if self.first is None:
            self.first = query_x.copy()
        known = {row.tobytes() for row in self.first.reshape(-1, query_x.shape[-1])}
        if any(row.tobytes() not in known for row in query_x.reshape(-1, query_x.shape[-1])):
            raise ValueError("what is this?")
        if len({row.tobytes() for row in query_x[0]}) < query_x.shape[1]:
            raise ValueError("one of them comes twice")
        return super().predict(state, query_x)


@pytest.mark.parametrize(("how", "expected"), [("rounding", None), ("later", True)])
def test_a_learner_that_raises_leaves_open_what_its_other_answers_do_not_show(how, expected):
    found = mltk.evaluate(Touchy(how), {}, REGRESSION, episodes=20, backend=NUMPY)
    quiet = mltk.evaluate(Leaking(how), {}, REGRESSION, episodes=20, backend=NUMPY)
    np.testing.assert_array_equal(found.values, quiet.values)
    assert found.transductive is expected
    assert quiet.transductive is bool(expected)


class Bounded(Memory):
    """Knows only inputs as large as they come."""

    def predict(self, state, query_x):
        if np.abs(query_x).max() > 6:
            raise ValueError("too large")
        return super().predict(state, query_x)


def test_refusing_what_no_data_holds_says_nothing():
    assert mltk.evaluate(Bounded(), {}, REGRESSION, episodes=3, backend=NUMPY).transductive is False


def test_the_text_says_when_it_is_unknown():
    found = Evaluation("accuracy", np.full(7, 0.5), transductive=None)
    assert str(found) == ("accuracy 0.500 ± 0.000 (95 % interval over 7 tasks, transductive or not: unknown)")


@pytest.mark.parametrize("full_context", [False, True])
def test_full_context_embeddings_of_the_support_set_do_not_leak_queries(full_context):
    source = mltk.data.Blobs(ways=3, shots=2, queries=3, features=4)
    learner = mltk.algorithms.Matching(mltk.models.mlp([4, 8]), full_context=full_context)
    found = mltk.evaluate(learner, learner.init(NUMPY, 0), source, episodes=5)
    assert found.transductive is False


@pytest.mark.parametrize("probability", [0.05, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_dropout_is_no_influence(probability, seed):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Linear(1, 20), torch.nn.Dropout(probability), torch.nn.Linear(20, 1)
    )
    learner = mltk.algorithms.MAML(ModuleModel(module), "mse", inner_lr=0.01)
    episode = REGRESSION.sample(2, seed, TORCH)
    sets = (episode.support_x, episode.support_y, episode.query_x)
    assert is_transductive(learner, learner.init(TORCH, 0), *sets, backend=TORCH) is False
