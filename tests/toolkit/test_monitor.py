"""A monitor tells what a training did and what is wrong with it, and changes nothing of it."""

import json
import math
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

import mltk
from mltk.errors import DivergedError, RunError, SettingError
from mltk.toolkit import monitor as monitor_module
from mltk.toolkit.health import PATIENCE
from mltk.watching import TasksSeen

Monitor, read_monitor = mltk.toolkit.Monitor, mltk.toolkit.read_monitor
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1], activation="tanh"), "mse", inner_lr=0.1)
SINUSOIDS = mltk.data.Sinusoid(shots=5, queries=5)
BLOBS = mltk.data.Blobs(ways=3, shots=2, queries=5)
CLASSIFIER = mltk.algorithms.ANIL(mltk.models.mlp([3, 6, 3]), "cross_entropy", inner_lr=0.1)


class Notes:
    def __init__(self):
        self.steps = []

    def on_step(self, seen):
        self.steps.append(seen)

    def on_tasks(self, seen):
        pass


def quiet(**settings):
    return Monitor(alerts_to=None, **settings)


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    pytest.importorskip(request.param)
    return mltk.backend(request.param, dtype="float64")


def with_dropout():
    """A learner whose model draws random numbers whenever it is asked."""
    torch = pytest.importorskip("torch")
    from mltk_backends.torch import ModuleModel

    layers = torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    return mltk.algorithms.MAML(ModuleModel(torch.nn.Sequential(*layers)), "mse", first_order=True)


@pytest.mark.parametrize("case", ["regression", "classification", "dropout"])
def test_a_training_is_the_same_to_the_bit_with_a_monitor_that_looks_at_every_step(backend, case):
    learner, tasks = (CLASSIFIER, BLOBS) if case == "classification" else (MAML, SINUSOIDS)
    if case == "dropout":
        if backend.name == "numpy":
            pytest.skip("models of Torch alone draw random numbers")
        learner, backend = with_dropout(), mltk.backend("torch", engine="autograd")
    found = []
    for watch in ((), [quiet(every=1, samples_every=1)]):
        if case == "dropout":
            __import__("torch").manual_seed(0)
        run = mltk.train(learner, tasks, backend=backend, steps=6, meta_batch=3, log_every=1, watch=watch)
        lines = [{name: line[name] for name in ("step", "loss")} for line in run.history]
        params = mltk.tree.flatten(run.meta_params)
        found.append((lines, {name: backend.to_numpy(leaf).tolist() for name, leaf in params.items()}))
    assert found[0] == found[1]
    assert all("gain" in line for line in watch[0].history)


def test_a_look_keeps_what_the_steps_were(backend):
    notes, monitor = Notes(), quiet(every=3, samples_every=2)
    mltk.train(CLASSIFIER, BLOBS, backend=backend, steps=10, meta_batch=4, watch=[notes, monitor])
    assert [line["step"] for line in monitor.history] == [1, 3, 6, 9]
    zero_steps = mltk.algorithms.ANIL(CLASSIFIER.model, "cross_entropy", inner_steps=0)
    for number, line in enumerate(monitor.history):
        steps = notes.steps[[0, 1, 3, 6][number] : [1, 3, 6, 9][number]]
        assert line["loss"] == pytest.approx(np.mean([float(seen.loss) for seen in steps]))
        grads = {n: backend.to_numpy(g) for n, g in mltk.tree.flatten(steps[-1].grads).items()}
        for layer in ("0", "2"):
            of_layer = np.concatenate([g.ravel() for n, g in grads.items() if n.startswith(f"{layer}.")])
            assert line[f"gradient_norms/{layer}"] == pytest.approx(np.linalg.norm(of_layer))
        assert line["gradient_norm"] == pytest.approx(
            np.linalg.norm(np.concatenate([g.ravel() for g in grads.values()]))
        )
        assert {"tasks_per_second", "memory"} <= line.keys()
        if number % 2:
            assert not {"gain", "hardness"} & line.keys()
            continue
        seen = steps[-1]
        before = zero_steps.value_and_grad(seen.meta_params, seen.episode)[0]
        assert line["gain"] == pytest.approx(float(before) - float(seen.loss))
        hardness = mltk.hardness_metric(seen.episode, 3)
        assert line["hardness"] == pytest.approx(float(hardness.mean()))


class Weighted:
    def sample(self, n_tasks, rng, backend):
        return replace(BLOBS.sample(n_tasks, rng, backend), weights=backend.asarray(np.full(n_tasks, 2.0)))


def test_learners_without_an_objective_and_weighted_tasks_have_no_gain():
    monitor = quiet(every=1, samples_every=1)
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    mltk.train(learner, BLOBS, backend=mltk.backend("numpy"), steps=2, watch=monitor)
    assert "gain" not in monitor.history[0]
    mltk.train(CLASSIFIER, Weighted(), backend=mltk.backend("numpy"), steps=2, watch=monitor)
    assert "gain" not in monitor.history[0]


def test_hardness_is_measured_by_the_features_that_one_asks_for():
    monitor = quiet(every=1, samples_every=1, features=lambda x: 0 * x)
    mltk.train(CLASSIFIER, BLOBS, backend=mltk.backend("numpy"), steps=2, watch=monitor)
    assert monitor.history[0]["hardness"] == pytest.approx(math.log(2))


class OnDevice:
    """A loss that is only added up: to know it would wait for the device."""

    def __radd__(self, other):
        return self

    __add__ = __radd__

    @property
    def dtype(self):
        raise AssertionError("looked at")

    __float__ = __bool__ = dtype.fget


def test_nothing_is_fetched_between_two_looks():
    monitor = quiet()
    monitor.step(1.0, {"a": np.ones(2)})
    for _ in range(23):
        monitor.step(OnDevice(), None)
    with pytest.raises(AssertionError, match="looked at"):
        monitor.step(OnDevice(), {"a": np.ones(2)})


def test_speed_is_tasks_since_the_last_look_over_time_without_the_look(monkeypatch):
    ticks = count(step=2)  # read at the end of a look and at the next one
    monkeypatch.setattr(monitor_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monitor = quiet(every=2)
    mltk.train(MAML, SINUSOIDS, backend=mltk.backend("numpy"), steps=4, meta_batch=3, watch=monitor)
    assert [line["tasks_per_second"] for line in monitor.history] == [1.5, 1.5, 3]


def test_an_alert_that_lasts_is_told_once_and_again_after_all_was_well():
    told = []
    monitor = Monitor(every=1, alerts_to=told.append)
    for zeros in [1] * 3 + [0] * 20 + [1] * 3 + [0] * 20:
        monitor.step(1.0, {"a.weight": np.full(2, float(zeros)), "b.weight": np.ones(2)})
    assert [(alert.kind, alert.about, alert.step) for alert in told] == [("dead", "a", 8), ("dead", "a", 31)]
    assert told == monitor.alerts


def test_a_loss_that_surprises_is_looked_at_at_once():
    for last, steps in ((11.0, [1, 5]), (9.0, [1])):
        monitor = quiet()
        for loss in (1.0, 1.0, 1.0, 1.0, last):
            monitor.step(loss, {"a": np.ones(2)})
        assert [line["step"] for line in monitor.history] == steps
    monitor = quiet()
    for loss in (-1.0, 50.0, 1e9):  # with a sign that may change there is no telling
        monitor.step(loss, {"a": np.ones(2)})
    assert len(monitor.history) == 1


def test_tiny_gradients_are_not_taken_for_zero():
    monitor = quiet(every=1)
    for _ in range(PATIENCE + 1):
        monitor.step(1.0, {"a": np.full(2, 1e-30, dtype="float32"), "b": np.ones(2, dtype="float32")})
    assert [alert.kind for alert in monitor.alerts] == ["vanishing"]


@pytest.mark.parametrize("lr", [0.5, 30.0])
def test_a_training_that_diverges_is_foretold(lr, capsys):
    monitor = Monitor()  # that looks at every 25th step, and at once where the loss surprises
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1], activation="relu"), "mse", first_order=True)
    with pytest.raises(DivergedError):
        mltk.train(
            *(learner, SINUSOIDS),
            backend=mltk.backend("numpy"),
            steps=400,
            optimizer=mltk.optim.SGD(lr),
            watch=monitor,
        )
    assert {"exploding", "overflow ahead"} & {alert.kind for alert in monitor.alerts}
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"mltk: {alert}" for alert in monitor.alerts]


def test_the_file_of_a_run_is_what_the_monitor_knows(tmp_path):
    monitor = quiet(every=2)
    how = {"backend": mltk.backend("numpy"), "out": tmp_path / "run", "meta_batch": 2}
    mltk.train(MAML, SINUSOIDS, steps=8, checkpoint_every=4, watch=monitor, **how)
    assert read_monitor(tmp_path / "run") == (monitor.history, [])
    path = tmp_path / "run" / "monitor.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # a kill
    mltk.train(MAML, SINUSOIDS, steps=12, resume=True, watch=quiet(every=2), **how)
    history, _ = read_monitor(tmp_path / "run")
    assert [line["step"] for line in history] == [1, 2, 4, 6, 9, 10, 12]
    with path.open("a") as file:  # as of a run that went on from an earlier checkpoint
        file.write(json.dumps({"step": 6, "loss": 7.0}) + "\n")
    assert [line["step"] for line in read_monitor(tmp_path / "run")[0]] == [1, 2, 4, 6]
    assert read_monitor(tmp_path / "run")[0][-1]["loss"] == 7
    assert read_monitor(tmp_path) == ([], [])
    path.write_text('{"step": }\n')
    with pytest.raises(RunError, match=r"monitor\.jsonl is damaged"):
        read_monitor(tmp_path / "run")


def test_a_new_training_replaces_the_file_and_alerts_are_in_it(tmp_path):
    for _ in range(2):
        monitor = quiet(every=1, folder=tmp_path / "notes")
        mltk.train(MAML, SINUSOIDS, backend=mltk.backend("numpy"), steps=3, watch=monitor)
        assert read_monitor(tmp_path / "notes")[0] == monitor.history
    monitor.step(math.nan, {"a": np.ones(2)})
    history, alerts = read_monitor(tmp_path / "notes")
    assert history[-1]["loss"] is None
    assert alerts == monitor.alerts
    assert [alert.kind for alert in alerts] == ["not finite"]


class Broken:
    calls = 0

    def write(self, step, values):
        self.calls += 1
        raise ConnectionError("nobody there")


class Kept(list):
    def write(self, step, values):
        self.append((step, dict(values)))


def test_what_cannot_be_written_ends_no_training(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mltk.toolkit.monitor_file.open_to_append", full)
    broken, kept = Broken(), Kept()
    monitor = quiet(every=1, folder=tmp_path, writers=[broken, kept])
    mltk.train(MAML, SINUSOIDS, backend=mltk.backend("numpy"), steps=3, watch=monitor)
    assert {(alert.about, alert.text) for alert in monitor.alerts} == {
        ("MonitorFile", "[Errno 28] No space left on device"),
        ("Broken", "nobody there"),
    }
    assert broken.calls == 1
    assert [{"step": step, **values} for step, values in kept] == monitor.history


def test_a_callback_may_end_a_training():
    def stop(alert):
        raise KeyboardInterrupt(alert.kind)

    with pytest.raises(KeyboardInterrupt, match="not finite"):
        Monitor(every=1, alerts_to=stop).step(math.inf, {"a": np.ones(2)})


def test_a_loop_of_ones_own_on_torch_is_told_of(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x, monitor = torch.linspace(-1, 1, 6)[:, None], quiet(every=2, samples_every=1)
    with monitor.watching():
        for _ in range(4):
            total = before = 0.0
            for task in (1.0, 2.0, 3.0):
                clone = mltk.clone_module(model)
                before = before + torch.mean((clone(x) - task * x) ** 2) / 3
                loss = torch.mean((clone(x) - task * x) ** 2)
                grads = torch.autograd.grad(loss, list(clone.parameters()), create_graph=True)
                updates = [-0.1 * g for g in grads]
                mltk.update_module(clone, updates)
                total = total + torch.mean((clone(x) - task * x) ** 2) / 3
            model.zero_grad()
            total.backward()
            monitor.step(total, model, before=before)
            assert not torch.is_tensor(monitor._loss_sum) or not monitor._loss_sum.requires_grad
    mltk.clone_module(model)
    assert monitor._tasks == 0  # whoever leaves is told no more
    assert [line["step"] for line in monitor.history] == [1, 2, 4]
    line = monitor.history[-1]
    of_layer = torch.cat([p.grad.ravel() for p in model[0].parameters()])
    assert line["gradient_norms/0"] == pytest.approx(float(torch.linalg.norm(of_layer)), rel=1e-5)
    assert line["gain"] == pytest.approx(float((before - total).detach()), rel=1e-5)
    assert 0 < line["update_norms/0"] < 1
    assert "tasks_per_second" in line


def test_update_norms_are_of_the_updates_of_the_step_that_is_looked_at():
    be, monitor = mltk.backend("numpy", dtype="float64"), quiet(every=3)
    model = mltk.models.mlp([1, 3, 1])
    module = mltk.Module(model, model.init(be, seed=0))
    with monitor.watching():
        for scale in (100.0, 100.0, 2.0):
            for _ in range(3):
                clone = mltk.clone_module(module)
                updates = [None, *(scale * np.ones_like(p.detach()) for p in list(clone.parameters())[1:])]
                mltk.update_module(clone, updates)
            monitor.step(1.0, [p.detach() for p in module.parameters()])
    line = monitor.history[1]
    # The means over three updates of squares: 3 numbers of a bias, 3 of a weight and 1 of a bias.
    assert line["update_norms/0"] == pytest.approx(2 * math.sqrt(3))
    assert line["update_norms/2"] == pytest.approx(2 * math.sqrt(4 / 2))


def test_evaluations_are_judged_and_tasks_that_get_worse_are_told():
    monitor, be = quiet(), mltk.backend("numpy")
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    found = mltk.evaluate(learner, learner.init(be, 0), BLOBS, episodes=120, watch=monitor)
    assert monitor.judged["Prototypical"] == (120, pytest.approx(found.values.mean()))
    assert not monitor.alerts
    rng = np.random.default_rng(0)
    for metric, shift in (("accuracy", -0.3), ("mse", 0.3), ("mse", -0.3)):
        monitor = quiet()
        for first in range(0, 200, 20):
            values = 0.7 + rng.uniform(-0.1, 0.1, size=20) + shift * (first >= 100)
            values[3] = math.nan if metric == "mse" and shift > 0 and first >= 100 else values[3]
            monitor.on_tasks(TasksSeen("x", learner, BLOBS, 0, "tasks", first, metric, values))
        worse = [alert.step for alert in monitor.alerts]
        assert all(100 < step < 115 for step in worse)
        assert len(worse) == (1 if (metric == "accuracy") == (shift < 0) else 0)


def test_a_monitor_shows_itself_and_begins_anew_with_another_training():
    monitor = quiet(every=2)
    for seed in (0, 1):
        how = {"backend": mltk.backend("numpy"), "steps": 5, "watch": monitor}
        mltk.train(MAML, SINUSOIDS, seed=seed, **how)
        assert [line["step"] for line in monitor.history] == [1, 2, 4]
    monitor.step(math.nan, {"a": np.ones(1)})
    text = repr(monitor)
    assert text.startswith("Monitor: 4 looks, 1 alerts")
    assert "step 6: not finite: loss is NaN or infinite" in text
    assert json.loads(json.dumps(monitor.to_dict()))["history"][0] == monitor.history[0]


def test_settings_that_make_no_sense_are_refused():
    for wrong, message in (
        ({"every": 0}, "every is 0"),
        ({"detector": "cusum"}, "detector is 'cusum'"),
        ({"writers": [print]}, "each of writers is"),
    ):
        with pytest.raises(SettingError, match=message):
            Monitor(**wrong)
