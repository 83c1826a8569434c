"""How the errors of runs within unseen alphabets fall with more computing: a command, not a test.

    python tests/toolkit/within_alphabet.py RUN [RUN…] [--runs 100] [--levels 1 2 4 8 16 32]

Each RUN is the folder of a training on Omniglot; of several, the others are members of an ensemble, and those
of small images see the mean of so many pixels. In each run, 20 characters of one alphabet that the training
has not seen are drawn by one person, and to be recognised when drawn by another, as in the Omniglot
challenge. Alphabets come in turn; the intervals are over them.
"""

import argparse

import numpy as np
from within_alphabet_training import dataset, jitter

import mltk
from mltk.evaluation import within_alphabet_runs
from mltk.evaluation.sign_flips import sign_flips


class WithinAlphabets:
    """Runs of the form of the Omniglot challenge, as tasks."""

    def __init__(self, dataset, ways=20):
        names, counts = np.unique(dataset.pictures.groups, return_counts=True)
        self.ways = ways
        self.group_names = tuple(name for name, count in zip(names, counts, strict=True) if count >= ways)
        self.datasets = [
            mltk.data.Omniglot(
                "background" if dataset.split else dataset.part, dataset.image_size, alphabets=(name,)
            )
            for name in self.group_names
        ]

    def sample(self, n_tasks, rng, backend):
        chosen = np.resize(rng.permutation(len(self.datasets)), n_tasks)
        runs = [
            within_alphabet_runs(self.datasets[one], runs=1, ways=self.ways, seed=int(rng.integers(2**31)))
            for one in chosen
        ]
        arrays = (np.concatenate([each[part] for each in runs]) for part in (1, 2, 3))
        episode = mltk.evaluation.Runs(("",) * n_tasks, *arrays).episode(backend)
        labels = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
        groups = np.repeat(chosen[:, None], self.ways, axis=1)
        return mltk.Episode(*labels, ways=self.ways, backend=backend, groups=groups)


class OfSmallerImages:
    """A learner that sees images at a part of their size, the means of squares of pixels."""

    def __init__(self, learner, part):
        self.learner, self.part = learner, part

    def _seen(self, x):
        *leading, height, width = x.shape
        squares = x.reshape(*leading, height // self.part, self.part, width // self.part, self.part)
        return squares.mean((-3, -1))

    def adapt(self, meta_params, x, y):
        return self.learner.adapt(meta_params, self._seen(x), y)

    def predict(self, state, x):
        return self.learner.predict(state, self._seen(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--mean", default="probabilities")
    parser.add_argument("--no-views", action="store_true")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--sizes", type=int, nargs="+", help="of the images of each run; 28")
    parser.add_argument("--part", help="of Omniglot, to test on; what the first training has not seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--price", type=float, help="of a pass, to learn an allocation by")
    wanted = parser.parse_args()
    saved = [mltk.load_run(folder) for folder in wanted.folders]
    sizes = wanted.sizes or [28] * len(saved)
    size = max(sizes)
    members = [
        (
            each.algorithm if size == own else OfSmallerImages(each.algorithm, size // own),
            each.run.meta_params,
        )
        for each, own in zip(saved, sizes, strict=True)
    ]
    scaler = mltk.toolkit.TestTimeScaler(
        members[0][0],
        views=None if wanted.no_views else jitter(size, wanted.strength),
        members=tuple(members[1:]),
        mean=wanted.mean,
    )
    tasks = WithinAlphabets(dataset(wanted.part, size) if wanted.part else saved[0].tasks.dataset.held_out())
    found = mltk.toolkit.scaling(
        scaler,
        members[0][1],
        tasks,
        episodes=wanted.runs,
        levels=wanted.levels,
        seed=wanted.seed,
        backend=saved[0].backend,
        batch=2,
        progress=True,
    )
    print(found)
    print(f"over {len(tasks.group_names)} alphabets:")
    plain = found.at(1).values
    for level in found.levels:
        error, gain = 1 - found.at(level).values, found.at(level).values - plain
        line = f"{level:3}×: error {100 * error.mean():5.2f} %"
        if level > 1:
            over = found.gain(level, over="groups").difference
            part = 100 * gain.mean() / (1 - plain).mean()
            line += f", {part:.0f} % less; {over}, p = {sign_flips(gain).p:.2g} over runs"
        print(line)
    print(f"a doubling: {found.trend(over='groups')}; Page's test over runs: p = {found.page():.2g}")
    if wanted.price is not None:
        print(mltk.toolkit.Allocation(price=wanted.price).fit(found))


if __name__ == "__main__":
    main()
