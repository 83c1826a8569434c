"""A setting is checked as the type of its field says."""

from dataclasses import InitVar, dataclass, field
from inspect import signature
from typing import ClassVar, Literal

import pytest

from mltk.checks import (
    Bounds,
    Checked,
    Count,
    CountOrZero,
    Flag,
    NonNegative,
    Number,
    Part,
    Positive,
    Several,
    checked,
)
from mltk.errors import SettingError


@dataclass(frozen=True)
class Waves(Checked):
    shots: Count = 1
    skipped: CountOrZero = 0
    ways: Several = 2
    shift: Number = 0.0
    noise: NonNegative = 0.0
    width: Positive = 1.0
    share: Part = 0.5
    phase: Bounds = (0.0, 1.0)
    turned: Flag = False
    kind: Literal["sine", "square"] = "sine"
    features: Count | None = None
    shape: Literal["round"] | None = None
    mixed: float | Literal["learned"] = 1.0  # what has two forms is the class's own matter
    plain: object = None
    known: ClassVar[int] = 0


@dataclass(frozen=True)
class Higher(Waves):
    height: Positive = 1.0
    loud: InitVar[bool] = False
    derived: Count = field(init=False, default=3)

    def __post_init__(self, loud):
        super().__post_init__()
        if loud:
            raise SettingError("loud")


BAD = {
    "shots": (0, 1.0, True, "1", None),
    "skipped": (-1, 0.0),
    "ways": (1,),
    "shift": (float("nan"), float("inf"), "0", None, True),
    "noise": (-1e-9, float("nan")),
    "width": (0.0, -1.0),
    "share": (-0.1, 1.1, "half"),
    "phase": ((1.0, 0.0), 1.0, (0.0,), (0.0, float("inf"))),
    "turned": (1, None),
    "kind": ("cosine", None, 1),
    "features": (0, "1"),
    "shape": ("square",),
}


@pytest.mark.parametrize("settings", [Waves, Higher])
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_what_does_not_fit_its_field_is_refused_by_name(name, value, settings):
    with pytest.raises(SettingError, match=f"^{name} is .*; expected "):
        settings(**{name: value})


def test_a_subclass_adds_checks_and_keeps_those_above():
    with pytest.raises(SettingError, match="height"):
        Higher(height=0)
    with pytest.raises(SettingError, match="loud"):
        Higher(loud=True)


def test_what_fits_is_kept_as_it_is():
    given = {
        "shots": 3,
        "phase": [0, 1],
        "features": 2,
        "shape": "round",
        "mixed": "anything",
        "turned": True,
    }
    waves = Waves(**given)
    assert {name: getattr(waves, name) for name in given} == given
    assert Waves(features=None, shape=None) == Waves()


def test_of_several_wrong_settings_the_first_field_is_named():
    with pytest.raises(SettingError, match=r"^shots"):
        Waves(kind="cosine", shots=0)


def test_near_choices_are_suggested():
    with pytest.raises(SettingError, match=r"expected one of sine, square \(did you mean 'square'"):
        Waves(kind="squar")


@checked
def _wave(steps: Count, *, noise: NonNegative = -1.0, kind: Literal["sine", "square"] | None = None) -> str:
    return f"{steps} {noise} {kind}"


@pytest.mark.parametrize(
    ("given", "named", "error"),
    [((0,), {}, "steps is 0"), ((2,), {"noise": -1}, "noise is -1"), ((2,), {"kind": "sinus"}, "kind is")],
)
def test_a_function_declares_what_it_expects_of_what_is_given(given, named, error):
    with pytest.raises(SettingError, match=error):
        _wave(*given, **named)
    assert _wave(2, kind=None) == "2 -1.0 None"  # a default is nobody's mistake
    assert list(signature(_wave).parameters) == ["steps", "noise", "kind"]
