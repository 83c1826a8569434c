"""Kinds of Torch modules that clones are hard for: recurrent, parametrised, normalised, hooked."""

import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, parametrize

from mltk.errors import SettingError, UnsupportedError
from mltk.modules.functions import clone_module, detach_module, meta_grad, update_module


def old_weight_norm(layer, name="weight"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer, name)


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(3, 4, batch_first=True, **options)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class Symmetric(nn.Module):
    def forward(self, x):
        return x + x.mT


class Listed(nn.Module):
    """Parameters and layers in every container, and None among them."""

    def __init__(self):
        super().__init__()
        self.rows = nn.ParameterList([torch.randn(3), torch.randn(3)])
        self.named = nn.ParameterDict({"a": torch.randn(3), "none": None})
        self.layers = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.ModuleList([nn.Linear(3, 3)])})
        self.register_buffer("shift", torch.randn(3, requires_grad=True))

    def forward(self, x):
        x = self.layers["b"][0](torch.tanh(self.layers["a"](x)))
        return torch.tanh(x * self.rows[0] + self.rows[1]) * self.named["a"] + self.shift


class Sharing(nn.Module):
    """The same submodule and parameter in attributes of all sorts."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.layers = [self.a, self.b]
        self.chosen = {"first": self.a, "weight": self.b.weight}
        self.pair = (self.a.bias, 3)
        self.hidden = [nn.Linear(3, 3)]
        self.notes = ["kept"]
        self.apply_a = self.a.forward
        self.b.parent = weakref.ref(self)
        object.__setattr__(self, "me", self)
        object.__setattr__(self, "tied", self.b.weight)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.apply_a(x) @ self.tied + x @ self.chosen["weight"] + self.pair[0]


KINDS = {
    "rnn": lambda: Recurrent(nn.RNN),
    "lstm": lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm-projected": lambda: Recurrent(nn.LSTM, proj_size=2),
    "gru": lambda: Recurrent(nn.GRU, bias=False),
    "rnn-weight-norm": lambda: Recurrent(lambda *a, **k: old_weight_norm(nn.RNN(*a, **k), "weight_hh_l0")),
    "containers": Listed,
    "references": Sharing,
    "batch-norm": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)),
    "group-norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.LayerNorm(4)),
    "parametrize": lambda: nn.Sequential(
        nn.Linear(3, 3), parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    ),
    "weight-norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Tanh()),
    "spectral-norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3)), nn.Tanh()),
    "old-weight-norm": lambda: nn.Sequential(old_weight_norm(nn.Linear(3, 3)), nn.Tanh()),
    "attention": lambda: nn.TransformerEncoderLayer(
        4, 2, 8, dropout=0.0, batch_first=True, activation=torch.tanh
    ),
}
SEQUENCES = {"rnn", "lstm", "lstm-projected", "gru", "rnn-weight-norm", "attention"}


@pytest.fixture(params=KINDS)
def kind(request):
    """Makes the same module in every call, and an input."""

    def make():
        torch.manual_seed(1)
        return KINDS[request.param]().double()

    shape = (5, 2, 4 if request.param == "attention" else 3) if request.param in SEQUENCES else (5, 3)
    return make, torch.randn(shape, dtype=torch.float64)


def loss_of(outputs, target=None):
    return (outputs**2).sum()


def by_functional_call(make, x, steps, lr=0.02):
    """Outputs and gradients of parameters that are kept in a dict, so that nothing is cloned nor updated."""
    module = make()
    params = origin = dict(module.named_parameters())
    for _ in range(steps):
        value = loss_of(torch.func.functional_call(module, params, (x,)))
        grads = torch.autograd.grad(value, list(params.values()), create_graph=True, materialize_grads=True)
        params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
    outputs = torch.func.functional_call(module, params, (x,))
    return outputs, torch.autograd.grad(loss_of(outputs), list(origin.values()), materialize_grads=True)


@pytest.mark.parametrize("steps", [0, 2])
def test_every_kind_gives_the_outputs_and_gradients_of_functional_call(kind, steps):
    make, x = kind
    module = make()
    if isinstance(module, Sharing):
        pytest.skip("functional_call does not follow references; they have a test of their own")
    with sdpa_kernel(SDPBackend.MATH):
        outputs, expected = by_functional_call(make, x, steps)
        before = {name: (t.clone(), t._version) for name, t in module.state_dict().items()}
        clone = clone_module(module)
        for _ in range(steps):
            grads = torch.autograd.grad(
                loss_of(clone(x)), list(clone.parameters()), create_graph=True, materialize_grads=True
            )
            update_module(clone, [-0.02 * g for g in grads])
        found = clone(x)
        grads = torch.autograd.grad(loss_of(found), list(module.parameters()), materialize_grads=True)
    torch.testing.assert_close(found, outputs)
    assert any(grad.any() for grad in grads)
    for grad, right in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, right)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name][0], rtol=0, atol=0)
        assert tensor._version == before[name][1]


def test_every_kind_is_cut_by_a_detach(kind):
    make, x = kind
    module = make()
    clone = clone_module(module)
    detach_module(clone, keep_requires_grad=True)
    torch.testing.assert_close(clone(x), make()(x))
    assert all(not grad.any() for grad in meta_grad(clone, loss_of, x, None, wrt=module))
    assert any(grad.any() for grad in meta_grad(clone, loss_of, x, None, wrt=clone))


def test_weights_of_a_recurrent_network_are_the_parameters_of_the_clone():
    module = nn.LSTM(3, 4)
    clone = clone_module(module)
    for _ in range(2):
        assert [id(w) for w in clone._flat_weights] == [id(p) for p in clone.parameters()]
        assert [reference() for reference in clone._flat_weight_refs] == list(clone._flat_weights)
        update_module(clone, [torch.ones_like(p) for p in clone.parameters()])
    assert [id(w) for w in module._flat_weights] == [id(p) for p in module.parameters()]


def all_normed():
    module = Recurrent(nn.RNN, bias=False)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        old_weight_norm(module.rnn, name)
    return module


@pytest.mark.parametrize(
    "make", [lambda: Recurrent(nn.LSTM), KINDS["rnn-weight-norm"], all_normed, KINDS["references"]]
)
def test_no_list_of_the_original_is_changed(make):
    module = make()
    target = module.rnn if isinstance(module, Recurrent) else module
    lists = {
        name: (value, list(value)) for name, value in vars(target).items() if isinstance(value, list | dict)
    }
    clone = clone_module(module)
    x = torch.randn(5, 2, 3) if isinstance(module, Recurrent) else torch.randn(5, 3)
    update_module(clone, [torch.ones_like(p) for p in clone.parameters()])(x)
    detach_module(clone)
    for name, (value, items) in lists.items():
        assert vars(target)[name] is value
        assert all(a is b for a, b in zip(value, items, strict=True))


def test_references_to_what_is_cloned_lead_to_the_clone_and_others_are_shared():
    module = Sharing()
    clone = clone_module(module)
    for _ in range(2):
        assert clone.me is clone
        assert clone.layers == [clone.a, clone.b]
        assert clone.chosen["first"] is clone.a
        assert clone.chosen["weight"] is clone.tied is clone.b.weight
        assert clone.pair[0] is clone.a.bias
        assert clone.pair[1] == 3
        assert clone.apply_a.__self__ is clone.a
        assert clone.b.parent() is clone
        update_module(clone, [torch.ones_like(p) for p in clone.parameters()])
    assert module.layers == [module.a, module.b]
    assert module.tied is module.b.weight
    assert module.b.parent() is module
    assert clone.hidden is module.hidden
    assert clone.notes is module.notes


@pytest.mark.parametrize("count", range(1, 20))
def test_modules_of_one_class_may_refer_by_different_attributes(count):
    module = nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity())
    for number, part in enumerate(module):
        for attribute in range(count):
            object.__setattr__(part, f"link_{number}_{attribute}", module)
    clone = clone_module(module)
    for number, part in enumerate(clone):
        assert all(getattr(part, f"link_{number}_{attribute}") is clone for attribute in range(count))


def test_batch_norm_statistics_are_the_clones_own():
    module = nn.Sequential(nn.BatchNorm1d(3, momentum=0.5))
    mean = module[0].running_mean.clone()
    clone = clone_module(module)
    clone(torch.randn(8, 3) + 4)
    assert (clone[0].running_mean > 1).all()
    assert clone[0].num_batches_tracked == 1
    torch.testing.assert_close(module[0].running_mean, mean, rtol=0, atol=0)
    assert module[0].num_batches_tracked == 0
    assert not clone.eval().training
    assert module.training
    assert not clone_module(clone).training


def test_hooks_are_the_originals_and_new_ones_are_not():
    module, calls = nn.Sequential(nn.Linear(2, 2)), []
    module.register_forward_pre_hook(lambda *_: calls.append("pre"))
    module.register_forward_hook(lambda *_, **__: calls.append("forward"), with_kwargs=True)
    module.register_full_backward_hook(lambda *_: calls.append("backward"))
    module[0].register_full_backward_pre_hook(lambda *_: calls.append("before backward"))
    module(torch.ones(1, 2)).sum().backward()
    expected = calls.copy()
    assert sorted(expected) == ["backward", "before backward", "forward", "pre"]
    clone = clone_module(module)
    clone(torch.ones(1, 2)).sum().backward()
    assert calls == 2 * expected
    handles = [
        clone.register_forward_pre_hook(lambda *_: calls.append("new"), prepend=True),
        clone.register_forward_hook(lambda *_: calls.append("new"), always_call=True),
        clone.register_full_backward_hook(lambda *_: calls.append("new")),
        clone.register_state_dict_post_hook(lambda *_: calls.append("new")),
        clone.register_load_state_dict_post_hook(lambda *_: calls.append("new")),
    ]
    calls.clear()
    module(torch.ones(1, 2)).sum().backward()
    module.load_state_dict(module.state_dict())
    assert calls == expected
    for handle in handles:
        handle.remove()
    clone(torch.ones(1, 2)).sum().backward()
    assert calls == 2 * expected


def test_hooks_that_are_methods_belong_to_the_clone():
    class Watched(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_forward_hook(self.watch)
            self.register_load_state_dict_pre_hook(Watched.loaded)

        def watch(self, *_):
            self.seen = True

        def loaded(self, *_):
            self.filled = True

    module = Watched()
    clone = clone_module(module)
    clone(torch.ones(1, 2))
    clone.load_state_dict(clone.state_dict())
    assert clone.seen
    assert clone.filled
    assert not hasattr(module, "seen")
    assert not hasattr(module, "filled")


def test_lazy_modules_need_one_call_first():
    module = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    with pytest.raises(SettingError, match=r"'0\.weight', which is not initialised"):
        clone_module(module)
    module(torch.ones(2, 3))
    assert clone_module(module)(torch.ones(2, 3)).shape == (2, 2)


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(UnsupportedError, match="TorchScript"):
        clone_module(nn.Sequential(scripted))


@pytest.mark.parametrize("old", [False, True])
def test_tensors_of_other_classes_keep_them_and_older_versions_of_torch_do_the_same(monkeypatch, old):
    class Special(torch.Tensor):
        pass

    module = nn.Linear(2, 2)
    module.bias = nn.Parameter(torch.ones(2).as_subclass(Special))
    if old:
        monkeypatch.delattr(torch, "_foreach_clone")
    clone = clone_module(module)
    for _ in range(2):
        assert type(clone.bias) is Special
        assert type(clone.weight) is torch.Tensor
        assert clone.weight.data_ptr() != module.weight.data_ptr()
        update_module(clone, [torch.ones(2, 2), torch.ones(2)])
    weight, bias = torch.autograd.grad(clone(torch.ones(1, 2)).sum(), list(module.parameters()))
    torch.testing.assert_close(weight, torch.ones(2, 2))
    assert (bias == 1).all()


def test_clones_within_vmap_and_grad_of_torch_func():
    module, x = nn.Linear(2, 1).double(), torch.randn(3, 4, 2, dtype=torch.float64)

    def adapted(params, x):
        stand_in = clone_module(module)
        stand_in._parameters.update(params)
        clone = clone_module(stand_in)
        return loss_of(update_module(clone, [-0.1 * p * x.mean() for p in clone.parameters()])(x))

    params = {name: p.detach() for name, p in module.named_parameters()}
    batched = torch.func.vmap(torch.func.grad(adapted), (None, 0))(params, x)
    for name, grads in batched.items():
        for grad, one in zip(grads, x, strict=True):
            torch.testing.assert_close(grad, torch.func.grad(adapted)(params, one)[name])


def test_a_step_under_autocast():
    module, x = nn.Linear(3, 2), torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clone = clone_module(module)
        grads = torch.autograd.grad(loss_of(clone(x)), list(clone.parameters()), create_graph=True)
        update_module(clone, [-0.1 * g for g in grads])
        assert clone.weight.dtype == torch.float32
        assert clone(x).dtype == torch.bfloat16
        grads = torch.autograd.grad(loss_of(clone(x)), list(module.parameters()))
    assert all(grad.dtype == torch.float32 and grad.any() for grad in grads)


def test_parameter_containers_of_a_clone_grow_alone():
    module = Listed()
    clone = clone_module(module)
    clone.named["new"] = nn.Parameter(torch.ones(1))
    clone.rows.append(nn.Parameter(torch.ones(1)))
    assert list(module.named) == ["a", "none"]
    assert len(module.rows) == 2
    assert clone.shift.grad_fn is not None
