"""What a monitor costs of a training step, in processor time: its own part of trainings at default settings.

Run it with one thread: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/toolkit/monitor_cost.py``.
"""

import time

import mltk

SINUSOID = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_lr=0.01, inner_steps=5)
CONV4 = mltk.algorithms.MAML(
    mltk.models.conv4(1, 28, width=64, out_features=5), "cross_entropy", inner_lr=0.01, inner_steps=5
)
CURVES = mltk.data.Sinusoid(shots=10, queries=10)
IMAGES = mltk.data.Glyphs(alphabets=12, image_size=28).tasks(ways=5, shots=1, queries=15)
CASES = {
    "sinusoid, 25 tasks, NumPy": (SINUSOID, CURVES, "numpy", 25, 1000),
    "sinusoid, 25 tasks, Torch": (SINUSOID, CURVES, "torch", 25, 1000),
    "conv4, 4 tasks, Torch": (CONV4, IMAGES, "torch", 4, 26),
}


class Timed:
    """A watcher whose own time is taken, step by step."""

    def __init__(self, watcher):
        self.watcher, self.spent, self.began = watcher, 0.0, None

    def on_step(self, seen):
        now = time.process_time()
        self.began = now if self.began is None else self.began  # behind the first step
        if seen.step > 1:
            self.watcher.on_step(seen)
            self.spent += time.process_time() - now
        else:
            self.watcher.on_step(seen)
        self.ended = time.process_time()

    def on_tasks(self, seen):
        pass


def main():
    for name, (learner, tasks, backend, meta_batch, steps) in CASES.items():
        timed = Timed(mltk.toolkit.Monitor())
        how = {"backend": mltk.backend(backend), "steps": steps, "meta_batch": meta_batch, "progress": False}
        mltk.train(learner, tasks, watch=timed, **how)
        whole = timed.ended - timed.began - timed.spent
        print(
            f"{name}: {1e3 * whole / (steps - 1):.3f} ms a step, and {timed.spent / whole:.2%} of it more",
            flush=True,
        )


if __name__ == "__main__":
    main()
