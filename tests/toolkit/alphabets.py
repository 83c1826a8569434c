"""The transfer matrix of alphabets of Omniglot: ``MLTK_DATA=… python tests/toolkit/alphabets.py out.svg``.

MAML is trained within the alphabets of the first small part; each of some other alphabets of the background
part has a memory, and tasks of each are solved with each: the accuracy less that without a memory.
"""

import argparse

import mltk
from mltk.toolkit import KnowledgeTransfer, transfer_matrix

FORM = {"ways": 5, "shots": 5, "queries": 5}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--alphabets", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--unjudged", action="store_true", help="a warm start in any case")
    arguments = parser.parse_args()
    backend, train = mltk.backend("torch"), mltk.data.Omniglot("small1")
    model = mltk.models.conv4(in_channels=1, image_size=28, width=16, out_features=5)
    maml = mltk.algorithms.MAML(model, "cross_entropy", inner_lr=0.4)
    tasks = train.tasks(**FORM, within="alphabet")
    run = mltk.train(maml, tasks, backend=backend, steps=arguments.steps, seed=0)
    names = mltk.data.Omniglot.held_out(train).group_names[: arguments.alphabets]
    sources = {name: mltk.data.Omniglot(alphabets=(name,)).tasks(**FORM) for name in names}
    transfer = KnowledgeTransfer(
        maml, run.meta_params, folds=5, caution=None if arguments.unjudged else 1.0, neighbours=20
    )
    found = transfer_matrix(transfer, sources, remembered=40, rounds=3, episodes=arguments.episodes)
    print(found)
    print({name: round(float(value), 4) for name, value in zip(found.names, found.without, strict=True)})
    mltk.pictures.transfer_matrix(
        100 * found.gains,
        found.names,
        arguments.out,
        low=100 * found.low,
        high=100 * found.high,
        label="accuracy gained, in points",
        title="Warm starts between alphabets",
    )


if __name__ == "__main__":
    main()
