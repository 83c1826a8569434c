"""Alarms come as often as stated where nothing changes, and soon where something does."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

import mltk
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.toolkit.change_detection import POWERS, STAKES, run_length

ChangeDetector, Cusum, EDetector = (
    mltk.toolkit.ChangeDetector,
    mltk.toolkit.Cusum,
    mltk.toolkit.EDetector,
)


def markov_chain(threshold, shift, mean, cells=150):
    """The run length of one sum by a Markov chain on cells (Brook & Evans 1972)."""
    width = 2 * threshold / (2 * cells - 1)
    middle = width * np.arange(cells)
    edges = middle + width / 2
    below = ndtr(edges - middle[:, None] + shift / 2 - mean)
    kernel = np.diff(below, axis=1, prepend=0)
    return np.linalg.solve(np.eye(cells) - kernel, np.ones(cells))[0]


def test_run_lengths_are_those_of_the_published_tables():
    means = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5)
    found = [float(f"{run_length(4.0, mean=mean):.3g}") for mean in means]
    # Lucas & Crosier (1982), table 1, both sums, k = 1/2, h = 4
    assert found == [168, 74.2, 26.6, 13.3, 8.38, 4.75, 3.34, 2.62, 2.19, 1.71, 1.31]
    # Brook & Evans (1972), section 4.3: one sum, k = 1/2, h = 3; of both it is half
    assert 2 * run_length(3.0) == pytest.approx(117.59, abs=0.01)


@settings(max_examples=10)
@given(
    threshold=st.floats(0.2, 6),
    shift=st.floats(0.2, 3),
    mean=st.floats(-2, 2),
)
def test_run_lengths_are_those_of_a_markov_chain(threshold, shift, mean):
    both = 1 / sum(1 / markov_chain(threshold, shift, each) for each in (mean, -mean))
    assert run_length(threshold, shift, mean=mean) == pytest.approx(both, rel=5e-3)


@pytest.mark.parametrize(("wanted", "shift"), [(5, 1), (100, 0.1), (465, 1), (1000, 2), (1e5, 0.5)])
def test_the_threshold_gives_the_run_length(wanted, shift):
    detector = Cusum(run_length=wanted, shift=shift)
    assert run_length(detector.threshold, shift) == pytest.approx(wanted, rel=1e-6)
    # Siegmund (1985): exp(2kb) - 2kb - 1 over 2k² for one sum, b = h + 1.166
    b = shift * (detector.threshold + 1.166)
    if wanted >= 100:
        assert (math.expm1(b) - b) / shift**2 == pytest.approx(wanted, rel=0.12)


def first(alarms):
    """When the first alarm of each repetition came, counted from 1; a million where none did."""
    return np.where((alarms != 0).any(-1), (alarms != 0).argmax(-1) + 1, 10**6)


def test_the_sums_are_the_largest_of_any_stretch_up_to_now():
    z = np.random.default_rng(0).normal(0.2, 1, size=(40, 60))
    detector = Cusum(run_length=30, shift=0.8)
    _, alarms = detector.update(z)
    both = []
    for sign in (1, -1):
        walk = np.concatenate([np.zeros((40, 1)), np.cumsum(sign * z - 0.4, axis=1)], axis=1)
        both.append((walk - np.minimum.accumulate(walk, axis=1))[:, 1:])
    up, down = (each >= detector.threshold for each in both)
    assert (first(alarms) == first(up | down)).all()
    for row, time in enumerate(first(alarms)):
        if time < 10**6:
            assert alarms[row, time - 1] == (1 if up[row, time - 1] else -1)
    assert {-1, 0, 1} == set(np.unique(alarms))


def test_false_alarms_of_cusum_are_as_many_as_stated():
    z = np.random.default_rng(1).normal(size=(200, 3000))
    _, alarms = Cusum(run_length=60, shift=1).update(z)
    count = (alarms != 0).sum()
    expected = z.size / 60  # of a renewal process, so about as many, with a deviation of less than the root
    assert abs(count - expected) < 3 * math.sqrt(expected)
    assert abs((alarms == 1).sum() - count / 2) < 2 * math.sqrt(count)


def test_bets_are_fair():
    u = (np.arange(20000) + 0.5) / 20000
    assert EDetector._bets(u, None).mean(axis=0) == pytest.approx(np.ones(POWERS.size), abs=1e-4)
    for mean in (0.1, 0.5, 0.83):
        law = EDetector._bets(np.asarray([0.0, 1.0]), mean)
        assert (1 - mean) * law[0] + mean * law[1] == pytest.approx(np.ones(STAKES.size))
        assert (law >= 0).all()


@pytest.mark.parametrize("mean", [0.3, None])
def test_the_worth_of_the_bets_is_a_sum_over_all_times_that_they_may_begin_at(mean):
    x = np.random.default_rng(2).uniform(size=12)
    detector, _ = EDetector(run_length=1e9, mean=mean).update(x)
    for side, (values, of) in enumerate([(x, mean), (1 - x, None if mean is None else 1 - mean)]):
        increments = EDetector._bets(values, of)
        expected = sum(np.prod(increments[begin:], axis=0) for begin in range(12))
        assert detector.capital[side] == pytest.approx(expected)


def test_stopped_at_an_alarm_the_bets_are_worth_what_time_it_is_on_average():
    # The optional stopping that bounds the run length, exactly: over all sequences of a law of two points.
    mean, times = 0.3, 10
    sequences = np.asarray(list(itertools.product([0.0, 1.0], repeat=times)))
    weights = np.prod(np.where(sequences == 1, mean, 1 - mean), axis=1)
    detector = EDetector(run_length=1e12, mean=mean)
    sides = np.empty((*sequences.shape, 2))
    for time in range(times):
        detector, _ = detector.update(sequences[:, time : time + 1])
        sides[:, time] = detector.capital.mean(axis=-1) / 2
    for bound in (5, 20, 60):
        _, alarms = EDetector(run_length=bound, mean=mean).update(sequences)
        assert (first(alarms) == first((sides >= bound).any(-1))).all()
        stopped = np.minimum(first(alarms), times)
        assert (alarms != 0).any()
        at_stop = sides.sum(axis=-1)[np.arange(len(sides)), stopped - 1]
        assert weights @ at_stop == pytest.approx(weights @ stopped)


@dataclass(frozen=True)
class Notes:
    """A detector of one's own that never alarms, and keeps what it was given."""

    seen: list = field(default_factory=list)

    def update(self, values):
        self.seen.append(values)
        return self, np.zeros(values.shape, dtype=np.int8)

    def of_uniform(self, values):
        return values


def test_ranks_of_all_orders_are_independent_and_uniform():
    orders = np.asarray(list(itertools.permutations([0.3, -5.0, math.inf, 2.0, 7.0])))
    notes = Notes()
    ChangeDetector(notes).update(orders)
    u = np.concatenate(notes.seen, axis=-1)
    ranks = np.ceil(u * np.arange(1, 6)).astype(int)  # θ is below 1, so that this is how many are not above
    assert len(np.unique(ranks, axis=0)) == math.factorial(5)
    assert (ranks >= 1).all()
    assert (ranks <= np.arange(1, 6)).all()
    below = np.asarray([[(row[:t] < row[t]).sum() for t in range(5)] for row in orders])
    assert (ranks == below + 1).all()


def test_ranks_of_tied_values_are_independent_and_uniform():
    notes = Notes()
    rng = np.random.default_rng(3)
    ChangeDetector(notes).update(rng.choice([0.0, 0.0, 1.0], size=(40_000, 4)))
    u = np.concatenate(notes.seen, axis=-1)
    cells = np.floor(u[:, 1:] * 3).astype(int) @ [9, 3, 1]  # the three last ones together, in 27 cells
    counts = np.bincount(cells, minlength=27)
    expected = u.shape[0] / 27
    assert ((counts - expected) ** 2 / expected).sum() < 54  # chi-square of 26 degrees: one in a thousand


LAWS = {
    "heavy tails": lambda rng, size: rng.standard_cauchy(size),
    "ties": lambda rng, size: rng.poisson(0.7, size),
    "skewed": lambda rng, size: rng.exponential(size=size) ** 3,
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("detector", [Cusum(run_length=25, shift=1), EDetector(run_length=25)])
def test_false_alarms_of_any_values_are_as_few_as_stated(detector, law):
    values = LAWS[law](np.random.default_rng(4), (600, 250))
    _, alarms = ChangeDetector(detector).update(values)
    times = np.minimum(first(alarms), 250)
    error = times.std() / math.sqrt(times.size)
    if isinstance(detector, Cusum):
        assert abs(times.mean() - 25) < 3 * error
    assert times.mean() > 25 - 3 * error
    # Also after each alarm: it begins anew.
    assert (alarms != 0).sum() < values.size / 25 * 1.1


@pytest.mark.parametrize(
    ("detector", "soon"), [(Cusum(run_length=1000, shift=1), 5), (EDetector(run_length=1000), 6)]
)
def test_a_shift_of_two_deviations_is_found_within_few_values(detector, soon):
    rng = np.random.default_rng(5)
    for sign in (1, -1):
        values = rng.normal(size=(200, 140)) + sign * 2 * (np.arange(140) >= 100)
        _, alarms = ChangeDetector(detector).update(values)
        late = alarms[:, 100:]
        right = (alarms[:, :100] == 0).all(axis=1)
        assert np.median(first(late[right])) <= soon
        assert right.mean() > 0.85
        found = first(late) < 10**6
        directions = late[found, first(late)[found] - 1]
        assert (directions[right[found]] == sign).all()


def test_a_fall_begins_anew_so_that_a_later_rise_below_the_old_level_is_found():
    levels = np.repeat([10.0, 3.0, 6.0], 60)
    values = levels + np.random.default_rng(6).normal(size=180)
    _, alarms = ChangeDetector().update(values)
    fell, rose = np.flatnonzero(alarms == -1), np.flatnonzero(alarms == 1)
    assert len(fell) == len(rose) == 1
    assert 60 <= fell[0] < 70
    assert 120 <= rose[0] < 130


@pytest.mark.parametrize("detector", [EDetector(run_length=20), Cusum(run_length=20)])
def test_in_whatever_parts_values_come_the_alarms_are_the_same(detector):
    values = np.random.default_rng(7).normal(size=(3, 90))
    whole, alarms = ChangeDetector(detector, seed=5).update(values)
    parts, found = ChangeDetector(detector, seed=5), []
    for size in np.split(np.arange(90), [1, 2, 30, 31, 77]):
        parts, some = parts.update(values[:, size])
        found.append(some)
    assert (np.concatenate(found, axis=-1) == alarms).all()
    assert np.array_equal(parts.known, whole.known, equal_nan=True)
    assert (alarms != 0).any()
    other = ChangeDetector(detector, seed=6).update(values)[1]
    assert (other != alarms).any()


def test_values_that_are_no_stream_and_settings_that_make_no_sense_are_refused():
    detector = ChangeDetector()
    with pytest.raises(NotFiniteError, match="values has NaN"):
        detector.update([1.0, math.nan])
    with pytest.raises(ShapeError, match="values has no axis"):
        detector.update(1.0)
    for values in ([0.5, 1.2], [-0.1]):
        with pytest.raises(SettingError, match="expected numbers from 0 to 1"):
            EDetector().update(values)
    with pytest.raises(SettingError, match=r"run_length is 1\.5; expected a number above 1\.62"):
        Cusum(run_length=1.5)
    with pytest.raises(SettingError, match="shift is 9"):
        Cusum(shift=9)
    with pytest.raises(SettingError, match="mean is 1; expected a number between 0 and 1"):
        EDetector(mean=1)
    for wrong in (EDetector(mean=0.5), "cusum"):
        with pytest.raises(SettingError, match=r"detector is .*expected a Cusum, or an EDetector"):
            ChangeDetector(wrong)
