"""The inner loop of the catalogue: what the definition gives in float64 with its knobs turned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from mltk.oracle.case import Deferred, Values
from mltk.oracle.exact.loop import Unrolled, unrolled
from mltk.oracle.exact.loop_knobs import LoopKnobs, Settings
from mltk.oracle.exact.tensor import double


@dataclass(frozen=True)
class Loop(LoopKnobs):
    """MAML, its relatives and Reptile with the mistakes that its knobs make."""

    def outputs(self, settings: Settings, inputs: Values) -> Values | None:
        """Loss and gradients, each the mean over tasks; ``None`` if the loop cannot be run so."""
        with np.errstate(all="ignore"):
            run = unrolled(self, settings, inputs, partial(double, varies=True))
        if run is None:
            return None
        return Deferred({"loss": run.loss.value, "gradients": partial(_gradients, run)})


def _gradients(run: Unrolled) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return {name: g.value for name, g in run.gradients().items()}
