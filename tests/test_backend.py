"""Backends: conversions, finding the backend of arrays, and no tensor off the device in a meta-gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mltk
from mltk import tree
from mltk.algorithms import ANIL, MAML, MetaSGD
from mltk.errors import ArrayError, BackendError, MismatchError, SettingError

NUMPY = {dtype: mltk.backend("numpy", dtype=dtype) for dtype in ("float32", "float64")}
TORCH = {dtype: mltk.backend("torch", dtype=dtype) for dtype in ("float32", "float64")}
ALL = [*NUMPY.values(), *TORCH.values()]
DTYPES = st.sampled_from(["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"])
MODERATE = {"min_value": -1e4, "max_value": 1e4}
"""Numbers that every floating dtype can hold."""

VALUES = DTYPES.flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        elements=hnp.from_dtype(np.dtype(dtype), **(MODERATE if dtype.startswith("float") else {})),
    )
)


def label(backend):
    return f"{backend.name}-{backend.dtype}"


@settings(max_examples=40)
@given(values=VALUES)
def test_asarray_converts_floats_and_keeps_the_rest(values):
    for backend in ALL:
        converted = backend.to_numpy(backend.asarray(values))
        expected = values.astype(backend.dtype) if values.dtype.kind == "f" else values
        assert converted.dtype == expected.dtype
        np.testing.assert_array_equal(converted, expected)


@pytest.mark.parametrize("backend", ALL, ids=label)
@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2], lambda a: np.broadcast_to(a[:1], a.shape)],
    ids=["transposed", "reversed", "strided", "broadcast"],
)
@pytest.mark.filterwarnings("error")
def test_asarray_takes_any_layout_and_read_only_memory(backend, view):
    values = np.arange(24.0).reshape(4, 6)
    values.flags.writeable = False
    np.testing.assert_array_equal(backend.to_numpy(backend.asarray(view(values))), view(values))


def test_torch_never_writes_to_read_only_memory():
    values = np.zeros(3)
    values.flags.writeable = False
    tensor = TORCH["float64"].asarray(values)
    tensor += 1
    np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("backend", ALL, ids=label)
@pytest.mark.parametrize(
    "values", [0.1, 3, True, [0.1, 0.2], [[1, 2], [3, 4]], np.float64(0.1), np.float32(0.1), np.int32(5), ()]
)
def test_asarray_takes_python_numbers_in_double_precision(backend, values):
    expected = np.asarray(values)
    converted = backend.to_numpy(backend.asarray(values))
    if expected.dtype.kind == "f":
        expected = expected.astype(backend.dtype)
    assert (converted.dtype, converted.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(converted, expected)


@pytest.mark.parametrize("source", ALL, ids=label)
@pytest.mark.parametrize("target", ALL, ids=label)
def test_arrays_move_between_backends(source, target):
    for values in (np.linspace(0, 1, 6).reshape(2, 3), np.arange(4)):
        moved = target.asarray(source.asarray(values))
        assert target.owns(moved)
        np.testing.assert_allclose(target.to_numpy(moved), values, rtol=1e-7)


def test_owns_tells_libraries_and_dtypes_apart():
    for backend in ALL:
        assert [backend.owns(other.asarray([1.0])) for other in ALL] == [other is backend for other in ALL]
        assert [backend.owns(other.asarray([1])) for other in ALL] == [
            other.name == backend.name for other in ALL
        ]
        assert not backend.owns([1.0])


def test_numbers_that_numpy_makes_of_single_elements_are_its_own():
    mean = NUMPY["float32"].asarray([1.0, 2.0]).mean()
    assert NUMPY["float32"].owns(mean)
    assert mltk.backend_of(mean) == NUMPY["float32"]


@pytest.mark.parametrize("backend", ALL, ids=label)
@pytest.mark.parametrize("values", [None, "text", [[1.0], [1.0, 2.0]], [None], object(), {"a": 1.0}])
def test_asarray_says_what_it_cannot_convert(backend, values):
    with pytest.raises(ArrayError, match="values"):
        backend.asarray(values)


def test_a_tensor_that_numpy_cannot_hold_is_named():
    for tensor in (torch.ones(2, requires_grad=True), torch.ones(2, device="meta")):
        with pytest.raises(ArrayError, match="values is a Tensor"):
            NUMPY["float64"].asarray(tensor)


def test_the_meta_device_holds_no_values():
    backend = mltk.backend("torch", device="meta")
    with pytest.raises(ArrayError, match="meta device"):
        backend.to_numpy(backend.asarray([1.0]))


@pytest.mark.parametrize("backend", [*ALL, mltk.backend("torch", device="meta")], ids=str)
def test_backend_of_finds_the_backend_of_arrays_and_trees(backend):
    array, labels = backend.asarray([1.0]), backend.asarray([1])
    for found in (
        mltk.backend_of(array),
        mltk.backend_of({"a": {"b": array, "c": {"d": array}}, "e": array}),
        mltk.backend_of({"labels": labels, "a": {"b": array}}),
    ):
        assert (found.name, found.dtype, found.device) == (backend.name, backend.dtype, backend.device)
    assert mltk.backend_of(labels).name == backend.name


@pytest.mark.parametrize("first", ALL, ids=label)
@pytest.mark.parametrize("second", ALL, ids=label)
def test_backend_of_names_both_sides_of_a_mixture(first, second):
    params = {"a": first.asarray([1.0]), "b": {"c": second.asarray([1.0])}}
    if first is second:
        assert mltk.backend_of(params) == first
        return
    with pytest.raises(MismatchError) as raised:
        mltk.backend_of(params)
    for side in (first, second):
        assert f"{side.name} {side.dtype} on cpu" in str(raised.value)


def test_backend_of_refuses_what_has_no_backend():
    for value in ([1.0], None, "text", {"a": [1.0]}):
        with pytest.raises(ArrayError, match="expected an array"):
            mltk.backend_of(value)
    with pytest.raises(MismatchError, match="no array"):
        mltk.backend_of({})
    with pytest.raises(MismatchError, match="float16"):
        mltk.backend_of(np.ones(2, np.float16))
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(BackendError, match="array_api_strict"):
        mltk.backend_of(strict.asarray([1.0]))


MODELS = {
    "mlp": mltk.models.mlp([3, 8, 5], activation="tanh"),
    "conv4": mltk.models.conv4(1, 28, width=4, out_features=5),
}


@pytest.mark.parametrize("model", MODELS)
def test_initial_parameters_are_the_same_numbers_on_every_backend(model, backend64, backend32):
    reference = tree.flatten(MODELS[model].init(NUMPY["float64"], 3))
    for backend in (backend64, backend32):
        params = MODELS[model].init(backend, np.random.default_rng(3))
        assert list(tree.flatten(params)) == list(reference)
        for name, leaf in tree.flatten(params).items():
            assert backend.owns(leaf)
            np.testing.assert_array_equal(backend.to_numpy(leaf), reference[name].astype(backend.dtype))


class OnlyMeta(TorchDispatchMode):
    """Fails at any operation that takes or gives a tensor which is not on the meta device."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":
                raise AssertionError(f"{func} met a tensor of shape {tuple(leaf.shape)} on {leaf.device}")
        return out


def test_the_proof_below_can_fail():
    with OnlyMeta(), pytest.raises(AssertionError, match="on cpu"):
        torch.ones((), device="meta") * torch.tensor(0.5)
    with OnlyMeta(), pytest.raises(RuntimeError):
        torch.ones((), device="meta").item()


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "learner",
    [
        lambda model, loss: MAML(model, loss, inner_steps=2),
        lambda model, loss: MAML(model, loss, inner_steps=2, first_order=True),
        lambda model, loss: MAML(model, loss, inner_steps=2, learn_lr="scalar", lr_per_step=True),
        lambda model, loss: MetaSGD(model, loss, inner_steps=2),
        lambda model, loss: MetaSGD(model, loss, inner_steps=2, checkpoint=True),
        lambda model, loss: ANIL(model, loss, inner_steps=2, checkpoint=True),
    ],
    ids=["maml", "fomaml", "rates", "meta-sgd", "meta-sgd-checkpoint", "anil-checkpoint"],
)
def test_a_meta_gradient_never_leaves_the_device(engine, model, learner):
    backend = mltk.backend("torch", device="meta", engine=engine)
    features = (1, 28, 28) if model == "conv4" else (3,)
    x = backend.asarray(np.zeros((2, 5, *features)))
    y = backend.asarray(np.tile(np.arange(5), (2, 1)))
    for loss, target, ways in (("cross_entropy", y, 5), ("mse", backend.asarray(np.zeros((2, 5, 5))), None)):
        episode = mltk.Episode(x, target, x, target, ways=ways, backend=backend)
        algorithm = learner(MODELS[model], loss)
        meta_params = algorithm.init(backend, seed=0)
        with OnlyMeta() as mode:
            value, grads = algorithm.value_and_grad(meta_params, episode)
            state = algorithm.adapt(meta_params, episode.support_x, episode.support_y)
            outputs = algorithm.predict(state, episode.query_x)
        assert mode.operations > 20
        assert (value.device.type, value.shape, outputs.shape) == ("meta", (), (2, 5, 5))
        shapes = {name: leaf.shape for name, leaf in tree.flatten(grads).items()}
        assert shapes == {name: leaf.shape for name, leaf in tree.flatten(meta_params).items()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="device 0 exists here")
@pytest.mark.parametrize("device", [0, ""])
def test_a_device_that_is_falsy_is_not_taken_for_none(device):
    with pytest.raises(SettingError, match="device is"):
        mltk.backend("torch", device=device)
