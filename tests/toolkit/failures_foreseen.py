"""How well failures on unseen Omniglot characters are foreseen, beside mean confidence: a script."""

import argparse

import numpy as np

import mltk
from mltk.task_analysis import Measures, ceiling
from mltk.toolkit import FailurePredictor, gather

FIT, TEST, QUERIES = 2000, 3000, 5
THRESHOLDS = {5: 0.7, 20: 0.5}
PLAIN = mltk.algorithms.Prototypical(mltk.models.Sequential([]))


def embedded(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drawings that training has not seen as a prototypical network sees them, characters, alphabets."""
    backend, data = mltk.backend("torch"), mltk.data.Omniglot("small1")
    learner = mltk.algorithms.Prototypical(mltk.models.conv4(in_channels=1, image_size=28, width=16))
    train = data.tasks(ways=5, shots=1, queries=15)
    params = mltk.train(learner, train, backend=backend, steps=steps, meta_batch=4, seed=seed).meta_params
    pictures = data.held_out().pictures
    images = np.split(pictures.images.astype(np.float32), range(500, len(pictures.images), 500))
    features = [learner.embedding.apply(params, backend.asarray(part[None]))[0] for part in images]
    characters, alphabets = (np.repeat(each, pictures.counts) for each in (pictures.names, pictures.groups))
    return np.concatenate([backend.to_numpy(part) for part in features]), characters, alphabets


def without(known: Measures, sign: str) -> Measures:
    """The measures but one."""
    arrays = {name: values for name, values in known.items() if not name.startswith(sign)}
    return Measures(arrays, {name: known.needs[name] for name in arrays})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    x, characters, alphabets = embedded(options.steps, options.seed)
    names = np.random.default_rng(options.seed).permutation(np.unique(alphabets))
    of_fit = np.isin(alphabets, names[: len(names) // 2])
    print(f"alphabets: {len(names) // 2} to learn from, {len(names) - len(names) // 2} to test on")
    learners = {"means": (PLAIN, {})}
    for ways, threshold in THRESHOLDS.items():
        fit, test, calibration = (
            gather(
                learners,
                mltk.data.Arrays(x[part], characters[part], alphabets[part]).tasks(
                    ways=ways, shots=1, queries=QUERIES
                ),
                episodes=episodes,
                seed=seed,
                backend=mltk.backend("numpy"),
            )
            for part, episodes, seed in ((of_fit, FIT, 0), (~of_fit, TEST, 1), (~of_fit, TEST // 3, 2))
        )
        print(f"\n{ways}-way: ceiling {ceiling(test.outcomes[0], ways * QUERIES)[1]}")
        told = {"outcomes": test.outcomes[0], "classes": test.classes, "beside": "confidence of means"}
        for model, sign in (("logistic", "no"), ("logistic", "unevenness"), ("boosting", "no")):
            known = [without(each.known, sign) for each in (fit, test, calibration)]
            predictor = FailurePredictor(threshold, model=model)
            fitted = predictor.fit(known[0], fit.outcomes[0], classes=fit.classes)
            print(f"\n{model}, {sign} sign left out: {fitted.judge(known[1], **told)}")
            for alpha in (0.05, 0.1):
                rule = fitted.control(known[2], calibration.outcomes[0], alpha=alpha)
                accepted = rule.accept(known[1])
                failed = (test.outcomes[0][accepted] < threshold).mean() if accepted.any() else np.nan
                print(f"  at most {alpha}: {accepted.mean():.3f} accepted, {failed:.4f} of which fail")
