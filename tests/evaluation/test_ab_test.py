"""A/B tests and races: decided as the evidence says, on the tasks of `evaluate`, resumed to the bit."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from coins import Coin, Knowing

import mltk
from mltk.errors import RunError, SettingError
from mltk.evaluation import EProcess, asymptotic, race

NUMPY = mltk.backend("numpy")


def test(a, b, **settings):
    return mltk.ABTest((Knowing(a, 1), {}), (Knowing(b, 2), {}), Coin(), backend=NUMPY, **settings)


test.__test__ = False


def test_the_better_one_is_found_and_named():
    found = test(0.8, 0.7).run(2000)
    assert found.decision == "a better"
    said = f"a is better on tasks of this source, after {found.tasks}: a − b accuracy 0."
    assert str(found).startswith(said)
    assert test(0.7, 0.8).run(2000).decision == "b better"
    assert 20 < found.tasks < 400


def test_alike_ones_are_equivalent_within_a_wide_margin_and_undecided_within_a_narrow_one():
    found = test(0.7, 0.7, margin=0.05).run(3000)
    assert found.decision == "equivalent within the margin"
    assert -0.05 <= found.interval.low < found.interval.high <= 0.05
    spent = test(0.7, 0.7, margin=0.0).run(130)
    assert (spent.decision, spent.tasks) == ("budget spent", 130)


def test_it_ends_at_the_first_task_where_evidence_or_sequence_says_so():
    found = test(0.75, 0.68, margin=0.02, seed=3).run(3000)
    alone = [
        mltk.evaluate(learner, {}, Coin(), episodes=found.tasks, seed=3, backend=NUMPY).values
        for learner in (Knowing(0.75, 1), Knowing(0.68, 2))
    ]
    np.testing.assert_array_equal(found.values, alone)
    logs = EProcess().update(found.differences)[1]
    np.testing.assert_array_equal(found.log_evidence, logs)
    sequence = asymptotic(found.differences)
    np.testing.assert_array_equal(found.low, sequence.low)
    equal = (sequence.low >= -0.02) & (sequence.high <= 0.02)
    equal[:184] = False  # log(40) / 0.02 is 184.4
    over = (logs >= np.log(40)).any(axis=1) | equal
    assert over[-1]
    assert not over[:-1].any()


@pytest.mark.parametrize("cut", [1, 20, 33, 60])
def test_stopped_and_resumed_it_ends_at_the_same_bits(cut, tmp_path):
    whole = test(0.74, 0.7).run(400)
    part = test(0.74, 0.7).run(cut)
    resumed = test(0.74, 0.7).run(400, resume=part)
    for _ in range(2):
        kept = test(0.74, 0.7).run(cut, out=tmp_path / "kept.json")
    assert kept.tasks == cut
    kept = test(0.74, 0.7).run(400, out=tmp_path / "kept.json")
    for found in (resumed, kept):
        for name in ("values", "low", "high", "log_evidence"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert found.decision == whole.decision


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_errors_are_resumed_to_the_bit_in_the_middle_of_a_block(backend):
    be = mltk.backend(backend)
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_lr=0.01, inner_steps=1)
    params = learner.init(be, 0)
    other = replace(learner, inner_lr=0.01001)
    pair = mltk.ABTest((learner, params), (other, params), mltk.data.Sinusoid(shots=10, queries=10), margin=0)
    whole = pair.run(60)
    for cut in (1, 47):  # a matrix product of so many tasks alone rounds otherwise
        np.testing.assert_array_equal(pair.run(60, resume=pair.run(cut)).values, whole.values)


def test_the_same_learner_whose_one_mistake_is_rare_is_not_called_equivalent_too_soon():
    found = test(0.7, 0.7, margin=0.01).run(60)
    same = mltk.ABTest((Knowing(0.7, 1), {}), (Knowing(0.7, 1), {}), Coin(), backend=NUMPY)
    assert found.decision == "budget spent"
    assert not same.run(368).differences.any()
    assert same.run(368).decision == "budget spent"
    # A learner that fails on 1.1 % of tasks has shown nothing on fewer with probability 0.017.
    assert (same.run(1000).decision, same.run(1000).tasks) == ("equivalent within the margin", 369)


def test_a_decided_test_stays_decided(tmp_path):
    found = test(0.9, 0.5).run(400, out=tmp_path / "x.json")
    again = test(0.9, 0.5).run(4000, out=tmp_path / "x.json")
    assert (again.decision, again.tasks) == (found.decision, found.tasks)
    assert test(0.9, 0.5).run(4000, resume=found).tasks == found.tasks


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "damaged"),
        ("[1]", "not what an A/B test writes"),
        ('{"test": 1, "metric": "accuracy", "values": [], "seconds": 0, "digest": ""}', "another test"),
    ],
)
def test_a_file_that_is_damaged_or_of_another_test_is_refused_and_left(content, said, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(RunError, match=said) as error:
        test(0.9, 0.5).run(40, out=path)
    assert "x.json" in str(error.value)
    assert path.read_text() == content


def test_a_file_of_other_settings_or_values_is_refused(tmp_path):
    path = tmp_path / "x.json"
    test(0.74, 0.7).run(40, out=path)
    for other in (test(0.74, 0.7, seed=1), test(0.74, 0.7, margin=0.5), test(0.75, 0.7)):
        with pytest.raises(RunError, match="of another test"):
            other.run(80, out=path)
    content = json.loads(path.read_text())
    better = content["values"]
    better[0][0] = 0.9
    changes = [{"values": values} for values in ([[0.5]], [[0.5, None], [0.5, 0.5]], "abc", better)]
    for change in (*changes, {"metric": "mse"}, {"seconds": -1}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(RunError, match=r"x\.json"):
            test(0.74, 0.7).run(80, out=path)
    with pytest.raises(SettingError, match="resume is 3"):
        test(0.74, 0.7).run(80, resume=3)


@dataclass(frozen=True)
class Erring:
    """Errs by little on most tasks, and by much on some."""

    little: float
    much: float
    part: float

    def adapt(self, meta_params, support_x, support_y):
        return None

    def predict(self, state, query_x):
        hashed = 1000 * np.sin(12345.678 * query_x[..., :1, :])
        rare = hashed - np.floor(hashed) < self.part
        return np.sqrt(np.where(rare, self.much, self.little)) * np.ones_like(query_x)


@dataclass(frozen=True)
class Zeros:
    """Regression to zero."""

    def sample(self, n_tasks, rng, backend):
        x = np.random.default_rng(rng).normal(size=(n_tasks, 3, 1))
        return mltk.Episode(*map(backend.asarray, (x, 0 * x, x, 0 * x)), backend=backend)


def test_neither_is_better_where_most_tasks_and_the_mean_disagree():
    rash, steady = Erring(0.9, 100.0, 0.1), Erring(1.0, 1.0, 0.0)
    against, undecided = 0, 0
    for seed in range(12):
        found = mltk.ABTest((rash, {}), (steady, {}), Zeros(), seed=seed, backend=NUMPY).run(200)
        against += found.log_evidence[:, 0].max() > np.log(2 / 0.05)  # by most tasks
        undecided += found.decision == "budget spent"
        assert found.decision != "a better"
        ran = race(
            {"rash": (rash, {}), "steady": (steady, {})}, Zeros(), max_tasks=200, seed=seed, backend=NUMPY
        )
        assert ran.winner == "steady"
    assert min(against, undecided) >= 3
    found = mltk.ABTest((Erring(0.9, 0.95, 0.1), {}), (steady, {}), Zeros(), backend=NUMPY).run(400)
    assert (found.decision, found.tasks) == ("a better", 50)


def test_errors_that_are_alike_but_rarely_are_not_called_equivalent_too_soon():
    rash, steady = Erring(1.0, 100.0, 0.02), Erring(1.0, 1.0, 0.0)
    for seed in range(12):
        found = mltk.ABTest((rash, {}), (steady, {}), Zeros(), margin=0.05, seed=seed, backend=NUMPY).run(300)
        assert not found.decision.startswith("equivalent")
    found = mltk.ABTest((steady, {}), (Erring(1.0, 2.0, 0.0), {}), Zeros(), margin=0.05, backend=NUMPY).run(
        400
    )
    assert (found.decision, found.tasks) == ("equivalent within the margin", 369)


def test_where_all_tasks_were_alike_what_is_too_rare_to_have_shown_is_not_ruled_out():
    same = mltk.ABTest((Knowing(0.7, 1), {}), (Knowing(0.7, 1), {}), Coin(), backend=NUMPY).run(100)
    assert same.interval.high == -same.interval.low == pytest.approx(np.log(40) / 100)
    assert "(95 % at every look over 100 tasks)" in str(same)


class Own:
    """A learner without settings that a representation shows."""

    def __init__(self, part):
        self.known = Knowing(part, 1)

    def adapt(self, meta_params, support_x, support_y):
        return None

    def predict(self, state, query_x):
        return self.known.predict(state, query_x)


def test_a_test_is_known_by_all_that_decides_it(tmp_path):
    path, rng = tmp_path / "x.json", np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)).astype(np.float32), np.repeat(np.arange(6), 10)
    deep = mltk.models.mlp([3] + [4] * 30 + [3])  # what stands behind it is at the end of a long text

    def of(move=0.0, reg_lambda=0.1, part=0.5, seed=0):
        ridge = mltk.RidgeRegression(deep, reg_lambda=reg_lambda)
        tasks = mltk.data.Arrays(x + move, y).tasks(ways=2, shots=1, queries=5)
        return mltk.ABTest((ridge, ridge.init(NUMPY, 0)), (Own(part), {}), tasks, margin=0, seed=seed)

    kept = of().run(20, out=path)
    content = path.read_bytes()
    for settings in ({"move": 1.0}, {"reg_lambda": 0.2}, {"part": 0.6}, {"seed": 1}):
        with pytest.raises(SettingError, match="resume is of another test"):
            of(**settings).run(40, resume=kept)
        with pytest.raises(RunError, match=r"x\.json is of another test"):
            of(**settings).run(40, out=path)
        with pytest.raises(RunError, match=r"x\.json is of another test"):
            of(**settings).run(40, resume=of(**settings).run(20), out=path)
    assert path.read_bytes() == content
    # A learner of one's own that is made anew is the same; of a result and a file the longer one is taken.
    longer = of().run(40, resume=kept, out=path)
    assert of().run(40, resume=kept, out=path).values.tolist() == longer.values.tolist()


def test_errors_of_regression_are_better_small():
    good = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.01, inner_steps=3)
    params = good.init(NUMPY, 0)
    bad = replace(good, inner_lr=0.0001)
    tasks = mltk.data.Sinusoid(shots=10, queries=10)
    found = mltk.ABTest((good, params), (bad, params), tasks).run(400)
    assert (found.decision, found.metric) == ("a better", "mse")
    assert found.differences.mean() < 0


def test_settings_are_checked_before_any_work():
    with pytest.raises(SettingError, match="a is Knowing; expected a pair"):
        mltk.ABTest(Knowing(0.5, 1), (Knowing(0.5, 2), {}), Coin())
    with pytest.raises(SettingError, match="alpha is 5"):
        test(0.5, 0.5, alpha=5)
    with pytest.raises(SettingError, match="margin is -1"):
        test(0.5, 0.5, margin=-1)
    with pytest.raises(SettingError, match="max_tasks is 0"):
        test(0.5, 0.5).run(0)
    entry = mltk.evaluation.Entry("same", Knowing(0.5, 1), {})
    with pytest.raises(SettingError, match="both called same"):
        mltk.ABTest(entry, entry, Coin())
    with pytest.raises(SettingError, match="resume is of"):
        test(0.7, 0.7, margin=0.2).run(40, resume=test(0.7, 0.7).run(20))


def runners(*parts):
    return {f"knows {part}": (Knowing(part, seed), {}) for seed, part in enumerate(parts)}


def test_the_best_wins_a_race_and_the_others_meet_fewer_tasks():
    found = race(runners(0.6, 0.8, 0.65, 0.5), Coin(), max_tasks=1000, backend=NUMPY, seed=1)
    assert found.winner == "knows 0.8"
    assert found.tasks["knows 0.5"] <= found.tasks["knows 0.8"]
    assert sum(found.tasks.values()) < 2000
    assert set(found.left) == {"knows 0.6", "knows 0.65", "knows 0.5"}
    alone = mltk.evaluate(
        Knowing(0.5, 3), {}, Coin(), episodes=found.tasks["knows 0.5"], seed=1, backend=NUMPY
    )
    assert found.means["knows 0.5"] == pytest.approx(alone.mean)


def test_without_halving_learners_leave_with_proof_alone():
    found = race(runners(0.7, 0.71, 0.4), Coin(), max_tasks=120, halving=False, backend=NUMPY)
    assert found.left == {"knows 0.4": "worse"}
    assert "ahead" in str(found)
    assert [line.split()[0] for line in repr(found).splitlines()[1:]] == ["knows"] * len(found.ranking)


def test_one_of_the_best_leaves_as_rarely_as_alpha_says_and_more_often_if_it_may():
    def lost(alpha):
        runs = 0
        for seed in range(100):
            pairs = {str(k): (Knowing(0.7, 10 * seed + k), {}) for k in range(3)}
            found = race(pairs, Coin(), max_tasks=120, alpha=alpha, backend=NUMPY, seed=seed)
            runs += "0" in found.left
        return runs

    assert lost(0.05) <= 5
    assert lost(0.9) > 10


def test_halving_loses_the_best_and_says_that_nothing_is_promised():
    lost = 0
    for seed in range(40):
        pairs = {str(k): (Knowing(part, 10 * seed + k), {}) for k, part in enumerate((0.72, *[0.7] * 7))}
        found = race(pairs, Coin(), max_tasks=40, halving=True, backend=NUMPY, seed=seed)
        lost += found.left.get("0") == "half"
    assert lost > 4
    assert "without proof" in str(found)


def test_a_race_needs_two():
    for wrong, said in ((runners(0.5), "at least two"), ([], "a dict of pairs"), ({1: 2, 3: 4}, "texts")):
        with pytest.raises(SettingError, match=said):
            race(wrong, Coin())


def test_learners_are_called_what_the_dict_calls_them():
    entries = {name: mltk.evaluation.Entry("m", *pair) for name, pair in runners(0.9, 0.4).items()}
    names = list(entries)
    found = race(entries, Coin(), max_tasks=100, backend=NUMPY)
    assert found.ranking == tuple(names)
    assert found.means[names[0]] > found.means[names[1]]
    table = mltk.MetaLearningEvaluator(entries, Coin(), backend=NUMPY).run(20)
    assert list(table.outcomes) == names
    assert table[names[0]].mean > table[names[1]].mean
