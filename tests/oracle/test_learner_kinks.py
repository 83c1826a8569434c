"""Where a convention decides, the cases of learners meet it: slopes at zero, ties of pooling, statistics."""

import torch
from learner_cases import case_of, outputs, pairs

from mltk.oracle.candidate.settings import Settings
from mltk.oracle.tolerance import disagreement


class Slope(torch.autograd.Function):
    """ReLU whose slope at zero is a number of our own choice."""

    @staticmethod
    def forward(x, slope):
        return x.clamp(min=0), torch.where(x > 0, 1.0, torch.where(x == 0, slope, 0.0))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, gy, _):
        (slope,) = ctx.saved_tensors
        return gy * slope, None


def by_torch(case, layers):
    """MAML in plain Torch, with layers of our own; loss and gradients."""
    settings, inputs = Settings(case.settings), case.inputs
    params = {key: torch.tensor(array, requires_grad=True) for key, array in inputs["params"].items()}
    data = {key: torch.tensor(array) for key, array in inputs.items() if key != "params"}

    def loss(p, x, y):
        for i, layer in enumerate(settings.layers):
            own = [p[key] for key in p if key.startswith(f"{i}.")]
            x = layers[layer["layer"]](x, *own)
        return settings.loss_function()(x, y)

    total = 0
    for task in range(len(data["support_x"])):
        p = params
        for _ in range(settings.inner_steps):
            value = loss(p, data["support_x"][task], data["support_y"][task])
            grads = torch.autograd.grad(value, [*p.values()], create_graph=True)
            p = {key: old - settings.inner_lr * g for (key, old), g in zip(p.items(), grads, strict=True)}
        total = total + loss(p, data["query_x"][task], data["query_y"][task])
    total = total / len(data["support_x"])
    grads = torch.autograd.grad(total, [*params.values()])
    gradients = {key: g.numpy() for key, g in zip(params, grads, strict=True)}
    return {"loss": total.detach().numpy(), "gradients": gradients}


LINEAR = torch.nn.functional.linear


def test_relu_at_zero_is_met_and_its_slope_decides():
    case = case_of("maml", "relu-at-zero")
    truth = outputs("maml", case)
    p = case.inputs["params"]
    before = case.inputs["support_x"] @ p["0.weight"].T + p["0.bias"]
    assert (before == 0).sum() >= 4
    for slope, agrees in ((0.0, True), (0.5, False), (1.0, False)):
        layers = {"linear": LINEAR, "relu": lambda x, slope=slope: Slope.apply(x, slope)[0]}
        assert (disagreement(by_torch(case, layers), truth) < 1e-12) == agrees


def split_among_equals(x):
    """Max pooling of 2×2 windows whose gradient goes in equal parts to all largest pixels."""
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return windows.amax(-1)


def last_among_equals(x):
    return torch.nn.functional.max_pool2d(x.flip(-1, -2), 2).flip(-1, -2)


def test_pooling_meets_ties_and_the_first_of_equals_decides():
    case = case_of("maml", "pooling-ties")
    truth = outputs("maml", case)
    for pool, agrees in (
        (lambda x: torch.nn.functional.max_pool2d(x, 2), True),
        (split_among_equals, False),
        (last_among_equals, False),
    ):
        layers = {
            "linear": LINEAR,
            "convolution": lambda x, weight: torch.nn.functional.conv2d(x, weight, padding=1),
            "max_pool": pool,
            "flatten": lambda x: x.flatten(1),
        }
        assert (disagreement(by_torch(case, layers), truth) < 1e-12) == agrees


@pairs(["maml", "boil"], "valid", "edge")
def test_where_batch_norm_takes_its_statistics_decides(name, case):
    found = {layer.get("statistics") for layer in case.settings["layers"]} - {None}
    if not found:
        return
    (statistics,) = found
    other = "support" if statistics == "batch" else "batch"
    layers = [
        {**layer, "statistics": other} if "statistics" in layer else layer
        for layer in case.settings["layers"]
    ]
    assert disagreement(outputs(name, case, layers=layers), outputs(name, case)) > 0.01
