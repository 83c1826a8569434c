"""The proof of the diagnosis: right implementations are not accused, and every wrong one is named."""

import re
from pathlib import Path

import pytest

from mltk.oracle import selftest, specimens
from mltk.oracle.selftest import Answer, claims, confusion, examine, unproved
from mltk.oracle.specimens import CORRECT, SPECIMENS, UNNAMED, WRONG, Specimen, wrong_orders

SAMPLE = (*CORRECT, *WRONG[::10], *UNNAMED[::3])
"""The whole takes minutes: `mltk oracle selftest` has it."""

OWN = [specimen for specimen in SAMPLE if not isinstance(specimen.candidate, str)]
PEERS = [each for each in CORRECT if isinstance(each.candidate, str) and each.candidate != "jax"]
NAMES = [specimen.name for specimen in (*OWN, *PEERS)]


@pytest.mark.parametrize("specimen", [*OWN, *PEERS], ids=NAMES)
def test_a_specimen_is_judged_as_it_should_be(specimen, monkeypatch):
    """JAX compiles each case anew, which takes a minute: `mltk oracle selftest` has it."""
    monkeypatch.setattr(selftest, "RANDOM_CASES", 3)
    answer = examine(specimen)
    if answer.found == (selftest.SKIPPED,):
        pytest.skip(answer.text)
    assert answer.good, f"expected {answer.expected}, found {answer.found}: {answer.text}"


def test_every_claim_has_a_specimen():
    """What the catalogue says that it finds in a computation is shown by code that knows no catalogue."""
    assert len(claims()) > 300
    assert unproved(SPECIMENS) == ()


def test_a_claim_without_a_specimen_is_told():
    few = [each for each in WRONG if (each.mistake, each.computation) != ("first-order", "maml")]
    assert unproved(few) == (("first-order", "maml"),)


def test_specimens_call_nothing_that_they_prove():
    """Neither the catalogue nor the definitions nor mltk's own learners: each imports specimens alone."""
    folder = Path(specimens.__file__).parent
    for file in folder.glob("*.py"):
        text = file.read_text()
        own = re.findall(r"^\s*(?:from|import)\s+(mltk\S*)", text, flags=re.MULTILINE)
        assert all(name.startswith("mltk.oracle.specimens") for name in own), file.name


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
def test_the_exit_status_says_whether_all_is_as_it_should_be(mistake, status, capsys, monkeypatch):
    if status:  # one of them is enough to see other processes at work
        monkeypatch.setattr(selftest, "examine_all", lambda specimens: map(examine, specimens))
    one = Specimen("one", "maml", wrong_orders.FirstOrderByDetach.judged, mistake=mistake)
    assert selftest.run([one]) == status
    shown = capsys.readouterr().out
    assert "first-order" in shown
    assert ("expected" in shown.replace("What was expected", "")) == bool(status) or status == 0
