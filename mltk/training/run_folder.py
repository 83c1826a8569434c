"""The folder of a training run: its configuration, its logged steps and its latest checkpoint.

`config.toml` says everything that is needed to repeat the run, `metrics.jsonl` has one line a logged step,
and `checkpoint.npz` holds the parameters, the optimiser's state, the step and the random state. Configuration
and checkpoint are written to a temporary file, synced and renamed, so a kill at any moment leaves a valid
one. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mltk import tree
from mltk.checks import did_you_mean, is_number
from mltk.contracts import Backend
from mltk.errors import RunError, RunInUseError
from mltk.files import open_to_append, remove_leftovers, replace_file, stand_also_at, writing
from mltk.installation import needed_for
from mltk.npz import open_npz
from mltk.outside import check_depth, read_bytes, read_json, reading
from mltk.training.config import Config
from mltk.training.run_claim import locked
from mltk.tree import Tree

FORMAT = 1
"""The version of the checkpoint's layout."""

NUMBERS = ("step", "loss", "seconds")
"""What each logged step holds."""

LONGEST_CONFIG = 1 << 20
"""Bytes that a configuration may have."""

LONGEST_METRICS = 1 << 28
"""Bytes that the logged steps may have: several million lines."""

LONGEST_LINE = 1 << 16
"""Characters that a logged step may have."""

MOST_STEPS = 1 << 62
"""Larger numbers of steps are damage."""

WRITTEN = ("metrics.jsonl", "classes.json", "curves.svg", "fits.svg", "episode.svg", "paths.svg")
"""What stands in the folder of a run beside its configuration and checkpoint."""

DOTS = 64
"""So many dots in a key (tables inside tables) are damage: TOML's parser takes the square of their number."""


PARTS = ("params", "optimizer", "calibrated", "proposer")
"""What a checkpoint has arrays of."""


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a training after some step.

    Attributes:
        step: How many steps are done.
        params: The meta-parameters under their dotted names.
        optimizer: The optimiser's state under dotted names.
        rng: The state of the generator that draws the tasks.
        loss_sum: The sum of the losses since the last regular line of the metrics.
        calibrated: What calibration adds to the meta-parameters or changes in them, under dotted names, so
            that they predict without the data of the training; empty before its last step.
        proposer: The state of the task source, where it has one: see `mltk.data.source.Proposer`.
        rate: What the optimiser's updates are multiplied by: less than 1 once the training has diverged and
            was recovered: see `mltk.toolkit.Recovery`.
    """

    step: int
    params: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    rng: dict[str, Any]
    loss_sum: np.ndarray
    calibrated: dict[str, np.ndarray] = field(default_factory=dict)
    proposer: dict[str, np.ndarray] = field(default_factory=dict)
    rate: float = 1.0


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
        is_locked: Whether whoever holds this object has locked it.
    """

    path: Path
    is_locked: bool = False

    @property
    def config_path(self) -> Path:
        """What was run."""
        return self.path / "config.toml"

    @property
    def metrics_path(self) -> Path:
        """The logged steps."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """The latest checkpoint."""
        return self.path / "checkpoint.npz"

    @property
    def checkpoint_before_path(self) -> Path:
        """The checkpoint before the latest, where trainings are recovered; see `mltk.toolkit.Recovery`."""
        return self.path / "checkpoint-before.npz"

    @property
    def curves_path(self) -> Path:
        """The learning curve."""
        return self.path / "curves.svg"

    def holds_run(self) -> bool:
        """Whether a run stands here that must not be overwritten: one with a checkpoint.

        What a training leaves that fails before is no more than its settings. Files of these names that no
        training has written are kept, too.
        """
        if self.checkpoint_path.exists() or self.checkpoint_before_path.exists():
            return True
        if not self.config_path.exists():  # which a training writes first
            return any((self.path / name).exists() for name in WRITTEN)
        try:
            return not {"steps", "log_every", "algorithm"} <= self.read_config().keys()
        except RunError:
            return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Make the folder if need be, and keep every other training out of it; see `run_claim.locked`.

        Raises:
            RunError: If the folder cannot be made or written, or another training is in it.
        """
        if self.is_locked:
            yield self
            return
        with locked(self.path):
            checkpoints = self.checkpoint_path, self.checkpoint_before_path
            for path in (self.config_path, self.metrics_path, *checkpoints):
                remove_leftovers(path)
            yield replace(self, is_locked=True)

    def begin(self, config: Config) -> None:
        """Write the configuration of a new run, in place of what one without a checkpoint has left.

        Raises:
            RunError: If it cannot be written.
        """
        if self.metrics_path.exists():
            self.write_metrics([])
        self.write_config(config)

    def read_config(self) -> Config:
        """The configuration.

        Raises:
            RunError: If it is missing or damaged.
        """
        import tomllib

        if not self.path.is_dir():
            hint = did_you_mean(self.path.name, _neighbours(self.path))
            raise RunError(f"{self.config_path} is missing: there is no folder {self.path}{hint}")
        with reading(self.config_path, RunError):
            text = read_bytes(self.config_path, most=LONGEST_CONFIG).decode()
            if any(part.count(".") >= DOTS for part in re.split("[,\n]", text)):
                raise ValueError("tables are nested too deeply")
            config = tomllib.loads(text)
            check_depth(config)
        return config

    def write_config(self, config: Config) -> None:
        """Replace the configuration.

        Raises:
            RunError: If it cannot be written; the previous one is then intact.
        """
        with needed_for("run folders"):
            import tomli_w

        replace_file(self.config_path, lambda file: tomli_w.dump(config, file))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first; a last line that a kill has cut short is left out.

        Raises:
            RunError: If the file is damaged.
        """
        if not self.metrics_path.exists():
            return []
        with reading(self.metrics_path, RunError):
            lines = read_bytes(self.metrics_path, most=LONGEST_METRICS).decode().split("\n")
            return [_logged(line) for line in lines[:-1]]

    def write_metrics(self, metrics: list[dict[str, Any]]) -> None:
        """Replace the logged steps.

        Raises:
            RunError: If they cannot be written; the previous ones are then intact.
        """
        text = "".join(json.dumps(line) + "\n" for line in metrics)
        replace_file(self.metrics_path, lambda file: file.write(text.encode()))

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one logged step.

        Raises:
            RunError: If it cannot be written.
        """
        with writing(self.metrics_path), open_to_append(self.metrics_path) as file:
            file.write((json.dumps(line) + "\n").encode())

    def read_checkpoint(self, *, before: bool = False) -> Checkpoint:
        """The latest checkpoint, or the one before it.

        Raises:
            RunError: If it is missing, damaged or not from mltk.
        """
        path = self.checkpoint_before_path if before else self.checkpoint_path
        with reading(path, RunError, damaged="is damaged or not a checkpoint of mltk"):
            # np.savez does not compress, so a checkpoint takes no more memory than room on the disk.
            with open_npz(path, most_bytes=math.inf, most_ratio=1.0) as arrays:
                found = {name: arrays[name] for name in arrays.forms}
            if int(found.pop("format")) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            step, loss_sum = found.pop("step"), found["loss_sum"]
            if step.shape or step.dtype.kind != "i" or not 0 <= step < MOST_STEPS or loss_sum.shape:
                raise ValueError("its step or loss_sum is not one number")
            rng, rate = read_json(str(found.pop("rng"))), found.pop("rate", np.ones(()))
            if rate.shape or rate.dtype.kind != "f" or not 0 < rate <= 1:
                raise ValueError("its rate is no number above 0 and of at most 1")
            for name, array in found.items():
                if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                    raise ValueError(f"{name} is {array.dtype}; expected finite numbers")
            return Checkpoint(
                step=int(step),
                rng=rng,
                loss_sum=found.pop("loss_sum"),
                rate=float(rate),
                **{part: _under(f"{part}.", found) for part in PARTS},
            )

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, once the logged steps before it are safely on the disk.

        Raises:
            RunError: If it cannot be written; the previous one is then intact.
        """
        self._sync_metrics()
        arrays: dict[str, Any] = {
            "format": np.asarray(FORMAT),
            "step": np.asarray(checkpoint.step),
            "rng": np.asarray(json.dumps(checkpoint.rng)),
            "loss_sum": checkpoint.loss_sum,
            "rate": np.asarray(checkpoint.rate),
            **tree.flatten({part: getattr(checkpoint, part) for part in PARTS}),
        }
        replace_file(self.checkpoint_path, lambda file: np.savez(file, **arrays))

    def keep_checkpoint(self) -> None:
        """Let the latest checkpoint be the one before, too: the next to be written takes its place.

        Raises:
            RunError: If that cannot be written.
        """
        with writing(self.checkpoint_before_path):
            stand_also_at(self.checkpoint_path, self.checkpoint_before_path)

    def _sync_metrics(self) -> None:
        with writing(self.metrics_path), open_to_append(self.metrics_path) as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def first_free(parent: Path, name: str) -> Iterator[RunFolder]:
    """The first of ``name``, ``name-2``, … that holds no run and no other training is in, locked.

    Raises:
        RunError: If a folder cannot be made or written.
    """
    for number in count(1):
        with contextlib.ExitStack() as stack:
            try:
                folder = RunFolder(parent / (name if number == 1 else f"{name}-{number}"))
                folder = stack.enter_context(folder.locked())
            except RunInUseError:
                continue
            if not folder.holds_run():
                yield folder
                return


def to_arrays(values: Tree, backend: Backend) -> dict[str, np.ndarray]:
    """The leaves as NumPy arrays under their dotted names."""
    return {
        name: np.asarray(leaf) if isinstance(leaf, int | float) else backend.to_numpy(leaf)
        for name, leaf in tree.flatten(values).items()
    }


def check_shapes(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Compare names and shapes of arrays from a file with those that they must have.

    Raises:
        RunError: If they differ.
    """
    for name in arrays.keys() | expected.keys():
        if name not in arrays or name not in expected:
            raise RunError(f"{path} {'lacks' if name in expected else 'has an unknown array'} {name!r}")
        if arrays[name].shape != tuple(expected[name]):
            raise RunError(f"{path}: {name!r} has shape {arrays[name].shape}; expected {expected[name]}")


def from_arrays(
    arrays: dict[str, np.ndarray], like: Tree, backend: Backend, path: Path, *, any_dtype: bool = False
) -> Tree:
    """The inverse of `to_arrays`, for a tree of the structure, shapes and dtypes of ``like``."""
    expected = to_arrays(like, backend)
    check_shapes(arrays, {name: wanted.shape for name, wanted in expected.items()}, path)
    for name, wanted in expected.items():
        found = arrays[name].dtype
        if not (found.kind == wanted.dtype.kind if any_dtype else found == wanted.dtype):
            raise RunError(f"{path}: {name!r} is {found}; expected {wanted.dtype}")
    names = iter(expected)

    def restore(leaf: Any) -> Any:
        name = next(names)
        if not isinstance(leaf, int):
            return backend.asarray(arrays[name])
        if (count := int(arrays[name])) < 0:
            raise RunError(f"{path}: {name!r} is {count}; expected a number of steps")
        return count

    return tree.map(restore, like)


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): leaf for name, leaf in arrays.items() if name.startswith(prefix)}


def _logged(text: str) -> dict[str, Any]:
    """A line of the metrics."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"a line has {len(text)} characters; expected at most {LONGEST_LINE}")
    line = read_json(text)
    if not isinstance(line, dict) or not all(is_number(line.get(name)) for name in NUMBERS):
        raise ValueError("a line lacks step, loss or seconds")
    if not isinstance(line["step"], int) or not 0 <= line["step"] < MOST_STEPS:
        raise ValueError(f"a line has the step {line['step']}")
    return line


def _neighbours(path: Path) -> list[str]:
    """The names beside a path, which may be a misspelt one of them."""
    with contextlib.suppress(OSError):
        return [found.name for found in path.absolute().parent.iterdir()]
    return []
