"""The memory of adapted tasks: what it recalls, when it is believed, and what it cannot serve."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routes import NUMPY, ROUTES
from sinusoids import drawn

import mltk
from mltk import tree
from mltk.algorithms import ANIL, BOIL, MAML, ImplicitMAML, LearnedOptimizer, MetaSGD, Prototypical, Reptile
from mltk.errors import MltkError, RunError, SettingError, ShapeError, TreeError, UnsupportedError
from mltk.heads import MatchingHead
from mltk.toolkit import KnowledgeTransfer
from mltk.toolkit.support_folds import held_out_losses, support_folds
from mltk.toolkit.task_keys import KEYS, agreement, attention

SMALL = mltk.models.mlp([1, 6, 1], activation="tanh")


@dataclass(frozen=True)
class Offset:
    """A learner as users write them: one number, moved half of the way to the mean of the targets."""

    shared: bool = False

    def init(self, backend, seed):
        return {"b": backend.asarray(np.zeros(1)), "unused": backend.asarray(np.zeros(2))}

    def adapt(self, meta_params, support_x, support_y):
        if self.shared and meta_params["b"].ndim == 2:
            raise IndexError("one number was expected")
        return {"b": meta_params["b"] + 0.5 * (support_y.mean(axis=1) - meta_params["b"])}

    def predict(self, state, query_x):
        return state["b"][:, None, :] + 0 * query_x

    def value_and_grad(self, meta_params, episode):
        raise NotImplementedError


def constants(values, examples, seed=0, noise=0.0):
    """Tasks whose targets lie around one value each."""
    rng = np.random.default_rng(seed)
    shape = (len(values), examples, 1)
    return rng.normal(size=shape), np.asarray(values)[:, None, None] + noise * rng.normal(size=shape)


vectors = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(st.floats(-3, 3), min_size=d, max_size=d), min_size=1, max_size=5)
)


@given(vectors)
def test_agreement_is_the_cosine_of_equally_long_vectors_and_one_for_equal_ones(rows):
    a = np.asarray(rows)
    found = agreement(a, a)
    assert (np.abs(found) <= 1 + 1e-12).all()
    squares = (a**2).sum(-1)
    expected = np.where(squares[:, None] + squares > 0, ((a[:, None] - a) ** 2).sum(-1), 0)
    long = squares > 1e-30
    np.testing.assert_allclose(np.diag(found)[long], 1)
    np.testing.assert_allclose(
        (1 - found) * (squares[:, None] + squares), expected + (~long[:, None] & ~long) * 0, atol=1e-9
    )
    if long.all():
        unit = a / np.sqrt(squares)[:, None]
        np.testing.assert_allclose(agreement(unit, unit), unit @ unit.T, atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 100), st.floats(0.03, 1))
def test_attention_is_that_of_matching_networks_to_the_most_similar(
    remembered, neighbours, seed, temperature
):
    rng = np.random.default_rng(seed)
    keys, new = rng.normal(size=(remembered, 3)), rng.normal(size=(2, 3))
    keys, new = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (keys, new))
    found = attention(agreement(new, keys), neighbours, temperature)
    np.testing.assert_allclose(found.sum(1), 1)
    for row, of_task in zip(found, new, strict=True):
        best = np.sort(np.argsort(-(keys @ of_task))[:neighbours])
        head = MatchingHead(temperature)
        one_hot = np.eye(len(best))[None]
        logs = head.predict({}, head.fit({}, keys[best][None], one_hot), of_task[None, None])
        np.testing.assert_allclose(row[best], np.exp(logs[0, 0]), rtol=1e-9, atol=1e-12)
        assert not np.delete(row, best).any()


def test_a_warm_start_is_the_weighted_sum_of_what_is_remembered():
    learner = Offset()
    params = learner.init(NUMPY, 0)
    transfer = KnowledgeTransfer(learner, params, caution=None, neighbours=2, temperature=0.5)
    transfer.remember(*constants([1.0, 2.0, -4.0], 5), rounds=3)
    np.testing.assert_allclose(transfer.memory.params["b"][:, 0], 0.875 * np.asarray([1, 2, -4]))
    np.testing.assert_allclose(transfer.memory.keys[:, 0], 0.5 * np.asarray([1, 2, -4]))
    x, y = constants([3.0], 4)
    found = transfer.recall(x, y)
    similarity = np.asarray([2 * 3 * v / (9 + v * v) for v in (1, 2, -4)])
    np.testing.assert_allclose(found.similarity[0], similarity)
    weights = np.exp(similarity[:2] / 0.5) / np.exp(similarity[:2] / 0.5).sum()
    np.testing.assert_allclose(found.weights[0], [*weights, 0])
    start = 0.875 * (weights @ [1, 2])
    np.testing.assert_allclose(found.params["b"], [[start]])
    np.testing.assert_allclose(transfer.adapt(params, x, y)["b"], [[start + 0.5 * (3 - start)]])
    assert found.params["unused"] is params["unused"]
    assert found.to_dict()["used"] == 1
    assert "for 1 of 1 tasks" in repr(found)


def test_what_is_left_out_is_predicted_from_the_others_alone():
    """Moving half of the way from zero, and from the warm start that the others find, by hand."""
    learner, (x, y) = Offset(), constants([1.0, -2.0], 6, noise=1.0)
    folds = support_folds(y, 10)
    cold = held_out_losses(learner, lambda x, y: learner.adapt(learner.init(NUMPY, 0), x, y), x, y, folds)
    rest = (y.sum(1, keepdims=True) - y) / 5
    np.testing.assert_allclose(cold, ((0.5 * rest - y) ** 2)[..., 0])
    asked = []

    def key(x, y):
        asked.append(y)
        return y.mean(axis=1) + 5  # every pair of keys is alike enough

    settings = {"caution": 0.0, "novelty": 0.0, "temperature": 0.1}
    transfer = KnowledgeTransfer(learner, learner.init(NUMPY, 0), key=key, **settings)
    transfer.remember(*constants([3.0, -5.0], 2), rounds=1)
    asked.clear()
    found = transfer.recall(x, y)
    s = 2 * (rest + 5) * np.asarray([8.0, 0.0]) / ((rest + 5) ** 2 + np.asarray([64.0, 0.0]))
    w = np.exp(s / 0.1) / np.exp(s / 0.1).sum(-1, keepdims=True)
    start = w @ np.asarray([1.5, -2.5])
    warm = (start + 0.5 * (rest[..., 0] - start) - y[..., 0]) ** 2
    np.testing.assert_allclose(found.gain, (cold - warm).mean(1))
    np.testing.assert_array_equal(found.used, found.gain > 0)
    assert sorted(each.shape[1] for each in asked) == [5] * 6 + [6]


@pytest.mark.parametrize("caution", [0.0, 1.0, 3.0])
def test_caution_counts_standard_errors(caution):
    learner, (x, y) = Offset(), constants(np.linspace(-1, 2, 1000), 8, noise=1.5)
    settings = {"key": lambda x, y: y.mean(1), "caution": caution, "novelty": 0.0}
    transfer = KnowledgeTransfer(learner, learner.init(NUMPY, 0), **settings)
    transfer.remember(*constants([1.0], 2))
    start = float(transfer.memory.params["b"][0, 0])
    rest = ((y.sum(1, keepdims=True) - y) / 7)[..., 0]
    y = y[..., 0]
    gains = (0.5 * rest - y) ** 2 - (start + 0.5 * (rest - start) - y) ** 2
    expected = gains.mean(1) > caution * gains.std(1, ddof=1) / 8**0.5
    assert 0 < expected.sum() < 1000
    np.testing.assert_array_equal(transfer.recall(x, y[..., None]).used, expected)


@pytest.mark.parametrize("novelty", [0.0, 0.3, 0.7])
def test_a_task_unlike_the_remembered_ones_is_new(novelty):
    """Judged by how alike those are to each other."""
    learner, values = Offset(), np.asarray([1.0, 1.1, 2.0, 3.0, 7.0])
    transfer = KnowledgeTransfer(learner, learner.init(NUMPY, 0), caution=0.0, novelty=novelty)
    transfer.remember(*constants(values, 2))
    new = np.asarray([0.2, 1.04, 2.5, 5.0, 30.0, -1.0])
    alike = 2 * values[:, None] * values / (values[:, None] ** 2 + values**2)
    np.fill_diagonal(alike, -2)
    best = (2 * new[:, None] * values / (new[:, None] ** 2 + values**2)).max(1)
    familiarity = (best[:, None] >= alike.max(1)).mean(1)
    found = transfer.recall(*constants(new, 4))
    np.testing.assert_allclose(found.familiarity, familiarity)
    np.testing.assert_array_equal(found.used, (familiarity > novelty) & (found.gain > 0))
    if novelty == 0.3:
        assert set(found.used) == {True, False}
        assert ((familiarity <= novelty) & (found.gain > 0)).any()


def test_a_start_that_diverges_loses_to_one_that_does_not():
    class Fickle(Offset):
        """Is lost where it starts from more than one."""

        def predict(self, state, query_x):
            return np.where(state["b"] > self.most, np.inf, state["b"])[:, None, :] + 0 * query_x

    for most, used in ((0.9, False), (10.0, True)):
        learner = Fickle()
        object.__setattr__(learner, "most", most)
        transfer = KnowledgeTransfer(learner, learner.init(NUMPY, 0))
        transfer.remember(*constants([1.0], 2), rounds=20)
        with np.errstate(invalid="ignore"):
            assert transfer.recall(*constants([1.0], 4)).used.tolist() == [used]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_no_fold_takes_the_last_of_a_class_along(tasks, ways, shots, most, seed):
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), shots)) for _ in range(tasks)])
    folds = support_folds(labels, most)
    if shots == 1:
        assert folds is None
        return
    for row, of_task in zip(folds, labels, strict=True):
        for fold in range(folds.max() + 1):
            assert set(of_task[row != fold]) == set(range(ways))
            assert (row == fold).any()
    assert folds.max() + 1 == min(most, shots)
    with pytest.raises(ShapeError, match="differently many"):
        support_folds(np.asarray([[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]), 2)


def test_with_nothing_to_go_by_the_learner_is_on_its_own():
    tasks = mltk.data.Blobs(ways=3, shots=1, queries=4)
    learner = MAML(mltk.models.mlp([3, 8, 3], activation="tanh"), "cross_entropy", inner_lr=0.1)
    params, seen = learner.init(NUMPY, 0), tasks.sample(6, 0, NUMPY)
    transfer = KnowledgeTransfer(learner, params)
    for _ in range(2):  # nothing is remembered, and then one example a class is all there is
        state = transfer.adapt(params, seen.support_x, seen.support_y)
        own = learner.adapt(params, seen.support_x, seen.support_y)
        for name, leaf in tree.flatten(own).items():
            np.testing.assert_array_equal(tree.flatten(state)[name], leaf)
        transfer.remember(seen.support_x, seen.support_y)
    assert np.isnan(transfer.recall(seen.support_x, seen.support_y).gain).all()
    bold = KnowledgeTransfer(learner, params, caution=None)
    bold.remember(seen.support_x, seen.support_y)
    start = bold.warm_start(seen.support_x, seen.support_y)
    assert start["0"]["weight"].ndim == 3
    assert start["2"]["weight"] is params["2"]["weight"]  # labels mean other classes in another task
    assert "2" not in bold.memory.params
    value, _ = transfer.value_and_grad(params, seen)
    assert value == learner.value_and_grad(params, seen)[0]


LEARNERS = {
    "maml": MAML(SMALL, "mse", inner_lr=0.1, inner_steps=2),
    "first order": MAML(SMALL, "mse", inner_lr=0.1, first_order=True),
    "meta-sgd": MetaSGD(SMALL, "mse"),
    "rates a step": MAML(SMALL, "mse", inner_steps=2, learn_lr="tensor", lr_per_step=True),
    "anil": ANIL(SMALL, "mse", inner_lr=0.1),
    "boil": BOIL(SMALL, "mse", inner_lr=0.1),
    "reptile": Reptile(SMALL, "mse"),
    "implicit": ImplicitMAML(SMALL, "mse"),
    "learned optimiser": LearnedOptimizer(SMALL, "mse", mltk.optim.transforms.Momentum(), inner_steps=2),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_that_adapts_parameters_starts_from_those_of_each_task(name):
    """Tasks together are what each is alone, on every backend."""
    learner, seen, new, answers = LEARNERS[name], drawn(9, 6, 0)[:2], drawn(3, 6, 1)[:2], []
    for backend in ROUTES:
        params = learner.init(backend, 0)
        x, y = map(backend.asarray, new)
        cold = learner.predict(learner.adapt(params, x, y), x)
        for key in KEYS:
            transfer = KnowledgeTransfer(learner, params, key=key, caution=None, neighbours=3)
            transfer.remember(*map(backend.asarray, seen), rounds=2)
            together = transfer.predict(transfer.adapt(params, x, y), x)
            for task in range(3):
                one = slice(task, task + 1)
                alone = transfer.predict(transfer.adapt(params, x[one], y[one]), x[one])
                np.testing.assert_allclose(*map(backend.to_numpy, (alone[0], together[task])), atol=1e-9)
            assert np.abs(backend.to_numpy(together - cold)).max() > 1e-4
        answers.append(backend.to_numpy(together))
    np.testing.assert_allclose(answers[1:], [answers[0]] * 2, atol=1e-9)


def test_judging_is_the_same_on_every_backend():
    tasks = mltk.data.Blobs(ways=3, shots=4, queries=4)
    learner = MAML(mltk.models.mlp([3, 8, 3], activation="tanh"), "cross_entropy", inner_lr=0.3)
    gains = []
    for backend in ROUTES:
        seen, new = (tasks.sample(30, seed, backend) for seed in (0, 1))
        transfer = KnowledgeTransfer(learner, learner.init(backend, 0))
        transfer.remember(seen.support_x, seen.support_y)
        found = transfer.recall(new.support_x, new.support_y)
        gains.append(backend.to_numpy(found.gain))
        assert 0 < int(found.used.sum()) < 30
    np.testing.assert_allclose(gains[1:], [gains[0]] * 2, atol=1e-9)


def test_what_cannot_be_transferred_is_said():
    x, y = constants([1.0, 2.0], 4)
    for learner, match in (
        (Prototypical(mltk.models.mlp([1, 3])), "moves none"),
        (ANIL(mltk.models.mlp([1, 4, 2]), "cross_entropy"), "keep leaves out"),
    ):
        labels = np.tile([0, 1, 0, 1], (2, 1))
        with pytest.raises(UnsupportedError, match=match):
            KnowledgeTransfer(learner, learner.init(NUMPY, 0)).remember(x, labels)
    stiff = Offset(shared=True)
    with pytest.raises(UnsupportedError, match="task axis"):
        KnowledgeTransfer(stiff, stiff.init(NUMPY, 0)).remember(x, y)
    params = Offset().init(NUMPY, 0)
    for key in ("fisher", "embedding"):
        with pytest.raises(SettingError, match="no attribute model"):
            KnowledgeTransfer(Offset(), params, key=key).remember(x, y)
    with pytest.raises(ShapeError, match="key gives"):
        KnowledgeTransfer(Offset(), params, key=lambda x, y: y).remember(x, y)
    growing = KnowledgeTransfer(Offset(), params, key=lambda x, y: y[..., 0])
    growing.remember(x, y)
    with pytest.raises(ShapeError, match="as remembered"):
        growing.recall(x[:, :3], y[:, :3])
    for settings in (
        {"key": "fischer"},
        {"neighbours": 0},
        {"temperature": 0},
        {"caution": -1},
        {"keep": "b"},
    ):
        with pytest.raises(SettingError):
            KnowledgeTransfer(Offset(), params, **settings)
    with pytest.raises(TreeError):
        KnowledgeTransfer(Offset(), {})
    with pytest.raises(MltkError):
        KnowledgeTransfer(Offset(), params).recall(x, np.full_like(y, np.nan))


def test_memory_is_bounded_and_what_diverges_is_not_kept():
    transfer = KnowledgeTransfer(Offset(), Offset().init(NUMPY, 0), capacity=4)
    assert transfer.remember(*constants([1.0, 2.0, 3.0], 4)) == 3
    assert transfer.remember(*constants([4.0, 5.0], 4)) == 4
    kept = transfer.memory.keys[:, 0] * 2
    np.testing.assert_allclose(kept[-1], 5)
    assert transfer.remember(*constants(np.arange(9.0), 4)) == 4
    np.testing.assert_allclose(transfer.memory.keys[:, 0] * 2, [5, 6, 7, 8])
    maml = MAML(SMALL, "mse", inner_lr=50.0)
    wild = KnowledgeTransfer(maml, maml.init(NUMPY, 0), key=lambda x, y: y[:, :1, 0])
    assert wild.remember(*constants([0.0, 1e6], 4), rounds=80) == 0


def test_a_memory_is_kept_in_a_file(tmp_path):
    learner, (x, y, _) = MAML(SMALL, "mse"), drawn(7, 6, 0)
    path = tmp_path / "memory.npz"
    for backend in ROUTES[:2]:
        params = learner.init(backend, 0)
        old, new = KnowledgeTransfer(learner, params), KnowledgeTransfer(learner, params)
        with pytest.raises(RunError, match="nothing is remembered"):
            new.save(path)
        x_, y_ = backend.asarray(x), backend.asarray(y)
        old.remember(x_, y_)
        old.save(path)
        assert new.load(path) == 7
        a, b = (tree.flatten(t.warm_start(x_, y_)) for t in (old, new))
        for name in a:
            np.testing.assert_array_equal(backend.to_numpy(a[name]), backend.to_numpy(b[name]))
    assert pickle.loads(pickle.dumps(old)).size == 7
    assert old.to_dict()["size"] == 7
    assert "7 of 500 tasks" in repr(old)
    whole = path.read_bytes()
    for other in (
        KnowledgeTransfer(learner, params, key="fisher"),
        KnowledgeTransfer(learner, params, capacity=6),
        KnowledgeTransfer(
            MAML(mltk.models.mlp([1, 5, 1]), "mse"), mltk.models.mlp([1, 5, 1]).init(backend, 0)
        ),
    ):
        with pytest.raises(RunError):
            other.load(path)
    for damaged in (b"", whole[:100], whole[:-40], b"PK" + whole[2:900]):
        path.write_bytes(damaged)
        with pytest.raises(RunError):
            new.load(path)
    assert new.size == 7
