"""What is wrong with a training, from what a monitor has seen of it."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mltk.toolkit.change_detection import ChangeDetector

PATIENCE = 5
"""After so many looks that say the same, a layer is called dead or vanishing."""

VANISHING = 1e-6
"""Of the largest norm of a layer's gradient; what is smaller is said to vanish."""

EXPLODING = 100.0
"""Times the median of a layer's last norms, or of the losses; what is larger is said to explode."""

REMEMBERED = 50
"""Looks that that median is of."""

STALLED = 200
"""After so many looks without a fall of the loss a training is said to stall."""

HORIZON = 10
"""An overflow is foretold if it is less than so many times the steps between two looks away."""


@dataclass(frozen=True)
class Alert:
    """Something that is wrong, or may be soon.

    Attributes:
        kind: ``"loss rose"``, ``"exploding"``, ``"vanishing"``, ``"dead"``, ``"overflow ahead"``, ``"not
            finite"``, ``"stalled"``, ``"worse"`` (of an evaluation) or ``"not written"``.
        about: The layer, the learner or the file.
        step: After which step of training, or task of evaluation.
        text: What was seen.

    Examples:
        >>> import mltk
        >>> print(mltk.toolkit.Alert("dead", "0", 100, "gradient exactly zero at 5 looks"))
        step 100: dead (0): gradient exactly zero at 5 looks
    """

    kind: str
    about: str
    step: int
    text: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.kind}{f' ({self.about})' * bool(self.about)}: {self.text}"


TINY = 1e-30
"""Smaller numbers grow from as far."""

Finding = tuple[str, str, str | None]
"""A kind, what it is about, and what was seen of it: ``None`` where all is well again."""


@dataclass
class Health:
    """What the looks at one training so far tell of the next one.

    Attributes:
        changes: Finds changes of the loss.
        every: Steps between two looks.
    """

    changes: ChangeDetector
    every: int
    _last: tuple[int, float] | None = None
    _growth: float = 0.0
    _sizes: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(_last_ones))
    _zero: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _tiny: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _since_fall: int = 0

    def look(self, step: int, loss: float, norms: Mapping[str, float], dtype: str) -> Iterator[Finding]:
        """What the loss and the norms of the gradient by layer say after a step, in a floating dtype."""
        values = [loss, *norms.values()]
        if not all(math.isfinite(value) for value in values):
            wrong = [name for name, value in (("", loss), *norms.items()) if not math.isfinite(value)]
            yield "not finite", wrong[0], f"{'gradient' if wrong[0] else 'loss'} is NaN or infinite"
            return
        yield from self._of_loss(loss)
        yield from self._ahead(step, max(map(abs, values)), float(np.finfo(dtype).max))
        largest = max(norms.values(), default=0.0)
        for layer, norm in norms.items():
            yield from self._of_layer(layer, norm, largest)
            yield from self._jump(layer, norm, "norm of the gradient", after=PATIENCE)
        yield from self._jump("", abs(loss), "loss", after=1)

    def _of_loss(self, loss: float) -> Iterator[Finding]:
        self.changes, (found,) = self.changes.update([loss])
        self._since_fall = 0 if found == -1 else self._since_fall + 1
        if found:
            yield "loss rose", "", f"to {loss:.4g}" if found == 1 else None
        stalled = self._since_fall >= STALLED
        yield "stalled", "", f"no fall of the loss in {self._since_fall} looks" if stalled else None

    def _ahead(self, step: int, size: float, most: float) -> Iterator[Finding]:
        """Whether the loss or a norm grows so fast, twice in a row, that it leaves the dtype soon."""
        text, size = None, max(size, TINY)
        if self._last is not None:
            before, was = self._last
            rate = math.log(size / was) / (step - before)
            steady, self._growth = min(rate, self._growth), rate
            if math.log(most / size) < HORIZON * self.every * steady:
                text = f"grows {math.exp(steady):.3g} times a step, and is {size:.3g}"
        self._last = step, size
        yield "overflow ahead", "", text

    def _of_layer(self, layer: str, norm: float, largest: float) -> Iterator[Finding]:
        self._zero[layer] = self._zero[layer] + 1 if norm == 0 else 0
        self._tiny[layer] = self._tiny[layer] + 1 if 0 < norm < VANISHING * largest else 0
        dead, vanishing = self._zero[layer] >= PATIENCE, self._tiny[layer] >= PATIENCE
        yield "dead", layer, f"gradient exactly zero at {self._zero[layer]} looks" if dead else None
        small = f"norm of the gradient {norm:.3g}, of another layer {largest:.3g}"
        yield "vanishing", layer, small if vanishing else None

    def _jump(self, about: str, size: float, what: str, *, after: int) -> Iterator[Finding]:
        known = self._sizes[about]
        usual = statistics.median(known) if len(known) >= after else math.inf
        large = size > EXPLODING * usual > 0
        yield "exploding", about, f"{what} {size:.3g}, mostly {usual:.3g}" if large else None
        known.append(size)


def _last_ones() -> deque[float]:
    return deque(maxlen=REMEMBERED)
