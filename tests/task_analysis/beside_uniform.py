"""Does a curriculum beat uniform sampling? Trainings paired by their seeds: run as a script.

    python tests/task_analysis/beside_uniform.py sinusoids --seeds 10 --steps 2000 --processes 2

The families are ``sinusoids``, ``glyphs`` and ``omniglot`` (its small background set, from ``$MLTK_DATA``).
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

import mltk
from mltk.evaluation import Evaluation, compare
from mltk.task_analysis.curricula import (
    ClassConditional,
    ClassPairs,
    Curriculum,
    HardMining,
    UniformDifficulty,
)

OF_ALL = {
    "uniform": lambda tasks, steps: tasks,
    "UniformDifficulty": lambda tasks, steps: UniformDifficulty(tasks),
    "UniformDifficulty, unbiased": lambda tasks, steps: UniformDifficulty(tasks, "tasks"),
    "HardMining": lambda tasks, steps: HardMining(tasks, candidates=2),
    "Curriculum": lambda tasks, steps: Curriculum(tasks, steps=steps // 2, candidates=2),
}
OF_CLASSES = {
    "ClassConditional": lambda tasks, steps: ClassConditional(tasks),
    "ClassPairs": lambda tasks, steps: ClassPairs(tasks),
}


def family(name):
    """Tasks to train on, others, a learner, its backend, what else `mltk.train` is told, the curricula."""
    if name == "sinusoids":
        tasks = mltk.data.Sinusoid(shots=5, queries=10)
        learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
        return tasks, tasks, learner, mltk.backend("numpy"), {"meta_batch": 10}, OF_ALL
    images = mltk.data.Glyphs(alphabets=12) if name == "glyphs" else mltk.data.Omniglot("small1")
    tasks = images.tasks(ways=5, shots=1, queries=5)
    unseen = images.held_out().tasks(ways=5, shots=1, queries=15)
    learner = mltk.algorithms.Prototypical(mltk.models.conv4(in_channels=1, image_size=28, width=16))
    return tasks, unseen, learner, mltk.backend("torch"), {"meta_batch": 4}, OF_ALL | OF_CLASSES


def trained(name, curriculum, steps, seed, episodes):
    """What a training with this seed reaches on unseen tasks, and the seconds of the processor it took."""
    tasks, unseen, learner, backend, settings, curricula = family(name)
    source = curricula[curriculum](tasks, steps)
    if backend.name == "torch":
        import torch

        torch.set_num_threads(1)
    start = time.process_time()
    run = mltk.train(learner, source, backend=backend, steps=steps, seed=seed, **settings)
    seconds = time.process_time() - start
    return mltk.evaluate(learner, run.meta_params, unseen, episodes=episodes, backend=backend), seconds


def of_seeds(runs):
    """The trainings of all seeds, on the same unseen tasks, as one evaluation; and their seconds."""
    first, by_run = runs[0][0], np.stack([evaluation.values for evaluation, _ in runs])
    found = replace(first, values=by_run.mean(axis=0), by_run=by_run)
    return found, sum(seconds for _, seconds in runs)


def table(found: dict[str, tuple[Evaluation, float]]) -> str:
    """A line for each: what was reached, less that of uniform sampling, and the time beside that of it."""
    base, base_seconds = found["uniform"]
    both = {name: compare(each, base, over="seeds") for name, (each, _) in found.items() if each is not base}
    lines = [f"| | {base.metric} | less uniform sampling, over {base.interval('seeds').over} | time |"]
    lines += ["|---|---|---|---|"]
    for name, (evaluation, seconds) in found.items():
        less = f"{both[name].difference}".split(" (")[0] if name in both else ""
        lines.append(f"| {name} | {evaluation.mean:.4f} | {less} | {seconds / base_seconds:.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=("sinusoids", "glyphs", "omniglot"))
    for option, value in (("seeds", 10), ("steps", 1000), ("episodes", 500), ("processes", 1)):
        parser.add_argument(f"--{option}", type=int, default=value)
    told = parser.parse_args()
    rows = {name: (name, told.steps) for name in family(told.family)[-1]}
    rows["uniform, twice the steps"] = ("uniform", 2 * told.steps)
    with ProcessPoolExecutor(told.processes, mp_context=get_context("spawn")) as pool:
        jobs = {
            name: [pool.submit(trained, told.family, *row, seed, told.episodes) for seed in range(told.seeds)]
            for name, row in rows.items()
        }
        found = {}
        for name, runs in jobs.items():
            found[name] = of_seeds([run.result() for run in runs])
            print(f"{name}: {found[name][0].interval('seeds')}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
