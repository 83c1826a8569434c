"""Plans: the power that was asked for is reached, and where it cannot be, that is said."""

import coverage
import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtrit

import mltk
from mltk.errors import SettingError, ShapeError
from mltk.evaluation import Evaluation, plan
from mltk.evaluation.planning import _power


@pytest.mark.parametrize("freedom", [1, 3, 10, 100, 999, 50_000, 10**7])
@pytest.mark.parametrize("shift", [0.1, 1.0, 2.8, 3.99, 4.01])
def test_power_is_that_of_the_noncentral_t(freedom, shift):
    critical = stdtrit(freedom, 0.975)
    expected = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
    assert _power(shift * 0.3, 0.09, freedom, 0.95) == pytest.approx(expected, rel=1e-5)


def test_power_rises_to_one():
    for freedom in (5, 999, 10**4, 10**7):
        found = [_power(shift, 1.0, freedom, 0.95) for shift in np.linspace(3, 60, 100)]
        assert (np.diff(found) > -1e-9).all()
        assert found[-1] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("effect", "tasks"), [(0.01, 120), (0.005, 478), (0.001, 11_940)])
def test_tasks_are_those_of_the_usual_rule_and_two_more(effect, tasks):
    """(z₀.₉₇₅ + z₀.₈)² (s/δ)², and about z²/2 more for the t distribution."""
    assert plan(effect, pilot=0.039).tasks == pytest.approx(tasks + 2, abs=2)
    assert plan(-effect, pilot=0.039).tasks == plan(effect, pilot=0.039).tasks


def test_the_tasks_have_the_power_and_one_fewer_has_not():
    found = plan(0.02, 0.9, pilot=0.03, level=0.99)
    power = [_power(0.02, 0.03**2 / n, n - 1, 0.99) for n in (found.tasks, found.tasks - 1)]
    assert power[0] >= 0.9 > power[1]
    differences = np.random.default_rng(0).normal(0.02, 0.03, (20_000, found.tasks))
    p_values = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert np.mean(p_values < 0.01) == pytest.approx(power[0], abs=0.008)


def pilot(classes, tasks, seed=0, alike=1.0):
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((tasks, classes)), axis=1)[:, :5]
    values = alike * rng.normal(0, 0.02, classes)[chosen].sum(1) + rng.normal(0, 0.05, tasks)
    return Evaluation("accuracy", values, classes=chosen)


def test_over_classes_the_power_is_reached():
    known = pilot(300, 20_000)
    effect = 0.03
    found = plan(effect, pilot=known, over="classes", units=100)
    assert found.units == 100
    assert found.tasks > 2 * plan(effect, pilot=known).tasks
    held = [pilot(100, found.tasks, seed).interval("classes") for seed in range(1, 501)]
    assert np.mean([effect + each.low > 0 for each in held]) == pytest.approx(0.8, abs=0.06)


def test_where_classes_are_too_few_no_number_of_tasks_is_enough():
    known = pilot(300, 20_000)
    found = plan(0.03, pilot=known, over="classes", units=30)
    assert found.tasks is None
    assert found.reached < 0.8
    assert 30 < found.units_needed < 200
    assert plan(0.03, pilot=known, over="classes", units=found.units_needed).tasks is not None
    assert plan(0.03, pilot=known, over="classes", units=found.units_needed - 1).tasks is None
    assert f"at least {found.units_needed} classes" in str(found)
    assert f"power {found.reached:.2f} with 30 classes" in repr(found)


def test_where_classes_do_not_matter_all_is_up_to_the_tasks():
    found = plan(0.01, pilot=pilot(50, 5000, alike=0.0), over="classes")
    assert found.reached > 0.99
    assert found.tasks is not None


def test_pilots_may_be_two_evaluations_differences_or_their_deviation():
    one = coverage.judged(np.random.default_rng(1), 100, 10)
    values = one.values - 0.1 * np.random.default_rng(2).random(600)
    other = Evaluation("accuracy", values, classes=one.classes, groups=one.groups)
    apart = one.values - values
    tasks = plan(0.005, pilot=(one, other)).tasks
    assert tasks == plan(0.005, pilot=apart).tasks == plan(0.005, pilot=float(apart.std(ddof=1))).tasks
    assert plan(0.005, pilot=(one, other), over="groups").units == 10


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"effect": 0}, SettingError, "effect is 0"),
        ({"effect": float("nan")}, SettingError, "effect is nan"),
        ({"power": 80}, SettingError, "power is 80"),
        ({"level": 95}, SettingError, "level is 95"),
        ({"over": "seeds"}, SettingError, "over is 'seeds'"),
        ({"over": "classes"}, SettingError, "does not say which classes"),
        ({"units": 1}, SettingError, "units is 1"),
        ({"units": 5}, SettingError, "units is 5, of which there are none"),
        ({"pilot": 0.0}, SettingError, "pilot is 0.0"),
        ({"pilot": "x"}, SettingError, "pilot is 'x'; expected two evaluations"),
        ({"pilot": {}}, SettingError, "pilot is {}; expected two evaluations"),
        ({"pilot": np.zeros(1)}, ShapeError, r"pilot has shape \(1,\)"),
        (
            {"pilot": (Evaluation("mse", np.zeros(3)), Evaluation("mse", np.zeros(4)))},
            ShapeError,
            "not of the same ones",
        ),
        (
            {"pilot": Evaluation("mse", np.arange(3.0), classes=np.zeros((3, 1), int)), "over": "classes"},
            SettingError,
            "tells nothing of other classes",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        mltk.evaluation.plan(**{"effect": 0.01, "pilot": 0.04, **options})


def test_beyond_all_numbers_it_says_so():
    assert str(plan(1e-9, pilot=0.039)).startswith(
        "more than 1,000,000,000 tasks of these classes are needed to find"
    )
