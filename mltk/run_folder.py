"""The folder of a training run: its configuration, its logged steps and its latest checkpoint.

`config.toml` says everything that is needed to repeat the run, `metrics.jsonl` has one line a logged step,
and `checkpoint.npz` holds the parameters, the optimiser's state, the step and the random state. Configuration
and checkpoint are written to a temporary file, synced and renamed, so a kill at any moment leaves a valid
one. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mltk import tree
from mltk.backend import Backend
from mltk.config import Config
from mltk.errors import RunError
from mltk.filesystem import lock, sync_folder
from mltk.tree import Tree

FORMAT = 1
"""The version of the checkpoint's layout."""

NUMBERS: dict[str, type] = {"step": int, "loss": Real, "seconds": Real}
"""What each logged step holds."""


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a training after some step.

    Attributes:
        step: How many steps are done.
        params: The meta-parameters under their dotted names.
        optimizer: The optimiser's state under dotted names.
        rng: The state of the generator that draws the tasks.
        loss_sum: The sum of the losses since the last regular line of the metrics.
    """

    step: int
    params: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    rng: dict[str, Any]
    loss_sum: np.ndarray


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
    """

    path: Path

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
    def curves_path(self) -> Path:
        """The learning curve."""
        return self.path / "curves.svg"

    def is_empty(self) -> bool:
        """Whether no run has been started here."""
        return not any(path.exists() for path in (self.config_path, self.metrics_path, self.checkpoint_path))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be, and keep every other training out of it.

        The lock is the operating system's and ends with the process, however it ends.

        Raises:
            RunError: If the folder cannot be made or written, or another training is in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("ab")
        except OSError as error:
            raise RunError(f"{self.path} cannot be used as a run folder: {_reason(error)}") from error
        with file:
            try:
                lock(file)
            except OSError:
                raise RunError(f"{self.path} is in use by another training") from None
            yield

    def read_config(self) -> Config:
        """The configuration.

        Raises:
            RunError: If it is missing or damaged.
        """
        import tomllib

        text = _read_text(self.config_path)
        try:
            return tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RunError(f"{self.config_path} is damaged: {error}") from error

    def write_config(self, config: Config) -> None:
        """Replace the configuration.

        Raises:
            RunError: If it cannot be written; the previous one is then intact.
        """
        import tomli_w

        replace_file(self.config_path, lambda file: tomli_w.dump(config, file))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first; a last line that a kill has cut short is left out.

        Raises:
            RunError: If the file is damaged.
        """
        if not self.metrics_path.exists():
            return []
        lines = _read_text(self.metrics_path).split("\n")
        try:
            metrics = [json.loads(line) for line in lines[:-1]]
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self.metrics_path} is damaged: {error}") from error
        for line in metrics:
            if not isinstance(line, dict) or not all(isinstance(line.get(k), NUMBERS[k]) for k in NUMBERS):
                raise RunError(f"{self.metrics_path} is damaged: a line lacks step, loss or seconds")
        return metrics

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
        try:
            with self.metrics_path.open("ab") as file:
                file.write((json.dumps(line) + "\n").encode())
        except OSError as error:
            raise RunError(f"{self.metrics_path} cannot be written: {_reason(error)}") from error

    def read_checkpoint(self) -> Checkpoint:
        """The latest checkpoint.

        Raises:
            RunError: If it is missing, damaged or not from mltk.
        """
        path = self.checkpoint_path
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            if int(found.pop("format")) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            step, loss_sum = found.pop("step"), found.pop("loss_sum")
            if step.shape or step.dtype.kind != "i" or step < 0 or loss_sum.shape:
                raise ValueError("its step or loss_sum is not one number")
            return Checkpoint(
                step=int(step),
                rng=json.loads(str(found.pop("rng"))),
                loss_sum=loss_sum,
                params=_under("params.", found),
                optimizer=_under("optimizer.", found),
            )
        except FileNotFoundError:
            raise RunError(f"{path} is missing") from None
        except OSError as error:
            raise RunError(f"{path} cannot be read: {_reason(error)}") from error
        # A damaged archive makes zipfile, zlib and NumPy's parser raise a dozen unrelated types.
        except Exception as error:
            raise RunError(f"{path} is damaged or not a checkpoint of mltk: {error!r}") from error

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
            **{f"params.{name}": leaf for name, leaf in checkpoint.params.items()},
            **{f"optimizer.{name}": leaf for name, leaf in checkpoint.optimizer.items()},
        }
        replace_file(self.checkpoint_path, lambda file: np.savez(file, **arrays))

    def _sync_metrics(self) -> None:
        try:
            with self.metrics_path.open("ab") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self.metrics_path} cannot be written: {_reason(error)}") from error


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at every moment either the old or the new one stands there, whole.

    Args:
        path: The file; its folder must exist.
        write: Writes the new content to an open file.

    Raises:
        RunError: If it cannot be written; the previous file is then intact.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        kept = "; the file that stands there is whole" if path.exists() else ""
        raise RunError(f"{path} cannot be written: {_reason(error)}{kept}") from error


def to_arrays(values: Tree, backend: Backend) -> dict[str, np.ndarray]:
    """The leaves as NumPy arrays under their dotted names."""
    return {
        name: np.asarray(leaf) if isinstance(leaf, int | float) else backend.to_numpy(leaf)
        for name, leaf in tree.flatten(values).items()
    }


def from_arrays(
    arrays: dict[str, np.ndarray], like: Tree, backend: Backend, path: Path, *, any_dtype: bool = False
) -> Tree:
    """The inverse of `to_arrays`, for a tree of the structure, shapes and dtypes of ``like``."""
    expected = to_arrays(like, backend)
    for name in arrays.keys() | expected.keys():
        found, wanted = arrays.get(name), expected.get(name)
        if found is None or wanted is None:
            raise RunError(f"{path} {'lacks' if found is None else 'has an unknown array'} {name!r}")
        if found.shape != wanted.shape or (found.dtype != wanted.dtype and not any_dtype):
            raise RunError(
                f"{path}: {name!r} is {found.dtype} {found.shape}; expected {wanted.dtype} {wanted.shape}"
            )
    names = iter(expected)

    def restore(leaf: Any) -> Any:
        found = arrays[next(names)]
        return int(found) if isinstance(leaf, int) else backend.asarray(found)

    return tree.map(restore, like)


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): leaf for name, leaf in arrays.items() if name.startswith(prefix)}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
