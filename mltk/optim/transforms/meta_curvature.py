"""Gradients multiplied by learned matrices along their axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltk.optim.transforms.mode_products import ModeProducts


@dataclass(frozen=True)
class MetaCurvature(ModeProducts):
    r"""A learned curvature (Park & Oliva 2019, equation 5 and section 3.2).

    The gradient of a tensor of output channels, input channels and the pixels of a filter is multiplied along
    each, which is the matrix $M_o \otimes M_i \otimes M_f$ applied to all its elements:

    $$D = G \times_3 M_f \times_2 M_i \times_1 M_o.$$

    A matrix has no $M_f$, a vector $M_o$ alone. The learned arrays have the name of the parameter with
    ``.out`` ($M_o$), ``.in`` ($M_i$) or ``.filter`` ($M_f$) behind, and start as identities. For the
    pullback see `mltk.optim.transforms.mode_products`.

    Examples:
        >>> import mltk
        >>> transform = mltk.optim.transforms.MetaCurvature()
        >>> sorted(transform.shapes({"w": (3, 2)}).items())
        [('w.in', (2, 2)), ('w.out', (3, 3))]
    """

    def axes(self, shape: tuple[int, ...]) -> dict[str, int]:
        out, *rest = shape or (1,)
        axes = {"out": out}
        if rest:
            axes["in"] = rest[0]
        if len(rest) > 1:
            axes["filter"] = math.prod(rest[1:])
        return axes
