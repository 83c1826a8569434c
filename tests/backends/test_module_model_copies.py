"""A wrapped module is a copy: never changed, shared by no calls and threads, and not copied in vain."""

import threading

import pytest
import torch
from mltk_backends.torch import ModuleModel
from mltk_backends.torch.second_derivatives import MATHEMATICAL_ATTENTION
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import mltk
from mltk import tree
from mltk.algorithms import MAML
from mltk.contracts import Objective
from mltk.errors import SettingError, UnsupportedError

BACKEND = mltk.backend("torch", dtype="float64")
BOTH = pytest.mark.parametrize("vectorize", [True, False])


def episode(tasks=2, seed=0):
    return mltk.data.Sinusoid(5, 5).sample(tasks, seed, BACKEND)


class TwoNames(nn.Module):
    """The same layers as attributes, and again in a sequence."""

    def __init__(self):
        super().__init__()
        self.body, self.top = nn.Linear(1, 4), nn.Linear(4, 1)
        self.net = nn.Sequential(self.body, nn.Tanh(), self.top)

    def forward(self, x):
        return self.net(x)


@BOTH
def test_a_module_with_layers_under_two_names_stays_as_it_is_and_has_the_gradient_of_its_layers(vectorize):
    module = TwoNames()
    before = {name: (id(p), p.detach().clone()) for name, p in module.named_parameters()}
    value, grads = gradient(ModuleModel(module, vectorize=vectorize))
    expected = gradient(ModuleModel(module.net, vectorize=vectorize))
    torch.testing.assert_close(value, expected[0])
    for name, number in (("body", "0"), ("top", "2")):
        torch.testing.assert_close(grads[name], expected[1][number])
    assert {name: id(p) for name, p in module.named_parameters()} == {n: i for n, (i, _) in before.items()}
    assert all(torch.equal(p, before[name][1]) for name, p in module.named_parameters())
    assert module.net[0] is module.body
    assert len(module.state_dict()) == 8


def gradient(model, steps=2):
    maml = MAML(model, "mse", inner_lr=0.1, inner_steps=steps)
    return maml.value_and_grad(maml.init(BACKEND, 0), episode())


@BOTH
def test_threads_may_share_a_learner(vectorize):
    module = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    maml = MAML(ModuleModel(module, vectorize=vectorize), "mse", inner_lr=0.1, inner_steps=2)
    params, tasks = maml.init(BACKEND, 0), [episode(seed=seed) for seed in range(4)]
    expected = [maml.value_and_grad(params, one) for one in tasks]
    found = [[] for _ in tasks]

    def work(number):
        for _ in range(8):
            found[number].append(maml.value_and_grad(params, tasks[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results, (value, grads) in zip(found, expected, strict=True):
        assert len(results) == 8
        for result in results:
            assert torch.equal(result[0], value)
            pairs = zip(tree.leaves(result[1]), tree.leaves(grads), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_the_kernels_of_attention_are_switched_for_all_threads_until_the_last_one_is_done():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with MATHEMATICAL_ATTENTION:
            inside.set()
            leave.wait(10)

    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        thread = threading.Thread(target=other)
        with MATHEMATICAL_ATTENTION:
            thread.start()
            inside.wait(10)
        assert not torch.backends.cuda.flash_sdp_enabled()
        leave.set()
        thread.join()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert not torch.backends.cuda.mem_efficient_sdp_enabled()


@BOTH
@pytest.mark.parametrize("frozen", [True, False])
def test_weights_loaded_after_wrapping_play_no_part_frozen_or_not(vectorize, frozen):
    module = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    module[0].requires_grad_(not frozen)
    x = episode().support_x
    model = ModuleModel(module, vectorize=vectorize)
    expected = module(x[0])
    module.load_state_dict({name: t + 1 for name, t in module.state_dict().items()})
    module[1] = nn.Identity()
    module.eval()
    torch.testing.assert_close(model.apply(model.init(BACKEND, 0), x)[0], expected)


class Counting(nn.Module):
    """Keeps a running sum, a list and an attribute, and lets the first two enter the outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("shift", torch.ones(()))
        self.calls, self.last = [], None

    def forward(self, x):
        self.total += x.sum()
        self.calls.append(1)
        self.last = x
        return self.layer(x) + self.total * len(self.calls) + self.shift


@BOTH
def test_no_call_and_no_task_leaves_anything_to_the_next(vectorize):
    module = Counting().double()
    model = ModuleModel(module, vectorize=vectorize)
    params, x = model.init(BACKEND, 0), episode(tasks=3).support_x
    outputs = model.apply(params, x)
    assert torch.equal(model.apply(params, x), outputs)
    for task in range(3):
        torch.testing.assert_close(outputs[task], module.layer(x[task]) + x[task].sum() + 1)
    assert module.calls == []
    assert module.last is None
    assert module.total == 0


class Watching(nn.Module):
    """Says of each run where its frozen weight lies, and whether it has a task axis."""

    def __init__(self, seen):
        super().__init__()
        self.frozen, self.layer = nn.Linear(1, 3), nn.Linear(3, 1)
        self.frozen.requires_grad_(False)
        object.__setattr__(self, "seen", seen)

    def forward(self, x):
        weight = self.frozen.weight
        batched = torch._C._functorch.is_batchedtensor(weight)
        self.seen(None if batched else weight.data_ptr())
        return self.layer(self.frozen(x))


@BOTH
def test_tasks_share_what_is_frozen(vectorize):
    places = []
    model = ModuleModel(Watching(places.append).double(), vectorize=vectorize)
    params, x = model.init(BACKEND, 0), episode(tasks=3).support_x
    model.apply(params, x)
    places.clear()
    model.apply(params, x)
    model.apply(params, x)
    assert len(places) == (2 if vectorize else 6)
    assert len(set(places)) == 1
    assert None not in places


def test_a_module_that_writes_into_its_parameters_is_refused():
    class Scaled(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.weight.mul_(0.5)
            return super().forward(x)

    model = ModuleModel(Scaled(1, 1), vectorize=False)
    with pytest.raises(UnsupportedError, match=r"Scaled writes into its parameter 'weight'"):
        model.apply(model.init(BACKEND, 0), episode().support_x)


def test_a_module_that_writes_into_a_buffer_now_and_then_is_refused():
    class Sometimes(Counting):
        def forward(self, x):
            if x.sum() > 0:
                self.shift += 1
            return self.layer(x)

    model = ModuleModel(Sometimes(), vectorize=False)
    params, x = model.init(BACKEND, 0), torch.ones(1, 2, 1, dtype=torch.float64)
    model.apply(params, -x)
    with pytest.raises(UnsupportedError, match=r"for some inputs only, its constant 'shift'"):
        model.apply(params, x)


@BOTH
def test_predictions_in_inference_mode_do_not_spoil_training_afterwards(vectorize):
    module = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    module[0].requires_grad_(False)
    expected = gradient(ModuleModel(module, vectorize=vectorize))
    model = ModuleModel(module, vectorize=vectorize)
    with torch.inference_mode():
        model.apply(model.init(BACKEND, 0), episode().support_x)
    found = gradient(model)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@BOTH
def test_the_first_run_draws_no_random_numbers_from_the_others(vectorize):
    module = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    model = ModuleModel(module, vectorize=vectorize)
    params, x = model.init(BACKEND, 0), episode().support_x
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(model.apply(params, x))
    assert torch.equal(*outputs)


def test_a_lazy_module_must_have_run_once():
    with pytest.raises(SettingError, match=r"'weight', which is not initialised"):
        ModuleModel(nn.LazyLinear(2))


class Padded(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.table, self.layer = nn.Embedding(5, 3, padding_idx=padding), nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(self.table(x[..., 0].long()))


@pytest.mark.parametrize("padding", [0, 2])
def test_the_gradient_of_an_embedding_with_padding_does_not_depend_on_the_place_in_the_batch(padding):
    model = ModuleModel(Padded(padding))
    params = model.init(BACKEND, 0)
    x = torch.tensor([0.0, 1.0, 2.0, 0.0], dtype=torch.float64)[None, :, None].expand(3, 4, 1)
    objective, y = Objective(model, mltk.ops.MeanSquaredError()), torch.zeros_like(x)
    with pytest.warns(UserWarning, match=r"vmap is wrong on Padded, by Embedding\(padding_idx="):
        grads = BACKEND.engine.linearize(objective, params, x, y).grad["table"]["weight"]
    for task in range(3):
        torch.testing.assert_close(grads[task], grads[0], rtol=0, atol=0)
    assert not grads[0, padding].any()
    assert grads[0, 1].all()


class PaddedByFunction(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.table, self.padding = nn.Parameter(torch.randn(5, 3)), padding

    def forward(self, x):
        return nn.functional.embedding(x[..., 0].long(), self.table, self.padding).sum(-1, keepdim=True)


def test_padding_of_a_function_is_found_where_the_first_task_holds_none():
    model = ModuleModel(PaddedByFunction(4))
    params = model.init(BACKEND, 0)
    objective = Objective(model, mltk.ops.MeanSquaredError())
    for ids in ([0.0, 1.0], [4.0, 1.0]):
        x = torch.tensor(ids, dtype=torch.float64)[None, :, None].expand(3, 2, 1)
        if ids[0] == 0.0:
            with pytest.warns(UserWarning, match=r"vmap is wrong .* by embedding\(padding_idx=4\)"):
                model.apply(params, x)
    grads = BACKEND.engine.linearize(objective, params, x, torch.ones_like(x)).grad["table"]
    assert not grads[:, 4].any()
    assert grads[:, 1].all()


class Halved(nn.Module):
    """Writes into its inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x.mul_(0.5))


class HalvedElsewhere(Halved):
    """The same function."""

    def forward(self, x):
        return self.layer(x * 0.5)


@pytest.mark.parametrize("vectorize", [False, True])
def test_data_that_a_module_writes_into_stay_as_they_are(vectorize):
    halved, elsewhere = Halved(), HalvedElsewhere()
    elsewhere.load_state_dict(halved.state_dict())
    episode = mltk.data.Sinusoid(5, 5).sample(2, 0, BACKEND)
    before = [episode.support_x.clone(), episode.query_x.clone()]
    results = []
    for module in (halved, halved, elsewhere):
        maml = mltk.algorithms.MAML(ModuleModel(module, vectorize=vectorize), "mse", inner_lr=0.1)
        results.append(maml.value_and_grad(maml.init(BACKEND, 0), episode))
    for found in results[:2]:
        torch.testing.assert_close(found, results[2])
    torch.testing.assert_close([episode.support_x, episode.query_x], before, rtol=0, atol=0)


class WrongRule(torch.autograd.Function):
    """The square of the input, with a rule for vmap that is right for the first task only."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad

    @staticmethod
    def vmap(info, in_dims, x):
        factors = torch.ones(info.batch_size, *[1] * (x.ndim - 1), dtype=x.dtype)
        factors[1:] = 2
        return WrongRule.apply(x) * factors, 0


def test_what_vmap_does_differently_is_found_and_runs_in_a_loop():
    class Wrong(nn.Linear):
        def forward(self, x):
            return WrongRule.apply(super().forward(x))

    module = Wrong(1, 2).double()
    model, x = ModuleModel(module), episode(tasks=3).support_x
    with pytest.warns(UserWarning, match="vmap is wrong on Wrong, by the outputs"):
        outputs = model.apply(model.init(BACKEND, 0), x)
    torch.testing.assert_close(outputs, torch.nn.functional.linear(x, module.weight, module.bias) ** 2)


def test_vmap_is_compared_once_for_each_kind_of_input(recwarn):
    calls = []

    class Seen(nn.Linear):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    model = ModuleModel(Seen(1, 2))
    params, x = model.init(BACKEND, 0), episode().support_x
    model.apply(params, x)
    first = len(calls)
    for rows in (1, 3, 5):
        model.apply(params, x[:, :rows])
    assert first > 1
    assert len(calls) == first + 3
    assert not recwarn.list
