"""The best that bandits allow, against published tables, other derivations and every way to play."""

from functools import cache

import numpy as np
import pytest

from mltk.errors import SettingError
from mltk.task_analysis import best_return, gittins_index

ARMS = [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("arm", "discount", "index"),
    [
        ((1, 1), 0.9, 0.7029),
        ((2, 2), 0.9, 0.6346),
        ((3, 3), 0.9, 0.6010),
        ((10, 2), 0.9, 0.8695),
        ((1, 1), 0.99, 0.8699),
    ],
)
def test_the_index_is_that_of_published_tables(arm, discount, index):
    """As printed in Christian & Griffiths 2016, chapter 2."""
    assert gittins_index(*arm, discount=discount) == pytest.approx(index, abs=5e-5)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 2.5), (7, 3)])
def test_the_index_is_that_of_restarting_in_the_state(a, b):
    """Katehakis & Veinott 1987: the value of an arm that may be put back to this state at every pull."""
    discount, pulls = 0.6, 40
    n, s = np.meshgrid(np.arange(pulls), np.arange(pulls), indexing="ij")
    mean = (a + s) / (a + b + n)
    value = np.zeros((pulls + 1, pulls + 1))
    for _ in range(60):
        go_on = mean * (1 + discount * value[1:, 1:]) + (1 - mean) * discount * value[1:, :-1]
        value[:-1, :-1] = np.maximum(go_on, go_on[0, 0])
        value[-1] = go_on[0, 0]
    assert gittins_index(a, b, discount=discount) == pytest.approx((1 - discount) * value[0, 0], abs=1e-7)


def test_an_index_is_above_the_mean_and_grows_with_what_the_future_counts():
    indices = [gittins_index(2, 3, discount=discount) for discount in (1e-6, 0.3, 0.6, 0.9)]
    assert indices[0] == pytest.approx(0.4, abs=1e-5)
    assert (np.diff(indices) > 0.01).all()


def played(choose, arms, pulls, discount):
    """The expected return of a way to play."""

    @cache
    def value(state, left):
        if not left:
            return 0.0
        found = []
        for arm, (a, b) in enumerate(state):
            won, lost = ((*state[:arm], new, *state[arm + 1 :]) for new in ((a + 1, b), (a, b + 1)))
            found.append(
                lambda a=a, b=b, won=won, lost=lost: (
                    (a * (1 + discount * value(won, left - 1)) + b * discount * value(lost, left - 1))
                    / (a + b)
                )
            )
        return choose(state, found)

    return value(tuple(arms), pulls)


def test_the_index_plays_best_for_ever_and_is_beaten_where_the_end_is_known():
    @cache
    def index(arm):
        return gittins_index(*arm, discount=0.5)

    def by_index(state, values):
        return values[int(np.argmax([index(arm) for arm in state]))]()

    def by_mean(state, values):
        return values[int(np.argmax([a / (a + b) for a, b in state]))]()

    best = best_return([(1, 2), (5, 9)], pulls=16, discount=0.5)
    assert played(by_index, [(1, 2), (5, 9)], 16, 0.5) == pytest.approx(best, abs=4e-5)
    assert played(by_mean, [(1, 2), (5, 9)], 16, 0.5) < best - 1e-3
    assert played(by_index, [(1, 1), (1, 1)], 12, 1.0) < best_return([(1, 1), (1, 1)], pulls=12) - 1e-3


@pytest.mark.parametrize(
    ("arms", "pulls", "discount"),
    [([(1, 1)], 6, 0.9), (ARMS, 6, 1.0), ([(1, 3), (2, 2), (0.5, 0.5)], 5, 0.8)],
)
def test_the_best_return_is_that_of_every_way_to_play(arms, pulls, discount):
    expected = played(lambda _, values: max(value() for value in values), arms, pulls, discount)
    assert best_return(arms, pulls=pulls, discount=discount) == pytest.approx(expected, rel=1e-12)


def test_what_is_no_bandit_is_refused():
    out_of_range = ((0, 1, 0.9), (1, -1, 0.9), (1, np.inf, 0.9), (1, 1, 1.0), (1, 1, 0.0))
    for arguments in (*out_of_range, ("1", 1, 0.9), (None, 1, 0.9), (1, 1, "a")):
        with pytest.raises(SettingError):
            gittins_index(*arguments[:2], discount=arguments[2])
    out_of_range = (([], 1, 1.0), (ARMS, 0, 1.0), (ARMS, 1, 1.5), ([(1, 0)], 1, 1.0), ([(1, 1)] * 20, 1, 1.0))
    no_arms = (([(1, 1, 1)], 1, 1.0), ([1], 1, 1.0), (None, 1, 1.0), (ARMS, 1, "a"))
    for arms, pulls, discount in (*out_of_range, *no_arms):
        with pytest.raises(SettingError):
            best_return(arms, pulls=pulls, discount=discount)
