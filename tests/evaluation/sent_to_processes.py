"""What the tests send to other processes, which import it by its name."""

import os
import time
from pathlib import Path

import numpy as np

import mltk


class Flat:
    """Glyphs as vectors, of which the third block is not finite where that is wanted."""

    def __init__(self, broken=False):
        self.tasks, self.broken = mltk.data.Glyphs(alphabets=2).tasks(ways=3, shots=1, queries=2), broken

    def sample(self, n_tasks, rng, backend):
        drawn = self.tasks.sample(n_tasks, rng, backend)
        x, y = (each.reshape(*each.shape[:2], -1) for each in (drawn.support_x, drawn.query_x))
        if self.broken and rng.bit_generator.seed_seq.spawn_key == (1, 2):
            x[4] = np.nan
        known = {"classes": drawn.classes, "groups": drawn.groups}
        return mltk.Episode(x, drawn.support_y, y, drawn.query_y, ways=3, backend=backend, **known)


def product(item, *, factor):
    return item * factor


def ends(item, *, how):
    if item == 2:
        os.kill(os.getpid(), how)
    return item


def waits(item, *, folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


class Peculiar(Exception):  # noqa: N818
    """Cannot be sent."""

    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


def peculiar(item):
    raise Peculiar("very", "odd")
