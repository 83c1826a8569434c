"""Bridges refuse what is not the same function under the same names, and say why."""

import numpy as np
import pytest
from mltk_backends.torch import ModuleModel, from_module, to_module
from routes import NUMPY
from torch import nn

import mltk
from mltk import ops
from mltk.errors import ArrayError, DtypeError, ShapeError, TreeError, UnsupportedError
from mltk.models import Sequential

TORCH = mltk.backend("torch", dtype="float64")


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def evaluated(layer):
    return layer.eval()


def without_tracking(layer):
    """Torch still uses the statistics in evaluation mode."""
    layer.track_running_stats = False
    return layer


def narrowed(layer):
    layer.weight = nn.Parameter(layer.weight[:, :1])
    return layer


REFUSED = {
    "conv groups": (lambda: nn.Conv2d(2, 2, 1, groups=2), "groups=2"),
    "conv dilation": (lambda: nn.Conv2d(2, 2, 2, dilation=2), "dilation"),
    "conv border": (
        lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        "padding_mode='circular'",
    ),
    "conv same": (lambda: nn.Conv2d(2, 2, 3, padding="same"), "padding='same'"),
    "conv transposed": (lambda: nn.ConvTranspose2d(2, 2, 3), "ConvTranspose2d.*no counterpart"),
    "conv 1d": (lambda: nn.Conv1d(2, 2, 3), "Conv1d.*no counterpart"),
    "running statistics": (lambda: nn.BatchNorm2d(2), "track_running_stats=True"),
    "running statistics, evaluation": (lambda: evaluated(nn.BatchNorm1d(2)), "track_running_stats=True"),
    "hidden statistics": (lambda: without_tracking(nn.BatchNorm2d(2)), "running_mean"),
    "norm alone": (lambda: nn.BatchNorm2d(2, affine=False, track_running_stats=False), "affine=False"),
    "layer norm alone": (lambda: nn.LayerNorm(2, elementwise_affine=False), "elementwise_affine"),
    "layer norm without bias": (lambda: nn.LayerNorm(2, bias=False), "holds"),
    "pool ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
    "pool dilation": (lambda: nn.MaxPool2d(2, dilation=2), "dilation=2"),
    "pool dilation of one axis": (lambda: nn.MaxPool2d(2, dilation=(1, 2)), "dilation"),
    "pool places": (lambda: nn.MaxPool2d(2, return_indices=True), "return_indices"),
    "mean ceil": (lambda: nn.AvgPool2d(2, ceil_mode=True), "ceil_mode"),
    "mean border": (lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False), "count_include_pad"),
    "mean divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), "divisor_override=3"),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d(1), "AdaptiveAvgPool2d.*no counterpart"),
    "flatten": (lambda: nn.Flatten(2), "start_dim=2"),
    "flatten to": (lambda: nn.Flatten(1, 2), "end_dim=2"),
    "dropout": (lambda: nn.Dropout(0.5), "Dropout.*no counterpart"),
    "activation": (lambda: nn.LeakyReLU(), "LeakyReLU.*no counterpart"),
    "recurrent": (lambda: nn.LSTM(2, 2), "LSTM.*no counterpart"),
    "subclass": (lambda: Doubled(2, 2), "Doubled.*no counterpart"),
    "residual": (lambda: Residual(nn.Linear(2, 2)), "Residual.*no counterpart"),
    "hook": (lambda: hooked(nn.Linear(2, 2)), "forward hooks"),
    "hook on a sequence": (lambda: hooked(nn.Sequential(nn.Tanh())), "forward hooks"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "Parametrized"),
    "lazy": (lambda: nn.LazyLinear(2), "LazyLinear"),
    "cut weight": (lambda: narrowed(nn.Linear(2, 2)), r"holds.*\(2, 1\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_is_another_function_is_refused_by_name(case):
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedError, match=rf"(?s)'1'.*{message}.*ModuleModel"):
        from_module(nn.Sequential(nn.Tanh(), make()))


def test_layers_that_would_change_names_are_refused():
    inner = nn.Sequential(nn.Linear(2, 2))
    for module, name in [
        (nn.Sequential(inner), "0.0"),
        (nn.Sequential(nn.Identity(), nn.Linear(2, 2)), "1"),
        (nn.Sequential(nn.Sequential(nn.Tanh(), nn.ReLU()), nn.Linear(2, 2)), "1"),
    ]:
        with pytest.raises(UnsupportedError, match=rf"'{name}'.*would have to be named"):
            from_module(module)
    swapped = nn.Sequential()
    for key in ("1", "0"):
        swapped.add_module(key, nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="would have to be named 0"):
        from_module(swapped)


def test_shared_parameters_are_refused():
    layer, tied = nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight = layer.weight
    for module in (nn.Sequential(layer, nn.Tanh(), layer), nn.Sequential(layer, tied)):
        with pytest.raises(UnsupportedError, match="shares parameters"):
            from_module(module)


def test_what_is_no_sequence_is_refused():
    for module in (nn.Linear(2, 2), Residual(nn.Linear(2, 2)), hooked(nn.Sequential(nn.Tanh()))):
        with pytest.raises(UnsupportedError, match="ModuleModel"):
            from_module(module)
    model = ModuleModel(nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="model is a ModuleModel"):
        to_module(model, model.init(TORCH, 0))


def test_parameters_that_do_not_fit_are_named():
    model = Sequential([ops.Linear(2, 3), ops.BatchNorm(3, spatial_axes=0)])
    params = model.init(NUMPY, 0)
    for wrong, error, message in [
        ({"0": params["0"]}, TreeError, r"no '1\."),
        ({**params, "2": {"weight": np.ones(3)}}, TreeError, r"unlike the model, '2\.weight'"),
        ({**params, "1": {**params["1"], "scale": np.ones(3)}}, TreeError, r"unlike the model, '1\.scale'"),
        ({**params, "0": {**params["0"], "bias": np.ones((4, 3))}}, ShapeError, r"0\.bias.*\(4, 3\).*\(3,\)"),
        (
            {**params, "1": {**params["1"], "running_mean": np.ones(2), "running_var": np.ones(3)}},
            ShapeError,
            r"1\.running_mean",
        ),
        ({**params, "0": {**params["0"], "bias": np.ones(3, int)}}, DtypeError, r"0\.bias.*int64"),
        ({**params, "0": {**params["0"], "bias": "zeros"}}, ArrayError, r"0\.bias is a str"),
    ]:
        with pytest.raises(error, match=message):
            to_module(model, wrong)


def test_a_calibrated_norm_without_one_of_its_statistics_is_named():
    model = Sequential([ops.BatchNorm(3, spatial_axes=0, statistics="population")])
    params = {"0": {**model.init(NUMPY, 0)["0"], "running_mean": np.zeros(3)}}
    with pytest.raises(TreeError, match=r"no '0\.running_var'"):
        to_module(model, params)
