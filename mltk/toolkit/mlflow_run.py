"""Runs of MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from mltk.installation import needed_for


class MLflow:
    """Writes what a monitor sees as metrics of a run of MLflow.

    Args:
        run_id: The run; ``None`` for the active one, which MLflow starts if there is none. Where runs are
            kept is MLflow's to say: ``mlflow.set_tracking_uri``.

    Raises:
        MissingLibraryError: If MLflow is not installed.
    """

    def __init__(self, run_id: str | None = None) -> None:
        with needed_for("runs of MLflow"):
            import mlflow
        self._mlflow, self._run_id = mlflow, run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `mltk.toolkit.monitor.Writer`."""
        self._mlflow.log_metrics(dict(values), step=step, run_id=self._run_id)
