"""What a memory of sinusoids is worth: ``python tests/toolkit/transfer_gains.py``, a minute on one core.

MAML is trained for one step of ten examples. Retrieval: the key of a new task finds remembered ones whose
true curves are near. Steps: errors after so many steps from the warm start and from the meta-parameters, on
the same tasks. Unrelated: what a memory of other curves costs, judged and unjudged.
"""

import numpy as np
from scipy.stats import spearmanr
from sinusoids import distances, drawn, errors, interval, trained

import mltk
from mltk.toolkit import KnowledgeTransfer

TASKS = 1000


def shown(differences):
    mean, half = interval(differences)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def middle(values):
    return f"median {np.median(values):.3f}, mean {values.mean():.3g}"


def retrieval(params, maml):
    seen_x, seen_y, seen = drawn(200, 20, 0)
    x, y, curves = drawn(TASKS, 10, 1)
    true = distances(curves, seen)
    print(f"mean squared distance: of all {true.mean():.2f}, of the nearest {true.min(1).mean():.3f}")
    for key in ("adaptation", "fisher", "embedding"):
        transfer = KnowledgeTransfer(maml, params, key=key, caution=None)
        transfer.remember(seen_x, seen_y)
        similarity = transfer.recall(x, y).similarity
        found = true[np.arange(TASKS), similarity.argmax(1)]
        rank = [spearmanr(a, -b).statistic for a, b in zip(similarity, true, strict=True)]
        place = (true < found[:, None]).mean(1)
        print(
            f"{key:10}  nearest 10 %: {(place < 0.1).mean():.2f}  distance {found.mean():.2f}  "
            f"rank correlation {np.mean(rank):.2f}"
        )


def steps(params, maml):
    memory = drawn(200, 20, 0)[:2]
    for shots in (5, 10):
        x, y, curves = drawn(TASKS, shots, 1)
        cold = {}
        for count in (1, 2, 3, 5, 10):
            learner = mltk.algorithms.MAML(maml.model, "mse", inner_steps=count)
            cold[count] = errors(learner, params, x, y, curves)
            print(f"{shots} shots, {count} steps: {middle(cold[count])}")
        for key in ("adaptation", "fisher", "embedding"):
            transfer = KnowledgeTransfer(maml, params, key=key)
            transfer.remember(*memory, rounds=30)
            warm, used = errors(transfer, params, x, y, curves), transfer.recall(x, y).used.mean()
            print(f"  {key}, warm start of {used:.0%}, 1 step: {middle(warm)}")
            for count in (1, 5):
                if cold[count].max() < 1e3:
                    print(f"    less {count} steps: {shown(warm - cold[count])}")


def unrelated(params, maml):
    rng = np.random.default_rng(5)
    x, y, _ = drawn(200, 20, 0)
    families = {
        "random targets": (x, rng.normal(0, 3, y.shape)),
        "straight lines": drawn(200, 20, 0, lambda x: 0.6 * x)[:2],
        "parabolas": drawn(200, 20, 0, lambda x: 0.1 * x**2)[:2],
        "fast sinusoids": drawn(200, 20, 0, lambda x: np.sin(3 * x))[:2],
        "sinusoids, the other way up": (x, -y),
    }
    for shots in (5, 10):
        new_x, new_y, curves = drawn(TASKS, shots, 1)
        cold = errors(maml, params, new_x, new_y, curves)
        for name, memory in families.items():
            told = []
            for caution, novelty in ((None, 0.0), (1.0, 0.0), (1.0, 0.05)):
                transfer = KnowledgeTransfer(maml, params, caution=caution, novelty=novelty)
                transfer.remember(*memory)
                told.append(
                    f"{caution}, {novelty}: {shown(errors(transfer, params, new_x, new_y, curves) - cold)}"
                )
            print(f"{shots} shots, {name}: " + "  ".join(told))


if __name__ == "__main__":
    maml, params = trained(3000)
    retrieval(params, maml)
    with np.errstate(all="ignore"):  # of five examples some tasks diverge in five steps
        steps(params, maml)
    unrelated(params, maml)
