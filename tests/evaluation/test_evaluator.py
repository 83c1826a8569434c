"""Several learners on the same tasks: what is found is what `evaluate` finds, and the table says it."""

import json

import numpy as np
import pytest
from test_batches import Ragged

import mltk
from mltk.errors import LabelError, MismatchError, RunError, SettingError
from mltk.evaluation import Calibration, Evaluation, LearnerOutcome, Table, compare_all
from mltk.training.fingerprint import digest

NUMPY = mltk.backend("numpy")
GLYPHS = mltk.data.Glyphs(alphabets=4).tasks(ways=5, shots=1, queries=3)
FLAT = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(784, 16)])
HEADS = {
    "prototypical": mltk.algorithms.Prototypical(FLAT),
    "matching": mltk.algorithms.Matching(FLAT),
    "ridge": mltk.RidgeRegression(FLAT, reg_lambda=0.01),
}


def with_params(learners, backend):
    return {name: (learner, learner.init(backend, 0)) for name, learner in learners.items()}


@pytest.fixture(scope="module")
def found():
    pairs = with_params(HEADS, NUMPY)
    return pairs, mltk.MetaLearningEvaluator(pairs, GLYPHS, seed=4).run(episodes=50)


def test_what_is_found_is_what_evaluate_finds(found):
    pairs, table = found
    for name, (learner, params) in pairs.items():
        alone = mltk.evaluate(learner, params, GLYPHS, episodes=50, seed=4)
        np.testing.assert_array_equal(table[name].values, alone.values)
        np.testing.assert_array_equal(table[name].classes, alone.classes)
        assert table[name].interval("groups") == alone.interval("groups")
        assert table[name].transductive == alone.transductive


def test_losses_and_calibration_are_those_of_the_softmax_of_the_outputs(found):
    pairs, table = found
    learner, params = pairs["matching"]
    losses, right = [], []
    for block in range(3):
        rng = np.random.default_rng(np.random.SeedSequence(4, spawn_key=(1, block)))
        episode = GLYPHS.sample(20, rng, NUMPY)
        outputs = learner.predict(
            learner.adapt(params, episode.support_x, episode.support_y), episode.query_x
        )
        p = np.exp(outputs.astype(np.float64))
        p /= p.sum(-1, keepdims=True)
        of_labels = np.take_along_axis(p, episode.query_y[..., None], -1)[..., 0]
        losses.append(-np.log(of_labels).mean(1))
        right.append(p.argmax(-1) == episode.query_y)
    outcome = table.outcomes["matching"]
    np.testing.assert_allclose(outcome.loss, np.concatenate(losses)[:50], rtol=1e-6)
    # Its outputs are log-probabilities of a matching network: on its own embedding the losses agree.
    np.testing.assert_allclose(outcome.matching_loss, outcome.loss, rtol=1e-5)
    assert outcome.calibration.accuracy.estimate == pytest.approx(np.concatenate(right)[:50].mean())
    other = table.outcomes["ridge"]
    assert np.abs(other.matching_loss - other.loss).min() > 1e-3


def test_thirds_by_hardness_are_of_all_tasks_and_ordered(found):
    _, table = found
    thirds = table.by_hardness("prototypical")
    assert list(thirds) == ["easy", "middle", "hard"]
    order = np.argsort(table.hardness, kind="stable")
    assert thirds["easy"] == table["prototypical"].values[order[:17]].mean()
    assert thirds["hard"] == table["prototypical"].values[order[-16:]].mean()
    assert thirds["easy"] > thirds["hard"]


def test_the_table_is_text_markdown_json_and_a_frame(found, tmp_path):
    _, table = found
    text = str(table).splitlines()
    assert text[0] == "3 learners on the same 50 tasks (± is over tasks)"
    assert text[1].split()[:3] == ["learner", "accuracy", "loss"]
    assert text[2].startswith(f"prototypical  {table['prototypical'].in_words()}  ")
    markdown = table.to_markdown().splitlines()
    assert markdown[1] == "| " + " | ".join(["---"] * (markdown[0].count("|") - 1)) + " |"
    assert len({line.count("|") for line in markdown}) == 1
    assert "prototypical" in table._repr_html_()
    table.to_json(tmp_path / "table.json")
    read = json.loads((tmp_path / "table.json").read_text())
    assert read.pop("digest")
    assert read == table.to_dict()
    ridge = read["learners"]["ridge"]
    assert ridge["accuracy"] == table["ridge"].mean
    assert ridge["intervals"]["groups"] == [
        table["ridge"].interval("groups").low,
        table["ridge"].interval("groups").high,
    ]
    assert ridge["values"] == table["ridge"].values.tolist()


def test_files_hold_what_json_has(tmp_path):
    # Of one task nothing can be said: its intervals are infinite.
    pairs = with_params({"prototypical": HEADS["prototypical"]}, NUMPY)
    table = mltk.MetaLearningEvaluator(pairs, GLYPHS).run(1)
    table.to_json(tmp_path / "one.json")

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "one.json").read_text(), parse_constant=refuse)
    assert read["learners"]["prototypical"]["intervals"]["tasks"] == [None, None]
    assert read["learners"]["prototypical"]["accuracy"] == table["prototypical"].mean


def test_a_table_that_was_written_is_read_to_the_bit(found, tmp_path):
    regression = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
    curves = {"maml": (regression, regression.init(NUMPY, 0))}
    one = with_params({"prototypical": HEADS["prototypical"]}, NUMPY)
    for table in (
        found[1],
        mltk.MetaLearningEvaluator(curves, mltk.data.Sinusoid(shots=3, queries=4)).run(5),
        mltk.MetaLearningEvaluator(one, GLYPHS).run(1),  # with infinite intervals
    ):
        table.to_json(tmp_path / "x.json")
        read = Table.from_json(tmp_path / "x.json")
        assert str(read) == str(table)
        for name, outcome in table.outcomes.items():
            assert repr(read[name]) == repr(table[name])
            assert repr(read.outcomes[name].calibration) == repr(outcome.calibration)
            np.testing.assert_array_equal(read.outcomes[name].loss, outcome.loss)
        assert read.comparisons() == table.comparisons()
        read.to_json(tmp_path / "y.json")
        assert (tmp_path / "y.json").read_bytes() == (tmp_path / "x.json").read_bytes()


def test_files_of_something_else_or_damaged_ones_are_refused(found, tmp_path):
    path = tmp_path / "x.json"
    found[1].to_json(path)
    whole = json.loads(path.read_text())

    def refused(text):
        path.write_text(text)
        with pytest.raises(RunError, match=r"x\.json holds no table of learners: .+"):
            Table.from_json(path)

    for text in ("", "{", "[]", "1", '{"learners": {}}', '{"learners": {"a": 1}}', path.read_text()[:-9]):
        refused(text)

    def signed(told):
        told = {key: each for key, each in told.items() if key != "digest"}
        refused(json.dumps(told | {"digest": digest(json.dumps(told))}))

    for name in ("metric", "episodes", "seed", "classes", "groups", "hardness"):
        signed({key: each for key, each in whole.items() if key != name})
        signed(whole | {name: "x"})
        signed(whole | {name: [0.5]})
    ridge = whole["learners"]["ridge"]
    for name in ("values", "losses", "matching_losses", "calibration", "transductive", "seconds"):
        others = ([0.5], "x", {}) if name != "values" else ([0.5], "x", None, [None] * 50, [[0.5]] * 50)
        for bad in (
            {key: each for key, each in ridge.items() if key != name},
            *(ridge | {name: x} for x in others),
        ):
            signed(whole | {"learners": {"ridge": bad}})
    for part in ridge["calibration"]:
        broken = ridge["calibration"] | {part: {"counts": [1]}}
        if part != "squared_error":  # which follows from the bins
            signed(whole | {"learners": {"ridge": ridge | {"calibration": broken}}})
    better = json.loads(json.dumps(whole))
    better["learners"]["ridge"]["values"][0] += 0.1
    refused(json.dumps(better))
    with pytest.raises(RunError, match=r"y\.json is missing"):
        Table.from_json(tmp_path / "y.json")


def test_comparisons_are_corrected_for_those_that_were_made_or_could_have_been():
    rng = np.random.default_rng(0)
    hard = rng.normal(0.7, 0.1, 40)
    means = {"a": 0.0, "b": 0.025, "c": 0.01}
    drawn = {name: hard + mean + rng.normal(0, 0.04, 40) for name, mean in means.items()}
    groups = rng.integers(5, size=(40, 2))
    outcomes = {
        name: LearnerOutcome(Evaluation("accuracy", values, groups=groups), values, None, None, 0.1)
        for name, values in drawn.items()
    }
    table = Table(outcomes, 0, None)
    pairs = compare_all({name: table[name] for name in drawn})
    assert table.comparisons() == pairs
    p = {frozenset(each.names): each for each in pairs}
    to_best, to_chosen = table.comparisons("best", over="groups"), table.comparisons("b")
    for found in (to_best, to_chosen):
        assert [each.names for each in found] == [("b", "a"), ("b", "c")]
    assert {each.difference.over for each in to_best} == {"groups"}
    assert [each.holm for each in to_best] == [p[frozenset(each.names)].holm for each in to_best]
    smaller, larger = sorted(each.sign_flip for each in to_chosen)
    assert smaller < 0.1
    assert sorted(each.holm for each in to_chosen) == [2 * smaller, max(2 * smaller, larger)]
    assert all(one.holm > other.holm for one, other in zip(to_best, to_chosen, strict=True))
    with pytest.raises(SettingError, match="expected one of a, b, c"):
        table.comparisons("d")
    (named,) = Table({"best": outcomes["a"], "other": outcomes["b"]}, 0, None).comparisons("best")
    assert named.names == ("best", "other")


def test_the_best_errors_are_the_smallest():
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.01)
    pairs = {"good": learner, "bad": mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.0)}
    tasks = mltk.data.Sinusoid(shots=5, queries=10)
    (only,) = mltk.MetaLearningEvaluator(with_params(pairs, NUMPY), tasks).run(60).comparisons("best")
    assert only.names == ("good", "bad")
    assert only.difference.estimate < 0


def test_a_frame_has_a_row_for_each_learner(found):
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = found[1].to_pandas()
    assert list(frame.index) == list(HEADS)
    assert frame.loc["ridge", "accuracy"] == found[1]["ridge"].mean
    assert frame.loc["ridge", "low_over_classes"] == found[1]["ridge"].interval("classes").low


def test_without_pandas_it_says_what_to_install(found, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(mltk.errors.MissingLibraryError, match="pandas"):
        found[1].to_pandas()


def test_regression_has_neither_hardness_nor_calibration():
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
    tasks = mltk.data.Sinusoid(shots=3, queries=4)
    params = learner.init(NUMPY, 0)
    table = mltk.MetaLearningEvaluator({"maml": (learner, params)}, tasks).run(25)
    alone = mltk.evaluate(learner, params, tasks, episodes=25)
    np.testing.assert_array_equal(table["maml"].values, alone.values)
    np.testing.assert_array_equal(table.outcomes["maml"].loss, alone.values)
    assert table.hardness is None
    assert table.by_hardness("maml") == {}
    assert "ECE" not in str(table)
    assert json.dumps(table.to_dict())


def test_blocks_that_differ_in_ways_and_queries_are_judged_together():
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    source = Ragged(((2, 2, 3), (4, 1, 5)))
    table = mltk.MetaLearningEvaluator({"plain": (learner, {})}, source, backend=NUMPY, seed=1).run(90)
    alone = mltk.evaluate(learner, {}, source, episodes=90, seed=1, backend=NUMPY)
    np.testing.assert_array_equal(table["plain"].values, alone.values)
    assert isinstance(table.outcomes["plain"].calibration, Calibration)
    # Hardness is relative to guessing, or tasks of more ways would all be the hard ones.
    expected = []
    for block in range(5):
        rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(1, block)))
        episode = source.sample(20, rng, NUMPY)
        expected.append(mltk.hardness_metric(episode, episode.ways) - np.log(episode.ways - 1))
    np.testing.assert_allclose(table.hardness, np.concatenate(expected)[:90], rtol=1e-6, atol=1e-6)


def test_thirds_are_of_the_tasks_whose_hardness_is_known(tmp_path):
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    source = Ragged(((1, 2, 3), (4, 1, 5)))
    table = mltk.MetaLearningEvaluator({"a|b\n c": (learner, {})}, source, backend=NUMPY, seed=1).run(90)
    unknown = np.isnan(table.hardness)
    assert table.hardness.shape == (90,)
    assert 20 <= unknown.sum() < 90
    values, hard = table["a|b\n c"].values[~unknown], table.hardness[~unknown]
    thirds = np.array_split(np.argsort(hard, kind="stable"), 3)
    found = table.by_hardness("a|b\n c")
    assert list(found.values()) == pytest.approx([values[third].mean() for third in thirds])
    table.to_json(tmp_path / "x.json")
    assert mltk.evaluation.Table.from_json(tmp_path / "x.json").by_hardness("a|b\n c") == found
    assert table.to_markdown().splitlines()[2].startswith(r"| a\|b c | ")
    assert len(str(table).splitlines()) == 3


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_learner_that_writes_to_its_inputs_spoils_no_other(backend):
    class Writing(Foreign):
        def predict(self, state, query_x):
            outputs = 1 * query_x.reshape(*query_x.shape[:2], -1)[..., :5]
            for array in (*state, query_x):
                array *= 0
            return outputs

    be = mltk.backend(backend)
    pairs = with_params({"after": HEADS["prototypical"]}, be)
    alone = mltk.MetaLearningEvaluator(pairs, GLYPHS).run(20)
    beside = mltk.MetaLearningEvaluator({"own": (Writing(), {}), **pairs}, GLYPHS).run(20)
    np.testing.assert_array_equal(beside["after"].values, alone["after"].values)


def test_the_task_that_diverged_is_named_by_its_number_among_all():
    class Diverging(Foreign):
        met = 0

        def predict(self, state, query_x):
            outputs = super().predict(state, query_x)
            self.met += len(outputs)
            if self.met > 20:
                outputs[3] = np.nan
            return outputs

    with pytest.raises(mltk.errors.NotFiniteError, match="task 23 by own "):
        mltk.MetaLearningEvaluator({"own": (Diverging(), {})}, GLYPHS, backend=NUMPY).run(40)


class Foreign:
    """A learner of the user's own: the label of the nearest support example."""

    def adapt(self, meta_params, support_x, support_y):
        return support_x, support_y

    def predict(self, state, query_x):
        x, y = state
        flat = [np.reshape(each, (*each.shape[:2], -1)) for each in (x, query_x)]
        nearest = ((flat[1][:, :, None] - flat[0][:, None]) ** 2).sum(-1).argmin(-1)
        return 5.0 * (np.take_along_axis(y, nearest, 1)[..., None] == np.arange(5))


def test_learners_of_the_users_own_take_part():
    pairs = {"own": (Foreign(), {}), **with_params({"prototypical": HEADS["prototypical"]}, NUMPY)}
    evaluator = mltk.MetaLearningEvaluator(pairs, GLYPHS)
    table = evaluator.run(20)
    assert table["own"].mean == mltk.evaluate(Foreign(), {}, GLYPHS, episodes=20, backend=NUMPY).mean
    assert table.outcomes["own"].matching_loss is None
    assert evaluator.entry("own").learner is pairs["own"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_and_torch_find_the_same(dtype):
    tables = []
    for name in ("numpy", "torch"):
        backend = mltk.backend(name, dtype=dtype)
        tables.append(mltk.MetaLearningEvaluator(with_params(HEADS, backend), GLYPHS).run(20))
    for name in HEADS:
        np.testing.assert_allclose(
            tables[0][name].values, tables[1][name].values, atol=0.1 if dtype == "float32" else 1e-12
        )
    np.testing.assert_allclose(
        tables[0].hardness, tables[1].hardness, rtol=1e-4 if dtype == "float32" else 1e-10
    )


def test_what_does_not_fit_is_refused_before_any_work():
    torch = with_params({"ridge": HEADS["ridge"]}, mltk.backend("torch"))
    mixed = {"prototypical": with_params(HEADS, NUMPY)["prototypical"], **torch}
    with pytest.raises(MismatchError, match="meta-parameters of ridge are on torch"):
        mltk.MetaLearningEvaluator(mixed, GLYPHS).run(20)
    with pytest.raises(SettingError, match=r"learners is \{\}"):
        mltk.MetaLearningEvaluator({}, GLYPHS)
    with pytest.raises(SettingError, match=r"ridge is RidgeRegression; expected a pair"):
        mltk.MetaLearningEvaluator({"ridge": HEADS["ridge"]}, GLYPHS)
    with pytest.raises(SettingError, match="tasks is"):
        mltk.MetaLearningEvaluator(torch, "glyphs")
    with pytest.raises(SettingError, match="backend is None, and the meta-parameters of own"):
        mltk.MetaLearningEvaluator({"own": (Foreign(), {})}, GLYPHS).run(5)
    with pytest.raises(SettingError, match=r"episodes is 0"):
        mltk.MetaLearningEvaluator(torch, GLYPHS).run(0)


def test_misspelt_names_get_a_suggestion(found):
    with pytest.raises(SettingError, match="did you mean 'ridge'"):
        found[1]["rigde"]
    with pytest.raises(SettingError, match="expected one of prototypical, matching, ridge"):
        mltk.MetaLearningEvaluator(found[0], GLYPHS).entry("nobody")


def test_bad_values_of_tasks_are_refused():
    class Broken:
        def sample(self, n_tasks, rng, backend):
            episode = GLYPHS.sample(n_tasks, rng, backend)
            labels = episode.query_y.copy()
            labels[0, 0] = 7
            return mltk.Episode(episode.support_x, episode.support_y, episode.query_x, labels, ways=5)

    with pytest.raises(LabelError):
        mltk.MetaLearningEvaluator(with_params(HEADS, NUMPY), Broken()).run(20)
