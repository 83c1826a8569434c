"""Candidates that fail in every way: each gets the verdict that says so, and the check goes on."""

import os
import time

import oracle_candidates as candidates
import pytest
from oracle_cases import CANDIDATES, few_cases, few_vectors, verdict  # noqa: F401

from mltk.errors import SettingError
from mltk.oracle.candidate import CandidateError, runner
from mltk.oracle.check import check
from mltk.oracle.computations import computation


def in_process(function):
    """The name by which a candidate runs in a process of its own."""
    return f"{CANDIDATES}:{function.__name__}"


FAULTS = {
    "raises": ("raises", "ValueError: a clear reason", "raise ValueError"),
    "raises_oddly": ("raises", "OddError", "cannot be shown"),
    "leaves": ("raises", "SystemExit: no more"),
    "interrupts": ("raises", "KeyboardInterrupt"),
    "nan": ("not-finite", "gradients.0.weight", "gradients.2.bias"),
    "infinite_loss": ("not-finite", "loss"),
    "wrong_shapes": ("wrong-shapes", "gradients.0.weight has shape (1, 3, 2); expected (3, 2)"),
    "huge": ("wrong-shapes", "loss has shape (1000000, 500000); expected ()"),
    "wrong_names": ("wrong-names", "0.weight, 2.weight missing", "0.kernel, 2.kernel too many"),
    "wrong_outputs": ("wrong-names", "'value'", "expected some of loss, gradients"),
    "single_precision": ("malformed", "float32", "expected float64"),
    "gradients_as_tuple": ("malformed", "gradients is a tuple; expected a dict"),
    "gradient_missing": ("malformed", "gradients.0.weight is None; expected an array"),
    "triple": ("malformed", "a tuple of 3", "(loss, gradients)"),
    "nothing": ("malformed", "loss is None"),
    "as_text": ("malformed", "loss is a str"),
    "changes_params": ("changes-its-inputs", "params.0.weight"),
    "replaces_params": ("changes-its-inputs", "params.0.weight", "params.0.bias"),
    "changes_data": ("changes-its-inputs", "query_x"),
    "drifts": ("keeps-state", "differs by"),
    "double_loss": ("wrong", "loss: relative error 1.0e+00"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_verdict(name):
    kind, *texts = FAULTS[name]
    found = verdict(getattr(candidates, name))
    assert found.verdict == kind
    assert [text for text in texts if text not in found.message] == []
    assert found.snippet is not None
    assert found.cases == 4  # the check went on
    assert {each.kind for each in found.failed} == {kind}


@pytest.mark.parametrize(
    "name", ["raises", "leaves", "interrupts", "wrong_names", "changes_params", "drifts"]
)
def test_in_a_process_of_its_own_a_fault_has_the_same_verdict(name):
    kind, *texts = FAULTS[name]
    found = verdict(in_process(getattr(candidates, name)))
    assert found.verdict == kind
    assert [text for text in texts if text not in found.message] == []
    assert found.cases == 4


@pytest.mark.parametrize("name", ["right", "as_list", "as_dict", "prints", "changes_folder"])
def test_what_is_right_is_right_whatever_it_prints(name):
    found = verdict(in_process(getattr(candidates, name)))
    assert (found.verdict, found.message, found.failed) == ("correct", "", ())
    assert found.outputs == ("loss", "gradients")


def test_the_place_of_an_error_is_the_candidates_own_code():
    found = verdict(in_process(candidates.raises))
    assert "oracle_candidates.py, line" in found.message
    assert "in raises: raise ValueError" in found.message
    assert "calling.py" not in found.message


def test_hanging_in_this_process_is_not_tried_again():
    started = time.monotonic()
    found = verdict(candidates.hangs, timeout=0.2, examples=5)
    assert time.monotonic() - started < 60
    assert found.verdict == "hangs"
    assert "no answer within 0.2 seconds" in found.message
    assert "time.sleep(3600)" in found.message
    assert found.cases == 2  # it is given up


def test_a_hanging_process_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    found = verdict(in_process(candidates.hangs_with_a_child), timeout=2.0)
    assert found.verdict == "hangs"
    assert "in hangs_with_a_child: time.sleep(3600)" in found.message
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _is_running(child):
            break
        time.sleep(0.1)
    assert not _is_running(child)


def _is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("function", "text"), [(candidates.exits, "exit status 7"), (candidates.aborts, "SIGABRT")]
)
@pytest.mark.skipif(os.name == "nt", reason="signals have these names on POSIX alone")
def test_the_end_of_the_process_is_a_crash(function, text):
    found = verdict(in_process(function), examples=5)
    assert found.verdict == "crashes"
    assert text in found.message
    assert found.cases == 2  # then it is given up


def test_the_last_words_of_a_crash_are_shown():
    assert "printed: the last words" in verdict(in_process(candidates.exits)).message


def test_after_a_crash_the_check_goes_on_in_a_new_process():
    found = verdict(in_process(candidates.exits_in_second_case))
    assert found.verdict == "crashes"
    assert [each.case.name for each in found.failed] == ["two-steps"]
    assert found.cases == 4


def test_what_is_kept_from_another_case_is_found_in_a_new_process():
    found = verdict(in_process(candidates.keeps_the_first))
    assert found.verdict == "keeps-state"
    assert "as the first call of a new process this case is right" in found.message
    assert found.diagnosis is None


def test_what_a_candidate_cannot_do_is_skipped():
    found = verdict(candidates.unsupported)
    assert (found.verdict, found.cases, found.skipped) == ("skipped", 0, 4)
    assert "only by hand" in found.message
    report = check(candidates.unsupported, ["maml"], arrays="numpy", examples=0)
    assert (report.passed, report.judged) == (False, False)
    part = verdict(candidates.unsupported_in_part)
    assert (part.verdict, part.cases, part.skipped) == ("correct", 3, 1)


def test_bad_input_that_is_accepted_is_told_and_no_failure():
    assert verdict(candidates.right).accepted_bad_input == ()
    careless = check(lambda params, data, settings: {"loss": 1.0}, ["maml"], examples=0).verdicts[0]
    assert careless.accepted_bad_input == ("not-finite",)


def test_what_was_not_returned_is_said():
    found = verdict(candidates.loss_alone)
    assert (found.verdict, found.outputs, found.unjudged) == ("correct-in-part", ("loss",), ("gradients",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("no_such_peer", "expected package.module:function"),
        ("no_such_file.py:f", "there is no file no_such_file.py"),
        ("CANDIDATES:righ", "has no function 'righ'; it has right, torch_maml"),
        ("CANDIDATES:not_a_function", "is a int; expected a function"),
    ],
)
def test_what_cannot_be_found_is_one_error(name, text):
    with pytest.raises(CandidateError) as raised:
        check(name.replace("CANDIDATES", str(CANDIDATES)), ["maml"], arrays="numpy", examples=0)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("raise ValueError('broken')", "ValueError: broken"),
        ("import no_such_dependency", "No module named 'no_such_dependency'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def f(:", "SyntaxError"),
        ("import os; os._exit(5)", "exit status 5"),
    ],
)
def test_what_cannot_be_imported_is_one_error(content, text, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(content)
    with pytest.raises(CandidateError) as raised:
        runner(f"{file}:f", arrays="numpy")
    assert "cannot be imported" in str(raised.value)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"arrays": "tensorflow"}, {"dtype": "float16"}, {"timeout": 0.0}, {"timeout": -1.0}]
)
def test_options_that_do_not_exist_are_refused(options):
    with pytest.raises(SettingError, match=next(iter(options))):
        runner(candidates.right, **options)


def test_a_runner_says_what_changed():
    case, maml = few_cases()[0], computation("maml")
    with runner(candidates.changes_params, arrays="numpy") as calls:
        assert calls.run(maml, case).changed == ("params.0.weight",)
    with runner(candidates.right, arrays="numpy") as calls:
        assert calls.run(maml, case).changed == ()


def test_a_function_that_hung_is_left_alone():
    calls = []

    def hangs_once(params, data, settings):
        calls.append(settings)
        time.sleep(1.0)

    case, maml = few_cases()[0], computation("maml")
    with runner(hangs_once, arrays="numpy", timeout=0.1) as asked:
        kinds = [asked.run(maml, case).problem.kind for _ in range(3)]
    assert kinds == ["hangs"] * 3
    assert len(calls) == 1
