"""The proof of the diagnosis: right implementations are not accused, and every wrong one is named."""

import pytest

from mltk.oracle import selftest
from mltk.oracle.selftest import Answer, confusion, examine
from mltk.oracle.specimens import CORRECT, SPECIMENS, UNNAMED, WRONG, Specimen

OWN = [specimen for specimen in SPECIMENS if ":" in specimen.candidate]
PEERS = [specimen for specimen in CORRECT if ":" not in specimen.candidate and specimen.candidate != "jax"]
NAMES = [specimen.name for specimen in (*OWN, *PEERS)]


@pytest.mark.parametrize("specimen", [*OWN, *PEERS], ids=NAMES)
def test_a_specimen_is_judged_as_it_should_be(specimen, monkeypatch):
    """JAX compiles each case anew, which takes a minute: `mltk oracle selftest` has it."""
    monkeypatch.setattr(selftest, "RANDOM_CASES", 3)
    answer = examine(specimen)
    if answer.found == (selftest.SKIPPED,):
        pytest.skip(answer.text)
    assert answer.good, f"expected {answer.expected}, found {answer.found}: {answer.text}"


def test_there_are_enough_specimens():
    assert len(WRONG) >= 25
    assert len({specimen.mistake for specimen in WRONG}) >= 25
    assert len(UNNAMED) >= 4
    assert sum(specimen.scale is not None for specimen in WRONG) >= 6


SPECIMEN = Specimen("a", "maml", "here:there", mistake="first-order", scale="sum-over-tasks")


def test_a_pair_is_good_only_with_both_names():
    assert Answer(SPECIMEN, ("first-order", "sum-over-tasks"), "").good
    assert not Answer(SPECIMEN, ("first-order",), "").good
    assert not Answer(SPECIMEN, ("sum-over-tasks",), "").good
    assert not Answer(SPECIMEN, ("first-order", "sum-over-tasks", "sign"), "").good


def test_a_correct_specimen_is_good_only_if_nothing_is_found():
    right = Specimen("a", "maml", "here:there")
    assert Answer(right, (selftest.RIGHT,), "").good
    for found in ("raises", "unknown", "first-order"):
        assert not Answer(right, (found,), "").good


def test_the_confusion_matrix_counts_what_was_found():
    answers = [
        Answer(SPECIMEN, ("first-order", "sum-over-tasks"), ""),
        Answer(SPECIMEN, ("first-order",), ""),
        Answer(SPECIMEN, (selftest.SKIPPED,), ""),
    ]
    assert confusion(answers) == {
        "first-order + sum-over-tasks": {"first-order + sum-over-tasks": 1, "first-order": 1, "skipped": 1}
    }


@pytest.mark.parametrize(("mistake", "status"), [("first-order", 0), ("extra-step", 1), (None, 1)])
def test_the_exit_status_says_whether_all_is_as_it_should_be(mistake, status, capsys):
    path = "mltk.oracle.specimens.wrong_orders:first_order_by_detach"
    assert selftest.run([Specimen("one", "maml", path, mistake=mistake)]) == status
    shown = capsys.readouterr().out
    assert "first-order" in shown
    assert ("expected" in shown.replace("What was expected", "")) == bool(status) or status == 0
