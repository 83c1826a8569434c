"""How the errors of runs within unseen alphabets fall with more computing: a command, not a test.

    python tests/toolkit/within_alphabet.py RUN [RUN…] [--runs 100] [--levels 1 2 4 8 16 32]

Each RUN is the folder of a training on Omniglot; of several, the others are members of an ensemble. In each
run, 20 characters of one alphabet that the training has not seen are drawn by one person, and to be
recognised when drawn by another, as in the Omniglot challenge. Alphabets come in turn; the intervals are over
them.
"""

import argparse

import numpy as np

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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--mean", default="probabilities")
    parser.add_argument("--no-views", action="store_true")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--price", type=float, help="of a pass, to learn an allocation by")
    wanted = parser.parse_args()
    first, *others = (mltk.load_run(folder) for folder in wanted.folders)
    usual = mltk.data.Jitter()
    strengths = {name: wanted.strength * value for name, value in vars(usual).items()}
    scaler = mltk.toolkit.TestTimeScaler(
        first.algorithm,
        views=None if wanted.no_views else mltk.data.Jitter(**strengths),
        members=tuple((each.algorithm, each.run.meta_params) for each in others),
        mean=wanted.mean,
    )
    tasks = WithinAlphabets(first.tasks.dataset.held_out())
    found = mltk.toolkit.scaling(
        scaler,
        first.run.meta_params,
        tasks,
        episodes=wanted.runs,
        levels=wanted.levels,
        seed=wanted.seed,
        backend=first.backend,
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
