"""Transfer where the truth is known: sinusoids have an amplitude and a phase."""

import numpy as np
from scipy.stats import spearmanr
from sinusoids import distances, drawn, errors, interval, trained

from mltk.algorithms import MAML
from mltk.toolkit import KnowledgeTransfer


def test_the_nearest_sinusoids_are_found():
    """Chance retrieves at the 50th percentile of the true distances."""
    maml, params = trained()
    seen_x, seen_y, seen = drawn(150, 20, 0)
    x, y, curves = drawn(60, 10, 1)
    true = distances(curves, seen)
    for key, most, least in (("adaptation", 0.1, 0.6), ("fisher", 0.2, 0.5), ("embedding", 0.2, 0.3)):
        transfer = KnowledgeTransfer(maml, params, key=key, caution=None)
        transfer.remember(seen_x, seen_y, rounds=1)
        similarity = transfer.recall(x, y).similarity
        found = true[np.arange(60), similarity.argmax(1)]
        assert np.median((true < found[:, None]).mean(1)) < most
        assert np.mean([spearmanr(a, -b).statistic for a, b in zip(similarity, true, strict=True)]) > least


def test_one_step_from_a_warm_start_beats_five_from_the_meta_parameters():
    maml, params = trained()
    x, y, curves = drawn(150, 10, 1)
    transfer = KnowledgeTransfer(maml, params)
    transfer.remember(*drawn(150, 20, 0)[:2], rounds=30)
    more = MAML(maml.model, "mse", inner_steps=5)
    mean, half = interval(errors(transfer, params, x, y, curves) - errors(more, params, x, y, curves))
    assert mean + half < 0


def test_unrelated_memories_cost_nothing_once_they_are_judged():
    maml, params = trained()
    x, y, curves = drawn(200, 10, 1)
    cold = errors(maml, params, x, y, curves)
    for curve in (lambda x: 0.6 * x, lambda x: 0.1 * x**2):
        seen = drawn(100, 20, 0, curve)[:2]
        costs = []
        for caution in (None, 1.0):
            transfer = KnowledgeTransfer(maml, params, caution=caution)
            transfer.remember(*seen)
            costs.append(interval(errors(transfer, params, x, y, curves) - cold))
        (bold, half), (careful, noise) = costs
        assert bold - half > 0.3
        assert careful - noise < 0
