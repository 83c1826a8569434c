"""Second derivatives that fused kernels lack: other kernels are used, or the error says what helps."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from mltk_backends.torch import ModuleModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import mltk
from mltk.algorithms import MAML, ImplicitMAML
from mltk.errors import UnsupportedError
from mltk.modules.functions import clone_module, meta_grad, update_module

BACKEND = mltk.backend("torch", dtype="float64")


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, x):
        return F.scaled_dot_product_attention(*self.project(x)[:, None].chunk(3, dim=-1))[:, 0]


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Outer(nn.Module):
    """Calls the attention, not the module that holds it."""

    def __init__(self):
        super().__init__()
        self.inner = Inside()


ATTENTION = {
    "functional": Functional,
    "multihead": Inside,
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "sequential": lambda: nn.Sequential(nn.Linear(4, 4), Functional()),
    "transformer": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), 1, enable_nested_tensor=False
    ),
}


def by_functional_call(module, x):
    params = dict(module.named_parameters())
    with sdpa_kernel(SDPBackend.MATH):
        value = (torch.func.functional_call(module, params, (x,)) ** 2).sum()
        grads = torch.autograd.grad(value, list(params.values()), create_graph=True)
        moved = {name: p - 0.1 * g for (name, p), g in zip(params.items(), grads, strict=True)}
        value = (torch.func.functional_call(module, moved, (x,)) ** 2).sum()
        return torch.autograd.grad(value, list(params.values()))


@pytest.mark.parametrize("name", ATTENTION)
def test_clones_with_attention_have_exact_second_derivatives(name):
    module, x = ATTENTION[name]().double(), torch.randn(2, 3, 4, dtype=torch.float64)
    clone = clone_module(module)
    grads = torch.autograd.grad((clone(x) ** 2).sum(), list(clone.parameters()), create_graph=True)
    update_module(clone, [-0.1 * g for g in grads])
    found = torch.autograd.grad((clone(x) ** 2).sum(), list(module.parameters()))
    for grad, right in zip(found, by_functional_call(module, x), strict=True):
        torch.testing.assert_close(grad, right)
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_parts_of_a_clone_that_are_called_by_themselves_too():
    module, x = Outer().double(), torch.randn(2, 3, 4, dtype=torch.float64)
    clone = clone_module(clone_module(module))
    parameters = list(module.parameters())
    grads = torch.autograd.grad((clone.inner(x) ** 2).sum(), parameters, create_graph=True)
    curved = torch.autograd.grad(sum((g**2).sum() for g in grads), parameters)
    assert all(c.any() for c in curved[2:])


def test_kernels_are_left_alone_where_no_gradient_is_recorded_and_in_the_original():
    seen = []

    class Asking(Functional):
        def forward(self, x):
            seen.append(torch.backends.cuda.flash_sdp_enabled())
            return super().forward(x)

    module, x = Asking(), torch.randn(2, 3, 4)
    clone = clone_module(module)
    clone(x)
    module(x)
    with torch.no_grad():
        clone(x)
    assert seen == [False, True, True]


def test_a_clone_goes_without_the_garbage_collector():
    gc.disable()
    try:
        clone = clone_module(Functional())
        gone = weakref.ref(clone)
        clone(torch.randn(2, 3, 4))
        del clone
        assert gone() is None
    finally:
        gc.enable()


class Distances(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)
        self.register_buffer("points", torch.randn(3, 2))

    def forward(self, x):
        return torch.cdist(self.layer(x), self.points)[:, :1]


class Segments(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        lengths = torch.ones(x.shape[0], dtype=torch.int64)
        return torch.segment_reduce(torch.tanh(self.layer(x)), "max", lengths=lengths)


LACKING = {
    "_cdist_backward": (Distances, "mltk.pairwise_sqeuclidean"),
    "_segment_reduce_backward": (Segments, "first_order=True"),
}


@pytest.mark.parametrize("operation", LACKING)
@pytest.mark.parametrize("learner", [MAML, ImplicitMAML])
def test_a_learner_names_the_module_the_operation_and_what_helps(operation, learner):
    make, hint = LACKING[operation]
    algorithm = learner(ModuleModel(make(), vectorize=False), "mse", inner_steps=1)
    params, episode = algorithm.init(BACKEND, 0), mltk.data.Sinusoid(5, 5).sample(2, 0, BACKEND)
    with pytest.raises(
        UnsupportedError,
        match=rf"of ModuleModel\({make.__name__}\) needs the derivative of {operation}.*{hint}",
    ):
        algorithm.value_and_grad(params, episode)
    if learner is MAML:
        first = MAML(algorithm.model, "mse", first_order=True)
        assert any(leaf.any() for leaf in mltk.tree.leaves(first.value_and_grad(params, episode)[1]))


@pytest.mark.parametrize("operation", LACKING)
def test_meta_grad_does_too(operation):
    make, hint = LACKING[operation]
    module = make().double()
    clone = clone_module(module)
    x = torch.randn(3, 1, dtype=torch.float64)
    grads = torch.autograd.grad(clone(x).sum(), list(clone.parameters()), create_graph=True)
    update_module(clone, [-0.1 * g for g in grads])
    with pytest.raises(
        UnsupportedError, match=rf"{make.__name__} needs the derivative of {operation}.*{hint}"
    ):
        meta_grad(clone, lambda outputs, _: outputs.sum(), x, None, wrt=module)


def test_errors_of_fused_attention_say_which_kernel_helps():
    module, x = Functional(), torch.randn(2, 3, 4)
    loss = module(x).pow(2).sum()
    grads = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)

    def slope(outputs, target):
        return sum((g**2).sum() for g in grads)

    with pytest.raises(UnsupportedError, match=r"attention.*sdpa_kernel\(SDPBackend\.MATH\)"):
        meta_grad(module, slope, x, None, wrt=module)


def test_other_errors_of_autograd_stay_what_they_are():
    module = nn.Linear(1, 1)

    def twice(outputs, target):
        loss = outputs.sum()
        loss.backward()
        return (outputs**2).sum().detach() * loss

    with pytest.raises(RuntimeError, match=r"backward through the graph a second time|freed"):
        meta_grad(nn.Sequential(module, nn.Tanh()), twice, torch.ones(1, 1), None, wrt=module)
