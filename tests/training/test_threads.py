"""A run says with how many threads it was computed, and goes on with another number under protest."""

import re
import warnings

import pytest
import torch

import mltk
from mltk.training.run_folder import RunFolder

TASKS = mltk.data.Sinusoid(shots=5, queries=5)
LEARNER = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")


@pytest.fixture
def other_threads():
    """One more thread for Torch."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(before + 1)
    torch.set_num_threads(before)


def test_another_number_of_torchs_threads_is_said(tmp_path, other_threads):
    options = {"backend": mltk.backend("torch"), "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=2, **options)
    now = torch.get_num_threads()
    assert RunFolder(tmp_path).read_config()["threads"]["torch"] == now
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mltk.train(LEARNER, TASKS, steps=4, **options)
        other_threads()
        mltk.train(LEARNER, TASKS, steps=4, **options)  # nothing is computed
    with pytest.warns(UserWarning, match=rf"torch {now} before, {now + 1} now"):
        assert mltk.train(LEARNER, TASKS, steps=6, **options).steps == 6


def test_another_number_of_the_threads_of_blas_is_said(tmp_path):
    pytest.importorskip("threadpoolctl")
    options = {"backend": mltk.backend("numpy"), "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=2, **options)
    config = tmp_path / "config.toml"
    text = config.read_text()
    (number,) = re.findall(r"\[threads\]\nblas = (\d+)\n", text)
    config.write_text(text.replace(f"blas = {number}", f"blas = {int(number) + 3}"))
    with pytest.warns(UserWarning, match=rf"blas {int(number) + 3} before, {number} now"):
        mltk.train(LEARNER, TASKS, steps=4, **options)


def test_runs_that_recorded_no_threads_go_on_in_silence(tmp_path):
    options = {"backend": mltk.backend("numpy"), "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=2, **options)
    config = tmp_path / "config.toml"
    config.write_text(re.sub(r"\[threads\]\n(\w+ = \d+\n)*", "", config.read_text()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mltk.train(LEARNER, TASKS, steps=4, **options)
