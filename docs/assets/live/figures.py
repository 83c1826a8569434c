"""The Python of the live figures, run in the page, and where the site is built to record what is seen first.

`call` is the one door: the name of a function, its arguments as JSON, and JSON back. Numbers go through JSON
without loss.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import platform
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import mltk
from mltk import tree
from mltk.data.images.pen import draw
from mltk.normalization import support_statistics

FOLDER = Path(__file__).parent
"""Where ``character.npz`` lies, the trained network of the characters."""

# Sinusoids ------------------------------------------------------------------------------------------------

DOUBLE = mltk.backend("numpy", dtype="float64")
GRID = np.linspace(-5, 5, 81)
TASKS = mltk.data.Sinusoid(shots=10, queries=10)
META_BATCH, RATE, STEPS = 4, 0.02, 5
MODEL = mltk.models.mlp([1, 40, 40, 1], activation="tanh")
OUTER = mltk.optim.Adam(1e-3)
WIDTH = 1e-5
"""Half the distance of the two points of a central difference."""


def sinusoid_maml(rate: float = RATE, steps: int = STEPS, first_order: bool = False) -> mltk.algorithms.MAML:
    """The learner, with these settings of the inner loop."""
    return mltk.algorithms.MAML(MODEL, "mse", inner_lr=rate, inner_steps=steps, first_order=first_order)


class Training:
    """A meta-training that goes on when it is asked to: the trajectory is that of `mltk.train`."""

    def __init__(self) -> None:
        self.step = 0
        self.meta = sinusoid_maml().init(DOUBLE, seed=0)
        self.memory = OUTER.init(self.meta)
        self.rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,)))

    def go_on(self, count: int, maml: mltk.algorithms.MAML) -> list[float]:
        """Take steps of the outer optimiser, and return the meta-loss before each."""
        losses = []
        for _ in range(count):
            episode = TASKS.sample(META_BATCH, self.rng, DOUBLE)
            with np.errstate(all="ignore"):
                loss, grads = maml.value_and_grad(self.meta, episode)
                updates, memory = OUTER.update(grads, self.memory, self.meta)
            meta = mltk.optim.apply_updates(self.meta, updates)
            if not all(np.isfinite(leaf).all() for leaf in tree.leaves(meta)):
                raise ArithmeticError("The meta-loss is no longer finite: the inner rate is too large.")
            self.meta, self.memory, self.step = meta, memory, self.step + 1
            losses.append(float(loss))
        return losses

    def kept(self) -> str:
        """All that is needed to go on from here, as text."""
        arrays = {name: packed(leaf) for name, leaf in tree.flatten(self.meta).items()}
        moments = {name: packed(leaf) for name, leaf in self.memory["moments"].items()}
        rng = self.rng.bit_generator.state
        return json.dumps({"step": self.step, "meta": arrays, "moments": moments, "rng": rng})

    def take_up(self, text: str) -> None:
        """Go on from where `kept` was called."""
        found = json.loads(text)
        self.step = found["step"]
        self.meta = tree.unflatten({name: unpacked(leaf) for name, leaf in found["meta"].items()})
        moments = {name: unpacked(leaf) for name, leaf in found["moments"].items()}
        self.memory = {"step": self.step, "moments": moments}
        self.rng.bit_generator.state = found["rng"]


def packed(array: np.ndarray) -> list[Any]:
    """The shape and the bytes of a float64 array."""
    return [list(array.shape), base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()]


def unpacked(pair: list[Any]) -> np.ndarray:
    """The array of `packed`."""
    return np.frombuffer(base64.b64decode(pair[1]), dtype=np.float64).reshape(pair[0]).copy()


TRAINING = Training()


def sinusoid_start(state: str | None = None) -> dict[str, Any]:
    """Start from the first parameters, or from where a training was kept."""
    TRAINING.__init__()  # type: ignore[misc]
    if state is not None:
        TRAINING.take_up(state)
    return {"step": TRAINING.step}


def sinusoid_train(count: int, rate: float, steps: int, first_order: bool) -> dict[str, Any]:
    """Meta-train, and tell the mean of the meta-losses."""
    losses = TRAINING.go_on(count, sinusoid_maml(rate, steps, first_order))
    return {"step": TRAINING.step, "losses": losses}


def sinusoid_task(seed: int) -> dict[str, Any]:
    """A task: its support points, its queries and its curve."""
    rng = np.random.default_rng(seed)
    episode = TASKS.sample(1, rng, DOUBLE)
    alone = mltk.data.Sinusoid(1, 1)
    # The curve through all 20 examples is known exactly: two of them determine it.
    x = np.concatenate([episode.support_x, episode.query_x], axis=1)
    y = np.concatenate([episode.support_y, episode.query_y], axis=1)
    curve = alone.bayes_predict(x, y, GRID[None, :, None])
    found = {
        name: getattr(episode, name)[0, :, 0] for name in ("support_x", "support_y", "query_x", "query_y")
    }
    return {name: values.tolist() for name, values in found.items()} | {"curve": curve[0, :, 0].tolist()}


def sinusoid_fit(task: dict[str, Any], rate: float, steps: int, first_order: bool) -> dict[str, Any]:
    """The fits before and after each inner step, the loss on the queries, and the meta-gradient checked.

    In three random directions of unit length the derivative of the query loss is the inner product with the
    meta-gradient, and nearly a central difference of the loss itself, which knows nothing of derivatives.
    """
    names = ("support_x", "support_y", "query_x", "query_y")
    episode = mltk.Episode(*(np.asarray(task[name])[None, :, None] for name in names))
    meta = TRAINING.meta
    learners = [sinusoid_maml(rate, done) for done in range(steps + 1)]
    exact, short = learners[-1], sinusoid_maml(rate, steps, first_order=True)
    with np.errstate(all="ignore"):
        curves = fits(meta, learners, episode, GRID[None, :, None])[0]
        at_queries = fits(meta, learners, episode, episode.query_x)
        errors = np.mean((at_queries - episode.query_y[:, None, :, 0]) ** 2, axis=-1)[0]
        grads, first_order_grads = (each.value_and_grad(meta, episode)[1] for each in (exact, short))
        rows = []
        for seed in range(3):
            towards = direction(meta, seed)
            ends = [query_loss(exact, along(meta, sign * WIDTH, towards), episode) for sign in (1, -1)]
            numbers = {
                "exact": inner_product(grads, towards),
                "first_order": inner_product(first_order_grads, towards),
                "central": (ends[0] - ends[1]) / (2 * WIDTH),
            }
            rows.append({name: tame(value) for name, value in numbers.items()})
    return {"fits": tame(curves), "errors": tame(errors), "check": rows}


def query_loss(maml: mltk.algorithms.MAML, meta: Any, episode: mltk.Episode) -> float:
    """The loss on the queries after adaptation, by nothing but predictions."""
    outputs = maml.predict(maml.adapt(meta, episode.support_x, episode.support_y), episode.query_x)
    return float(np.mean((outputs - episode.query_y) ** 2))


def fits(meta: Any, learners: list[Any], episode: mltk.Episode, x: np.ndarray) -> np.ndarray:
    """What each learner predicts, adapted to the support sets, ``(T, learners, points)``."""
    x = np.broadcast_to(x, (len(episode.support_x), *x.shape[1:]))
    states = [each.adapt(meta, episode.support_x, episode.support_y) for each in learners]
    found = [each.predict(state, x)[..., 0] for each, state in zip(learners, states, strict=True)]
    return np.stack(found, axis=1)


def direction(params: Any, seed: int) -> Any:
    """A random direction of unit length."""
    rng = np.random.default_rng(seed)
    drawn = tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    length = np.sqrt(inner_product(drawn, drawn))
    return tree.map(lambda leaf: leaf / length, drawn)


def along(params: Any, distance: float, towards: Any) -> Any:
    """Parameters, moved."""
    return tree.map(lambda leaf, step: leaf + distance * step, params, towards)


def inner_product(a: Any, b: Any) -> float:
    """The sum of the products of all leaves."""
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return float(sum(np.sum(one * other) for one, other in pairs))


def tame(values: Any) -> Any:
    """Numbers that JSON knows: what is not finite, or too large for any picture, is cut off."""
    return np.clip(np.nan_to_num(values, nan=1e6, posinf=1e6, neginf=-1e6), -1e6, 1e6).tolist()


# Characters -----------------------------------------------------------------------------------------------

SIDE, INK_SIDE, PEN = 28, 20, 0.75
"""Pixels of an image, of the longer side of what is drawn on it, and of the radius of the pen."""

GLYPHS = mltk.data.Glyphs()
PROTOTYPICAL = mltk.algorithms.Prototypical(mltk.models.conv4(1, SIDE, width=16))
SINGLE = mltk.backend("numpy", dtype="float32")


def character_training() -> Any:
    """The meta-parameters of the characters, trained."""
    tasks = GLYPHS.tasks(ways=10, shots=1, queries=2)
    run = mltk.train(PROTOTYPICAL, tasks, backend=SINGLE, steps=300, meta_batch=2, progress=False)
    return run.meta_params


def character_examples(seed: int) -> dict[str, Any]:
    """Two drawings of each of three characters of alphabets that were not trained on: bytes of pixels."""
    rng = np.random.default_rng(seed)
    alphabet, characters = rng.integers(20), rng.choice(12, 3, replace=False)
    unseen = mltk.data.Glyphs(alphabets=int(alphabet) + 1, characters=12, drawings=4).held_out()
    images = np.asarray(unseen.images).reshape(-1, 12, 4, SIDE * SIDE)[alphabet][characters]
    images = images if images.dtype == np.uint8 else np.rint(255 * images).astype(np.uint8)
    first, second = rng.choice(4, 2, replace=False)
    return {"support": images[:, first].tolist(), "queries": images[:, second].tolist()}


def character_ink(strokes: list[list[list[float]]]) -> list[int]:
    """The pixels of a drawing: strokes in any unit, centred, scaled, and drawn by the pen of `Glyphs`."""
    paths = [np.asarray(stroke, dtype=np.float64) @ [1, 1j] for stroke in strokes if stroke]
    everything = np.concatenate(paths)
    low = everything.real.min() + 1j * everything.imag.min()
    high = everything.real.max() + 1j * everything.imag.max()
    scale = INK_SIDE / max((high - low).real, (high - low).imag, 1e-6)
    if high == low:  # a dot
        scale = 0.0
    evenly = [equally_spaced((path - (low + high) / 2) * scale + (1 + 1j) * SIDE / 2) for path in paths]
    ink = np.max([draw(path[None, None], np.float32([PEN]), SIDE)[0] for path in evenly], axis=0)
    return np.rint(255 * ink).astype(int).ravel().tolist()


def equally_spaced(path: np.ndarray, count: int = 64) -> np.ndarray:
    """Points at equal spacing along a path, complex64."""
    lengths = np.concatenate([[0], np.cumsum(np.abs(np.diff(path)))])
    at = np.linspace(0, lengths[-1], count)
    return (np.interp(at, lengths, path.real) + 1j * np.interp(at, lengths, path.imag)).astype(np.complex64)


def character_decide(support: list[list[int]], query: list[int]) -> dict[str, Any]:
    """Squared distances and probabilities of three classes, and the plane through their prototypes.

    In that plane the first prototype is the origin. The query's distance from the plane is the same for all
    classes, so it does not matter for the decision.
    """
    meta = character_parameters()
    images = np.asarray([*support, query], dtype=np.float32).reshape(1, 4, 1, SIDE, SIDE) / 255
    state = PROTOTYPICAL.adapt(meta, images[:, :3], np.arange(3)[None])
    logits = PROTOTYPICAL.predict(state, images[:, 3:])[0, 0].astype(np.float64)
    points = PROTOTYPICAL.embedding.apply(meta, images)[0].astype(np.float64)
    basis, _ = np.linalg.qr((points[1:3] - points[0]).T)
    flat = (points - points[0]) @ basis
    weights = np.exp(logits - logits.max())
    return {
        "distances": (-logits).tolist(),
        "probabilities": (weights / weights.sum()).tolist(),
        "prototypes": flat[:3].tolist(),
        "query": flat[3].tolist(),
        "height": float(np.linalg.norm(points[3] - points[0] - basis @ flat[3])),
        "embedding": points.tolist(),
    }


def character_parameters() -> Any:
    """The trained network, from its file."""
    with np.load(FOLDER / "character.npz") as found:
        return tree.unflatten({name: found[name].astype(np.float32) for name in found.files})


# Batch norm -----------------------------------------------------------------------------------------------

LEAK_TASKS = mltk.data.Blobs(ways=2, shots=4, queries=4, features=2)
LEAK_GRID = np.linspace(-5.75, 5.75, 24)
"""Where the probability is drawn: the middles of squares."""


def leak_maml(statistics: str) -> mltk.algorithms.MAML:
    """A learner whose batch norm takes these statistics."""
    norm = mltk.ops.BatchNorm(16, spatial_axes=0, statistics=statistics)  # type: ignore[arg-type]
    layers = [mltk.ops.Linear(2, 16), norm, mltk.ops.Tanh(), mltk.ops.Linear(16, 2)]
    return mltk.algorithms.MAML(mltk.models.Sequential(layers), "cross_entropy", inner_lr=0.5, inner_steps=3)


def leak_training(statistics: str) -> Any:
    """Its meta-parameters, trained."""
    run = mltk.train(
        leak_maml(statistics), LEAK_TASKS, backend=DOUBLE, steps=600, meta_batch=8, progress=False
    )
    return run.meta_params


def leak_of_one_class(statistics: str, params: Any) -> float:
    """The accuracy on 300 tasks whose eight queries are all of class 0."""
    maml, tasks = leak_maml(statistics), mltk.data.Blobs(ways=2, shots=4, queries=8, features=2)
    episode = tasks.sample(300, 7, DOUBLE)
    first = np.argsort(episode.query_y, axis=1, kind="stable")[:, :8, None]
    queries = np.take_along_axis(episode.query_x, first, axis=1)
    logits = maml.predict(maml.adapt(params, episode.support_x, episode.support_y), queries)
    return float(np.mean(logits[..., 0] > logits[..., 1]))


def leak_task(seed: int) -> dict[str, Any]:
    """Support points with their classes, and queries."""
    episode = LEAK_TASKS.sample(1, seed, DOUBLE)
    middle = episode.support_x.mean(axis=(0, 1))
    return {
        "support": (episode.support_x[0] - middle).round(2).tolist(),
        "labels": episode.support_y[0].tolist(),
        "queries": (episode.query_x[0] - middle).round(2).tolist(),
    }


def leak_predict(
    task: dict[str, Any], queries: list[list[float]], meta: dict[str, dict[str, list[Any]]]
) -> dict[str, Any]:
    """The probability of class 1 for each query, and for points of the plane, with either statistics."""
    support = np.asarray(task["support"], dtype=np.float64)[None]
    labels, asked = np.asarray(task["labels"])[None], np.asarray(queries, dtype=np.float64)[None]
    plane = np.stack(np.meshgrid(LEAK_GRID, LEAK_GRID), axis=-1).reshape(1, -1, 2)
    found = {}
    for statistics in ("batch", "support"):
        maml = leak_maml(statistics)
        params = tree.unflatten({name: unpacked(leaf) for name, leaf in meta[statistics].items()})
        state = maml.adapt(params, support, labels)
        if statistics == "batch":  # what the network says of a point that is normalised as these queries are
            plain = leak_maml("support").model
            drawn = plain.apply(support_statistics(plain, state, asked), plane)
        else:
            drawn = maml.predict(state, plane)
        found[statistics] = {
            "queries": probability(maml.predict(state, asked)),
            "plane": np.round(probability(drawn), 3).tolist(),
        }
    return found


def probability(logits: np.ndarray) -> list[float]:
    """The probability of class 1, of two."""
    return (1 / (1 + np.exp(logits[0, :, 0] - logits[0, :, 1]))).tolist()


# The door -------------------------------------------------------------------------------------------------


def about() -> dict[str, str]:
    """What computes."""
    return {
        "mltk": mltk.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def cell(code: str) -> str:
    """What a reader's code prints, and its error."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        try:
            exec(compile(code, "<cell>", "exec"), {"__name__": "__main__"})
        except BaseException:
            written.write(traceback.format_exc(limit=-1))
    return written.getvalue()


def call(name: str, arguments: str) -> str:
    """Call a function of this file with JSON, and return JSON."""
    return json.dumps(globals()[name](**json.loads(arguments)), allow_nan=False)
