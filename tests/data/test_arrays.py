"""Few-shot tasks from anybody's arrays."""

import numpy as np
import pytest
import torch
from mltk_backends.torch import ModuleModel
from torch.utils.data import TensorDataset

import mltk
from mltk.data import Arrays, SmallClassWarning
from mltk.data.images.class_identity import seen, trained_on
from mltk.errors import ArrayError, DtypeError, NotFiniteError, SettingError, ShapeError

NUMPY = mltk.backend("numpy")
Y = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6))
X = (Y[:, None] * 100 + np.arange(60)[:, None] + np.zeros(3)).astype(np.float32)  # class and number


def test_tasks_are_of_the_classes_that_they_say():
    data = Arrays(X, Y, groups=Y // 5)
    episode = data.tasks(4, 2, 3, within="alphabet").sample(30, 0, NUMPY).validate()
    assert episode.support_x.shape == (30, 8, 3)
    for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
        classes = np.take_along_axis(episode.classes, y, axis=1)
        assert (Y[np.rint(x[..., 0] - 100 * classes).astype(int)] == classes).all()
    names = np.asarray(data.class_names)[episode.classes].astype(int)
    assert (np.asarray(data.group_names)[episode.groups].astype(int) == names // 5).all()
    assert all(
        set(s.ravel()).isdisjoint(q.ravel()) for s, q in zip(episode.support_x, episode.query_x, strict=True)
    )


def test_parts_share_no_class_and_know_the_others():
    parts = train, _, test = Arrays(X, Y).split((0.6, 0.2, 0.2), seed=1)
    assert sorted(int(n) for part in parts for n in part.class_names) == list(range(10))
    assert set(train.held_out().class_names) == {*parts[1].class_names, *test.class_names}
    assert str(seen(test.tasks(2, 1, 1), trained_on(train.tasks(2, 1, 1)))) == "2 unseen classes"
    with pytest.raises(SettingError, match="all classes of these arrays"):
        Arrays(X, Y).held_out()


def test_a_torch_dataset_gives_the_same_tasks_and_trains():
    data = Arrays.from_dataset(torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)))
    for name in ("support_x", "support_y", "query_x", "classes"):
        ours, theirs = (d.tasks(5, 1, 2).sample(3, 4, NUMPY) for d in (Arrays(X, Y), data))
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    run = mltk.train(learner, data.tasks(5, 1, 2), backend=NUMPY, steps=2)
    assert 0 <= mltk.evaluate(learner, run.meta_params, data.tasks(5, 1, 2), episodes=20).mean <= 1


def test_ids_of_tokens_reach_a_module_exactly():
    ids = np.random.default_rng(1).integers(0, 50, (60, 7))
    episode = Arrays(ids, Y).tasks(3, 2, 2).sample(5, 0, NUMPY)
    assert {tuple(row) for row in episode.support_x.reshape(-1, 7)} <= {tuple(row) for row in ids}

    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(50, 8)

        def forward(self, x):
            return self.words(x.long()).mean(dim=1)

    learner, backend = mltk.algorithms.Prototypical(ModuleModel(Reader())), mltk.backend("torch")
    run = mltk.train(learner, Arrays(ids, Y).tasks(3, 2, 2), backend=backend, steps=2)
    found = mltk.evaluate(learner, run.meta_params, Arrays(ids, Y).tasks(3, 2, 2), episodes=20)
    assert found.transductive is False


def test_small_classes_are_left_out_where_asked_and_reported():
    y = np.where(np.arange(60) < 2, "rare", Y.astype(str))
    with pytest.warns(
        SmallClassWarning, match=r"1 classes have fewer than at_least = 3 examples: rare \(2\)"
    ):
        data = Arrays(X, y, at_least=3)
    assert data.left_out == (("rare", 2),)
    assert data.class_names == tuple("0123456789")
    with pytest.raises(SettingError, match="'rare' has 2 images"):
        Arrays(X, y).tasks(2, 2, 1)


@pytest.mark.parametrize(
    ("x", "y", "groups", "error", "message"),
    [
        (X[:, 0], Y, None, ShapeError, r"x has shape \(60,\)"),
        (X, Y[:5], None, ShapeError, r"y has shape \(5,\); expected \(60,\)"),
        (X.astype(np.uint8), Y, None, DtypeError, "x has dtype uint8; .* divided by 255"),
        (X, Y.astype(float), None, DtypeError, "y has dtype float64"),
        (np.full_like(X, np.nan), Y, None, NotFiniteError, "x holds NaN"),
        (np.full((60, 2), 2**24 + 1), Y, None, DtypeError, "x holds ids up to 16777217"),
        (X, Y, Y[:5], ShapeError, "groups has shape"),
        (X, Y, np.arange(60), SettingError, "a class into two groups"),
        (np.ma.masked_greater(X, 1), Y, None, ArrayError, "x is a masked array"),
        (X, np.ma.masked_equal(Y, 3), None, ArrayError, "y is a masked array"),
        (X, Y, np.ma.masked_equal(Y, 3), ArrayError, "groups is a masked array"),
        (X.view(np.matrix), Y, None, ArrayError, "x is a numpy.matrix"),
        ([[1.0], [1.0, 2.0]], [0, 1], None, ArrayError, "x is no array"),
        (torch.ones(60, 2, requires_grad=True), Y, None, ArrayError, "x is no array.*requires grad"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, y, groups, error, message):
    with pytest.raises(error, match=message):
        Arrays(x, y, groups)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (None, "dataset is None; expected a dataset with a length"),
        (iter([(X[0], 1)]), "dataset is <.*; expected a dataset with a length"),
        (TensorDataset, "dataset is <class"),
        ([{"x": X[0], "y": 1}], r"dataset gives items of type dict; expected pairs \(example, class\)"),
        ([(X[0],)], "dataset gives items of type tuple"),
    ],
)
def test_a_dataset_that_gives_no_pairs_is_refused(dataset, message):
    with pytest.raises(SettingError, match=message):
        Arrays.from_dataset(dataset)
