"""The check of a candidate: its verdicts, and the settings that candidates see."""

import json

import oracle_candidates as candidates
import pytest
from oracle_cases import CANDIDATES, few_cases, few_vectors, maml_case, verdict  # noqa: F401

from mltk.errors import TreeError, UnsupportedError
from mltk.oracle import vectors
from mltk.oracle.candidate.settings import Settings
from mltk.oracle.check import check
from mltk.oracle.report_text import to_text
from mltk.peers import PEERS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("function", "arrays"),
    [(candidates.right, "numpy"), (candidates.torch_maml, "torch"), (candidates.right, "jax")],
)
def test_right_implementations_are_right_in_each_library_and_precision(function, arrays, dtype):
    if arrays == "jax":
        pytest.importorskip("jax", reason="jax is not installed")
    report = check(function, ["maml"], arrays=arrays, dtype=dtype, examples=15)
    assert report.passed
    (found,) = report.verdicts
    assert (found.verdict, found.smallest, found.snippet, found.diagnosis) == ("correct", None, None, None)
    assert found.cases == 4 + 15
    assert 0 <= found.worst_error <= found.tolerance
    assert (found.worst_error > 1e-10) == (dtype == "float32")  # it really computed in that precision


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_right_or_skipped_with_a_reason(peer, monkeypatch):
    monkeypatch.setattr(vectors, "stored", lambda name: few_cases()[:1])
    found = verdict(peer, arrays="torch")
    if peer.available() is not None:
        assert (found.verdict, found.message) == ("skipped", peer.available())
        pytest.skip(f"{peer.name}: {peer.available()}")
    assert (found.verdict, found.message) == ("correct", "")


def test_a_peer_is_asked_only_for_what_it_computes():
    report = check(PEERS[0], ["anil"], examples=0)
    assert not report.judged
    assert report.verdicts[0].message == "computes maml and fomaml alone"


def test_a_mistake_is_named():
    found = verdict(candidates.torch_first_order, arrays="torch", examples=20)
    assert found.verdict == "wrong"
    assert found.diagnosis.names == ("first-order",)
    assert "first-order" in to_text(check(candidates.torch_first_order, ["maml"], examples=0))


def test_json_of_a_report_is_json():
    for candidate in (candidates.right, candidates.double_loss, candidates.raises, candidates.unsupported):
        report = check(candidate, ["maml"], arrays="numpy", examples=5)
        content = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert content["format"] == 1
        assert content["passed"] == report.passed == (candidate is candidates.right)
        assert content["verdicts"][0]["verdict"] == report.verdicts[0].verdict


def test_settings_are_read_only_and_have_attributes():
    values = {"inner_lr": 0.1, "layers": [{"layer": "tanh"}]}
    settings = Settings(values)
    assert (settings.inner_lr, settings["inner_lr"], dict(settings)) == (0.1, 0.1, values)
    settings["layers"].append("more")
    assert values["layers"] == [{"layer": "tanh"}]
    with pytest.raises(TypeError):
        settings["inner_lr"] = 1
    with pytest.raises(AttributeError, match="there are inner_lr, layers"):
        _ = settings.inner_rate


def test_the_module_of_settings_holds_copies():
    import torch

    case = few_cases()[0]
    settings = Settings(case.settings)
    params = {name: torch.tensor(value) for name, value in case.inputs["params"].items()}
    module = settings.module(params)
    assert module.training
    for name, value in module.named_parameters():
        torch.testing.assert_close(value.detach(), params[name], rtol=0, atol=0)
        assert value.requires_grad
        value.data.add_(1)
    assert all((params[name].numpy() == value).all() for name, value in case.inputs["params"].items())
    assert settings.module(case.inputs["params"])[0].weight.dtype == torch.float64
    single = settings.module({name: value.float() for name, value in params.items()})
    assert single[0].weight.dtype == torch.float32
    assert settings.loss_function() is torch.nn.functional.mse_loss
    with pytest.raises(TreeError, match=r"expected those of the network: 0\.bias"):
        settings.module({"weight": params["0.weight"]})
    norm = Settings({"layers": [{"layer": "batch_norm", "features": 2, "statistics": "support"}]})
    with pytest.raises(UnsupportedError):
        norm.module({})
