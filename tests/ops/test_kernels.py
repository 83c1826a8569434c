"""The kernels of each backend give what the generic ones give, in every shape and memory order."""

from unittest.mock import patch

import array_api_compat.numpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mltk_backends.numpy import NumpyKernels

import mltk
from mltk.errors import SettingError, ShapeError
from mltk.ops.convolution import window_of
from mltk.ops.image_kernels import Window
from mltk.ops.kernels import Kernels, kernels_of

mltk.backend("torch")  # registers its kernels

EXAMPLES = 50
PLAIN = Kernels(array_api_compat.numpy)


class OnTorch:
    """Torch's kernels with NumPy arrays going in and coming out, in the same memory order.

    The limits decide which of two ways the kernels go; zero sends small arrays the way of large ones.
    """

    def __init__(self, **limits):
        self._limits = limits

    def __getattr__(self, name):
        def call(*arguments, **options):
            with patch.multiple("mltk_backends.torch.kernels", **self._limits):
                kernel = getattr(kernels_of(torch.empty(0)), name)
                return to_numpy(kernel(*to_torch(arguments), **to_torch(options)))

        return call


def to_torch(value):
    if isinstance(value, dict):
        return {key: to_torch(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(to_torch(each) for each in value)
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def to_numpy(value):
    return tuple(each.numpy() for each in value) if isinstance(value, tuple) else value.numpy()


each_backend = pytest.mark.parametrize(
    "fast",
    [NumpyKernels(array_api_compat.numpy), OnTorch(TINY=2**30), OnTorch(TINY=0, FEW_PLACES=0, FEW_TAPS=0)],
    ids=["numpy", "torch-small", "torch-large"],
)

leading = st.sampled_from([(), (1,), (3,), (2, 2)])
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def both(values):
    return st.tuples(values, values)


strides = st.one_of(st.just((1, 1)), both(st.integers(1, 3)))
windows = st.builds(Window, both(st.integers(1, 3)), strides, both(st.integers(0, 4)))


@st.composite
def pooling(draw):
    """Windows in any position, and tiles, which have a shorter way."""
    size = draw(both(st.integers(1, 3)))
    if draw(st.booleans()):
        return Window(size, size, (0, 0))
    border = (draw(st.integers(0, size[0] // 2)), draw(st.integers(0, size[1] // 2)))
    return Window(size, draw(both(st.integers(1, 3))), border)


def reorder(draw, array):
    """The same numbers in another memory order."""
    order = draw(st.sampled_from(["rows first", "channels last", "reversed", "strided"]))
    if order == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -3, -1)), -1, -3)
    if order == "reversed":
        return np.asfortranarray(array)
    if order == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array


@st.composite
def images(draw, window, rng, ties=False):
    """``(..., N, C, H, W)`` of a size that the window fits at least once."""
    least = [max(1, s - 2 * p) for s, p in zip(window.size, window.padding, strict=True)]
    channels = draw(st.sampled_from([1, 2, 7, 8, 9]))
    shape = (*draw(leading), draw(st.integers(1, 3)), channels, *[n + draw(st.integers(0, 4)) for n in least])
    x = rng.integers(-1, 2, shape).astype(float) if ties else rng.standard_normal(shape)
    return reorder(draw, x)


def same(fast, plain):
    assert fast.dtype == plain.dtype
    assert fast.shape == plain.shape
    np.testing.assert_allclose(fast, plain, rtol=1e-11, atol=1e-11)


@each_backend
@settings(max_examples=EXAMPLES)
@given(data=st.data(), window=windows, rng=seeds, per_task=st.booleans(), out=st.sampled_from([1, 3, 9]))
def test_convolution_and_its_gradients(fast, data, window, rng, per_task, out):
    x = data.draw(images(window, rng))
    shape = (*(x.shape[:-4] if per_task else ()), out, x.shape[-3], *window.size)
    weight = reorder(data.draw, rng.standard_normal(shape))
    bias = data.draw(st.sampled_from([None, rng.standard_normal(shape[:-3])]))
    y = PLAIN.conv2d(x, weight, bias, window)
    same(fast.conv2d(x, weight, bias, window), y)
    gy = reorder(data.draw, rng.standard_normal(y.shape))
    same(fast.conv2d_weight_gradient(x, gy, window), PLAIN.conv2d_weight_gradient(x, gy, window))
    back = (gy, weight, window, x.shape[-2:])
    same(fast.conv2d_input_gradient(*back), PLAIN.conv2d_input_gradient(*back))


@each_backend
@settings(max_examples=EXAMPLES)
@given(
    rng=seeds,
    lead=leading,
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    per_task=st.booleans(),
    has_bias=st.booleans(),
)
def test_affine_maps_and_products(fast, rng, lead, sizes, per_task, has_bias):
    examples, inputs, outputs = sizes
    x = rng.standard_normal((*lead, examples, inputs))
    own = lead if per_task else ()
    weight = rng.standard_normal((*own, outputs, inputs))
    bias = rng.standard_normal((*own, outputs)) if has_bias else None
    same(fast.affine(x, weight, bias), PLAIN.affine(x, weight, bias))
    gy = rng.standard_normal((*lead, examples, outputs))
    same(fast.product(gy, weight), PLAIN.product(gy, weight))


@each_backend
@settings(max_examples=EXAMPLES)
@given(data=st.data(), window=pooling(), rng=seeds, ties=st.booleans())
def test_pooling(fast, data, window, rng, ties):
    x = data.draw(images(window, rng, ties))
    (y, which), (plain_y, plain_which) = (kernels.max_pool2d(x, window) for kernels in (fast, PLAIN))
    same(y, plain_y)
    other = reorder(data.draw, rng.standard_normal(x.shape))
    taken = PLAIN.take_from_windows(other, plain_which, window)
    same(fast.take_from_windows(other, which, window), taken)
    gy = reorder(data.draw, rng.standard_normal(y.shape))
    put = PLAIN.put_into_windows(gy, plain_which, window, x.shape[-2:])
    same(fast.put_into_windows(gy, which, window, x.shape[-2:]), put)
    same(fast.sum_windows(x, window), PLAIN.sum_windows(x, window))
    spread = PLAIN.spread_windows(gy, window, x.shape[-2:])
    same(fast.spread_windows(gy, window, x.shape[-2:]), spread)


@each_backend
@settings(max_examples=EXAMPLES)
@given(
    data=st.data(),
    rng=seeds,
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=6),
    eps=st.sampled_from([1e-5, 0.1]),
)
def test_sums_and_standardisation(fast, data, rng, shape, eps):
    some = st.lists(st.integers(-len(shape), -1), min_size=1, unique=True).map(tuple)
    axes = data.draw(some if len(shape) < 4 else st.one_of(some, st.just((-4, -2, -1))))
    x, g = (reorder(data.draw, rng.standard_normal(shape)) for _ in range(2))
    for times in (None, g):
        for keepdims in (False, True):
            options = {"times": times, "keepdims": keepdims}
            same(fast.sum(x, axes, **options), PLAIN.sum(x, axes, **options))
        same(fast.mean(x, axes, times=times), PLAIN.mean(x, axes, times=times))
    u, r = PLAIN.standardize(x, axes, eps)
    for ours, theirs in (
        (fast.standardize(x, axes, eps), (u, r)),
        (fast.means(g, u, axes), PLAIN.means(g, u, axes)),
        (fast.project(u, g, r, axes), PLAIN.project(u, g, r, axes)),
        (fast.relu(x), PLAIN.relu(x)),
    ):
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    same(fast.at_least(x, 0.25), PLAIN.at_least(x, 0.25))
    factors = [r, np.asarray(2.0), np.negative(r)]
    terms = list(zip(factors, (x, g, x), strict=True))[: data.draw(st.integers(1, 3))]
    same(fast.combine(r, terms), PLAIN.combine(r, terms))


@given(
    name=st.sampled_from(["kernel_size", "stride", "padding"]),
    axis=st.integers(0, 1),
    value=st.one_of(st.integers(-3, -1), st.sampled_from([1.5, True])),
)
def test_windows_that_make_no_sense(name, axis, value):
    settings = {"kernel_size": (2, 2), "stride": (1, 1), "padding": (0, 0)}
    settings[name] = tuple(value if axis == k else n for k, n in enumerate(settings[name]))
    with pytest.raises(SettingError, match=name):
        window_of(**settings)


@given(window=windows, height=st.integers(1, 4), width=st.integers(1, 4))
def test_places_are_those_inside_the_border(window, height, width):
    expected = [
        len([start for start in range(0, n + 2 * p, s) if start + k <= n + 2 * p])
        for n, k, s, p in zip((height, width), window.size, window.stride, window.padding, strict=True)
    ]
    if min(expected) == 0:
        with pytest.raises(ShapeError, match="too small"):
            window.places((height, width))
    else:
        assert window.places((height, width)) == tuple(expected)


@each_backend
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("lead", [(3,), (2, 2)])
@pytest.mark.parametrize(("images", "size"), [((2, 4, 5, 6), (3, 2)), ((1, 4, 4, 1), (3, 1))])
def test_convolutions_of_tasks_with_weights_of_their_own(fast, order, lead, images, size):
    """Stride 1 and a kernel that no turning leaves as it is: the case that the learners meet most."""
    rng, window = np.random.default_rng(0), Window(size, (1, 1), (1, size[1] - 1))
    x = np.array(rng.standard_normal((*lead, *images)), order=order)
    weight = np.array(rng.standard_normal((*lead, 3, images[1], *size)), order=order)
    y = PLAIN.conv2d(x, weight, None, window)
    same(fast.conv2d(x, weight, None, window), y)
    gy = np.array(rng.standard_normal(y.shape), order=order)
    same(fast.conv2d_weight_gradient(x, gy, window), PLAIN.conv2d_weight_gradient(x, gy, window))
    back = (gy, weight, window, x.shape[-2:])
    same(fast.conv2d_input_gradient(*back), PLAIN.conv2d_input_gradient(*back))
