"""A/B tests over classes: decisions that hold for new ones, however much classes matter."""

from dataclasses import dataclass

import numpy as np
import pytest
import sequential

import mltk
from mltk.errors import SettingError
from mltk.evaluation.blocks import disjoint_blocks

NUMPY = mltk.backend("numpy")


@dataclass(frozen=True)
class Favourites:
    """Two-way tasks of classes each of which suits one of two learners, by chance as often one as the other.

    The inputs of a query are how well the class suits A, and what decides whether A and B know it.
    """

    seed: int
    n_classes: int = 100
    advantage: float = 0.0
    ways = 2

    @property
    def class_names(self):
        return tuple(map(str, range(self.n_classes)))

    def allowed(self, n_tasks, rng):
        return np.ones((n_tasks, self.n_classes), bool)

    def sample(self, n_tasks, rng, backend):
        classes = np.stack([rng.permutation(self.n_classes)[:2] for _ in range(n_tasks)])
        return self.of_classes(classes, rng, backend)

    def of_classes(self, classes, rng, backend):
        suits = np.random.default_rng(self.seed).uniform(-0.4, 0.4, self.n_classes) + self.advantage
        labels = np.tile([0, 1], (len(classes), 11))
        x = np.empty((*labels.shape, 3))
        x[..., 0] = np.take_along_axis(suits[classes], labels, 1)
        x[..., 1:] = rng.uniform(size=(*labels.shape, 2))
        arrays = (x[:, :2], labels[:, :2], x[:, 2:], labels[:, 2:])
        return mltk.Episode(*map(backend.asarray, arrays), ways=2, backend=backend, classes=classes)


@dataclass(frozen=True)
class Suited:
    """Knows a query where its class suits it."""

    sign: int

    def adapt(self, meta_params, support_x, support_y):
        return None

    def predict(self, state, query_x):
        chance = query_x[..., 1 if self.sign > 0 else 2]
        right = chance < 0.5 + self.sign * query_x[..., 0]
        answer = np.where(right, 0, 1) ^ (np.arange(query_x.shape[1]) % 2)
        return 1.0 * (answer[..., None] == np.arange(2))


def decided(tasks, over, max_tasks=300):
    test = mltk.ABTest((Suited(1), {}), (Suited(-1), {}), tasks, over=over, backend=NUMPY, margin=0)
    return test.run(max_tasks)


def test_what_is_decided_over_tasks_is_of_these_classes_and_over_classes_of_new_ones():
    runs, false = 50, {}
    for over in ("tasks", "classes"):
        found = [decided(Favourites(seed, n_classes=60), over).decision for seed in range(runs)]
        false[over] = runs - found.count("budget spent")
    assert false["classes"] <= 0.05 * runs
    assert false["tasks"] > 0.2 * runs
    found = [decided(Favourites(seed, advantage=0.15), "classes") for seed in range(30)]
    assert sum(each.decision == "a better" for each in found) >= 27


def test_many_simulated_comparisons_say_so_too():
    over_tasks, over_classes = sequential.false_decisions_about_classes(300)
    assert over_classes <= 0.05
    assert over_tasks > 0.35


def test_it_says_what_it_is_about_and_ends_where_the_classes_do():
    found = decided(Favourites(3, n_classes=75), "classes", 1000)
    assert (found.tasks, found.interval.units, found.interval.over) == (37, 74, "classes")
    assert str(found).startswith(
        "undecided (budget spent) on tasks of new classes, after 37: a − b accuracy "
    )
    assert "over 74 classes" in str(found)
    assert "on tasks of this source, after 20:" in str(decided(Favourites(3), "tasks", 20))


def test_no_class_comes_twice_and_any_may_come_first():
    tasks = mltk.data.Glyphs(alphabets=3).tasks(ways=7, shots=1, queries=1)
    met = [
        np.concatenate([each.classes for each in disjoint_blocks(tasks, 1000, seed, NUMPY)])
        for seed in range(40)
    ]
    for classes in met:
        assert classes.shape == (8, 7)  # 60 classes
        assert len(np.unique(classes)) == 56
    assert len({int(classes[0, 0]) for classes in met}) > 20
    later = list(disjoint_blocks(Favourites(0), 45, 5, NUMPY, first=1))
    whole = list(disjoint_blocks(Favourites(0), 1000, 5, NUMPY))
    assert [len(each.classes) for each in whole] == [20, 20, 10]
    for found, expected in zip(later, whole[1:], strict=True):
        np.testing.assert_array_equal(found.query_x, expected.query_x)


def test_it_is_resumed_to_the_bit_and_not_as_another(tmp_path):
    tasks, path = Favourites(5), tmp_path / "x.json"
    whole = decided(tasks, "classes")
    test = mltk.ABTest((Suited(1), {}), (Suited(-1), {}), tasks, over="classes", backend=NUMPY, margin=0)
    resumed = test.run(resume=test.run(27), out=path)
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert test.run(out=path).to_dict() | {"seconds": 0} == whole.to_dict() | {"seconds": 0}
    with pytest.raises(SettingError, match=r"resume is of another test: test\.over"):
        mltk.ABTest(test.a, test.b, tasks, backend=NUMPY, margin=0).run(resume=whole)


def test_sources_whose_classes_cannot_be_chosen_or_are_not_alike_are_refused():
    glyphs = mltk.data.Glyphs(alphabets=3)
    for tasks, said in (
        (mltk.data.Blobs(ways=2, shots=1, queries=1), "of_classes"),
        (Favourites(0, n_classes=1), "tasks has 1 classes; expected at least 2"),
        (glyphs.tasks(ways=3, shots=1, queries=1, within="alphabet"), "expected within=None"),
        (glyphs.tasks(ways=3, shots=1, queries=1, rotations=True), "expected no rotations"),
    ):
        with pytest.raises(SettingError, match=said):
            mltk.ABTest((Suited(1), {}), (Suited(-1), {}), tasks, over="classes")
    with pytest.raises(SettingError, match="did you mean 'classes'"):
        mltk.ABTest((Suited(1), {}), (Suited(-1), {}), Favourites(0), over="clases")
