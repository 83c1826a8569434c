"""What learners share whose meta-gradient goes back through the steps of an inner loop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from mltk.algorithms.gradient_based import GradientBased
from mltk.checks import Flag, did_you_mean
from mltk.contracts import Layered
from mltk.errors import SettingError, UnsupportedError
from mltk.tree import Array


@dataclass(frozen=True)
class UnrolledLearner(GradientBased):
    """A learner that differentiates through its inner loop.

    Attributes:
        model: The network.
        loss: A name, a `mltk.ops.Loss` or, by autograd, a function of outputs and targets, as `mltk.ops.loss`
            takes it; for support and query alike.
        first_order: Leave the Hessian products out.
        checkpoint: Keep few points of the descent only, and linearise again on the way back: memory does not
            grow with activations × steps.
        adapt_only: Which parameters the inner loop moves: ``"head"`` (the last layer), ``"body"`` (all but
            the last layer), dotted names or prefixes of them, or ``None`` for all. The last layer is the one
            that makes the outputs, as the model finds it: a wrapped module by running once.
    """

    _: KW_ONLY
    first_order: Flag = False
    checkpoint: Flag = False
    adapt_only: str | Collection[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            _ = self.adapted
        except UnsupportedError:
            if not isinstance(self.model, Layered):
                raise  # a layered model may know more once it has inputs

    @property
    def adapted(self) -> tuple[str, ...] | None:
        """Dotted names of the parameters that the inner loop moves; ``None`` for all.

        Raises:
            UnsupportedError: If the model cannot say (yet) which its last layer is.
        """
        return self.adapted_on(None)

    def adapted_on(self, x: Array | None) -> tuple[str, ...] | None:
        """`adapted`, for a model that may need inputs ``(T, N, *features)`` to find its last layer."""
        if self.adapt_only in ("head", "body"):
            if not isinstance(self.model, Layered):
                raise UnsupportedError(
                    f"{type(self.model).__name__} has no last_layer(x), so adapt_only={self.adapt_only!r} is "
                    f"not known; name the parameters: {', '.join(self.model.shapes)}"
                )
            head = self.model.last_layer(x)
            names = tuple(name for name in self.model.shapes if (name in head) == (self.adapt_only == "head"))
            if not names:
                raise SettingError(f"adapt_only is {self.adapt_only!r}, which leaves no parameter to adapt")
            return names
        return self._named

    @cached_property
    def _named(self) -> tuple[str, ...] | None:
        """The parameters that ``adapt_only`` names."""
        if self.adapt_only is None:
            return None
        names = list(self.model.shapes)
        if not isinstance(self.adapt_only, Collection):
            raise SettingError(f"adapt_only is {self.adapt_only!r}; expected names of parameters or None")
        prefixes = [self.adapt_only] if isinstance(self.adapt_only, str) else list(self.adapt_only)
        for prefix in prefixes:
            if not any(f"{name}.".startswith(f"{prefix}.") for name in names):
                hint = did_you_mean(prefix, ["head", "body", *names])
                raise SettingError(f"adapt_only names {prefix!r}; the model has {', '.join(names)}{hint}")
        if not prefixes:
            raise SettingError(f"adapt_only is {self.adapt_only!r}, which leaves no parameter to adapt")
        return tuple(
            name for name in names if any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)
        )

    @property
    def adapted_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of each parameter that the inner loop moves."""
        shapes, names = self.model.shapes, self.adapted
        return {name: shapes[name] for name in (shapes if names is None else names)}
