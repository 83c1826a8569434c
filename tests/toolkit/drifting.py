"""Streams of stages: what is forgotten and carried over, with replay and without, paired over seeds.

``python tests/toolkit/drifting.py sinusoids`` (phases that drift through half a period) or ``glyphs`` (an
alphabet a stage; needs Torch).
"""

import argparse
from dataclasses import replace

import numpy as np

import mltk
from mltk.evaluation.student import quantile
from mltk.toolkit import OnlineMetaLearner


def sinusoids():
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
    phases = np.linspace(0, np.pi, 6)[:-1]
    stream = [mltk.data.Sinusoid(10, 20, phase=(b, b + 0.3), amplitude=(1.0, 5.0)) for b in phases]
    return OnlineMetaLearner(learner, mltk.backend("numpy"), updates=200, meta_batch=8), stream


def glyphs():
    embedding = mltk.models.conv4(in_channels=1, image_size=28, width=8)
    learner = mltk.algorithms.Prototypical(embedding)
    stream = [mltk.data.Glyphs(alphabets=1, seed=seed).tasks(5, 1, 5) for seed in range(5)]
    return OnlineMetaLearner(learner, mltk.backend("torch"), updates=60), stream


def told(values):
    half = quantile(len(values) - 1, 0.95) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):+.4f} [{np.mean(values) - half:+.4f}, {np.mean(values) + half:+.4f}]"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=["sinusoids", "glyphs"])
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    online, stream = {"sinusoids": sinusoids, "glyphs": glyphs}[arguments.family]()
    found = {}
    for memory in ("replay", "latest", "scratch"):
        runs = [replace(online, memory=memory, seed=seed).run(stream) for seed in range(arguments.seeds)]
        found[memory] = {
            "on arrival, after the first": [np.mean(run.on_arrival[1:]) for run in runs],
            "when just learned": [np.mean([row[-1] for row in run.after]) for run in runs],
            "in the end, of all": [np.mean(run.after[-1]) for run in runs],
            "forward transfer": [run.forward_transfer for run in runs],
            "backward transfer": [run.backward_transfer for run in runs],
            "forgetting": [run.forgetting for run in runs],
            "regret": [run.regret[-1] for run in runs],
        }
    for name in found["replay"]:
        print(name)
        for memory, values in found.items():
            line = f"  {memory:8} {np.mean(values[name]):.4f}"
            if memory != "replay":
                line += f"  less replay {told(np.subtract(values[name], found['replay'][name]))}"
            print(line)


if __name__ == "__main__":
    main()
