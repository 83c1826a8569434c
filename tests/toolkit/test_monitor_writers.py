"""What a monitor writes for others is read by their own readers."""

import math
import struct
import subprocess
import sys

import numpy as np
import pytest

import mltk
from mltk.errors import MissingLibraryError
from mltk.toolkit.event_file import _checksum


def test_the_checksum_is_that_of_the_published_example():
    crc = 0xE3069283  # of "123456789": RFC 3720 and the catalogues of checksums
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert _checksum(b"123456789") == struct.pack("<I", masked)


def test_tensorboard_reads_what_a_monitor_saw(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = mltk.toolkit.TensorBoard(tmp_path / "events")
    monitor = mltk.toolkit.Monitor(every=5, samples_every=2, writers=[writer], alerts_to=None)
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
    tasks = mltk.data.Sinusoid(shots=5, queries=5)
    mltk.train(learner, tasks, backend=mltk.backend("numpy"), steps=300, meta_batch=2, watch=monitor)
    events = accumulator.EventAccumulator(str(tmp_path / "events"), size_guidance={"scalars": 0})
    events.Reload()
    names = {name for line in monitor.history for name in line} - {"step"}
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        seen = [(line["step"], line[name]) for line in monitor.history if name in line]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in seen]
        assert [value for _, value in found] == [float(np.float32(value)) for _, value in seen]
    assert not monitor.alerts


def test_values_out_of_range_long_names_and_late_steps_are_read_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer, name = mltk.toolkit.TensorBoard(tmp_path), "schicht/größe " * 30
    values = [1e300, -1e300, math.nan, 0.1]
    for step, value in zip((1, 127, 128, 2**40), values, strict=True):
        writer.write(step, {name: value})
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    found = events.Scalars(name)
    assert [event.step for event in found] == [1, 127, 128, 2**40]
    assert np.array_equal(
        [event.value for event in found],
        np.asarray([math.inf, -math.inf, math.nan, np.float32(0.1)]),
        equal_nan=True,
    )


def test_a_file_does_without_tensorboard_and_each_writer_has_its_own(tmp_path):
    code = (
        "import sys, mltk; [mltk.toolkit.TensorBoard(sys.argv[1]).write(1, {'a': 1.0}) for _ in range(2)];"
        "assert not {'tensorboard', 'google.protobuf', 'tensorflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def test_mlflow_keeps_what_a_monitor_saw(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        monitor = mltk.toolkit.Monitor(every=1, writers=[mltk.toolkit.MLflow()], alerts_to=None)
        for step in range(3):
            monitor.step(2.5 - step, {"0.weight": np.ones(4)})
    assert not monitor.alerts
    kept = mlflow.MlflowClient().get_metric_history(run.info.run_id, "gradient_norms/0")
    assert [(metric.step, metric.value) for metric in kept] == [(1, 2.0), (2, 2.0), (3, 2.0)]


def test_where_mlflow_is_not_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingLibraryError, match="mlflow-skinny"):
        mltk.toolkit.MLflow()
