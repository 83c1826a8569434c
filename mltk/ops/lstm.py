"""Long short-term memory over the examples of a set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mltk.checks import Checked, Count
from mltk.ops import lstm_cell
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Tangent, unfit
from mltk.tree import Array, Tree


class Passed(NamedTuple):
    """What the derivatives need of a pass over a sequence, in the order of reading.

    Attributes:
        x: The inputs ``(..., N, features)``.
        earlier: The output before each step, ``(..., N, hidden)``.
        steps: The steps.
    """

    x: Array
    earlier: Array
    steps: list[lstm_cell.CellStep]


@dataclass(frozen=True)
class LSTM(Checked, Operation):
    r"""One layer of long short-term memory (Hochreiter & Schmidhuber 1997) that reads the examples in order.

    The examples are the sequence. From $h_0 = c_0 = 0$, step $t$ is the cell $K$ of `mltk.ops.lstm_cell`:

    $$z_t = W_x x_t + W_h h_{t-1} + b_x + b_h, \qquad (h_t, c_t) = K(z_t, c_{t-1}), \qquad y_t = h_t.$$

    All $W_x x_t$ are one product. Tangents run with the sequence,

    $$\dot z_t = W_x \dot x_t + \dot W_x x_t + \dot W_h h_{t-1} + \dot b_x + \dot b_h + W_h \dot h_{t-1},$$

    and cotangents against it (backpropagation through time): $K$ pulls $(\bar h_t, \bar c_t)$ back to
    $(\bar z_t, \bar c_{t-1})$, where $\bar h_t = \bar y_t + W_h^\top \bar z_{t+1}$ and the last step gets no
    $\bar c$ and no $\bar z$ from beyond. Then

    $$\bar W_x = \textstyle\sum_t \bar z_t x_t^\top, \quad \bar W_h = \sum_t \bar z_t h_{t-1}^\top, \quad
      \bar b_x = \bar b_h = \sum_t \bar z_t, \quad \bar x_t = W_x^\top \bar z_t.$$

    The tangent of all this follows from that of $K$'s pullback, with
    $\dot{\bar h}_t = \dot{\bar y}_t + W_h^\top \dot{\bar z}_{t+1} + \dot W_h^\top \bar z_{t+1}$, and
    the product rule:

    $$\dot{\bar W}_x = \textstyle\sum_t (\dot{\bar z}_t x_t^\top + \bar z_t \dot x_t^\top), \quad
      \dot{\bar W}_h = \sum_t (\dot{\bar z}_t h_{t-1}^\top + \bar z_t \dot h_{t-1}^\top), \quad
      \dot{\bar b}_x = \dot{\bar b}_h = \sum_t \dot{\bar z}_t, \quad
      \dot{\bar x}_t = W_x^\top \dot{\bar z}_t + \dot W_x^\top \bar z_t.$$

    Parameters, with the names and layouts of Torch: ``weight_ih`` $W_x$ ``(4 hidden, features)``,
    ``weight_hh`` $W_h$ ``(4 hidden, hidden)``, ``bias_ih`` $b_x$ and ``bias_hh`` $b_h$ ``(4 hidden,)``, all
    uniform in ±1/√hidden, Torch's default. Input ``(..., N, features)``, output ``(..., N, hidden)``.

    Attributes:
        features: Length of an input.
        hidden: Length of an output.
        reverse: Whether the last example is read first; each output stays at the place of its input.
    """

    features: Count
    hidden: Count
    reverse: bool = False

    @property
    def example_axes(self) -> int:
        return 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (4 * self.hidden, self.features),
            "weight_hh": (4 * self.hidden, self.hidden),
            "bias_ih": (4 * self.hidden,),
            "bias_hh": (4 * self.hidden,),
        }

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        bound = 1 / math.sqrt(self.hidden)
        return {name: rng.uniform(-bound, bound, shape) for name, shape in self.shapes.items()}

    def forward(self, p: Tree, x: Array) -> tuple[Array, Passed]:
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise unfit(self, x, self.features)
        kernels = kernels_of(x)
        x = self._turn(x)
        projected = kernels.affine(x, p["weight_ih"], p["bias_ih"] + p["bias_hh"])
        zero = kernels.xp.zeros_like(projected[..., :1, : self.hidden])
        output, state, outputs, steps = zero, zero, [zero], []
        for t in range(x.shape[-2]):
            z = projected[..., t : t + 1, :] + kernels.affine(output, p["weight_hh"], None)
            output, state, step = lstm_cell.step(z, state)
            outputs.append(output)
            steps.append(step)
        y = self._turn(kernels.xp.concat(outputs[1:], axis=-2))
        return y, Passed(x, kernels.xp.concat(outputs[:-1], axis=-2), steps)

    def jvp(self, p: Tree, res: Passed, dp: Tree, dx: Array | None) -> Array:
        doutputs, _ = self._push_forward(p, res, dp, self._turn(dx))
        return self._turn(kernels_of(res.x).xp.concat(doutputs[1:], axis=-2))

    def vjp(self, p: Tree, res: Passed, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        gz, _ = self._pull_back(p, res, self._turn(gy))
        gp = self._parameters(gz, res.x, res.earlier)
        return gp, self._turn(kernels_of(gz).product(gz, p["weight_ih"])) if wrt_input else None

    def jvp_of_vjp(
        self, p: Tree, res: Passed, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        kernels = kernels_of(gy)
        dx = self._turn(d.x)
        dgy: Array = self._turn(d.gy)
        doutputs, tangents = self._push_forward(p, res, d.p, dx)
        gz, pulled = self._pull_back(p, res, self._turn(gy))
        through = kernels.product(gz, d.p["weight_hh"])
        dgoutput, dgstate = dgy[..., -1:, :], kernels.xp.zeros_like(gy[..., :1, :])
        dgzs: list[Array] = []
        for t in range(len(res.steps) - 1, -1, -1):
            dgz, dgstate = lstm_cell.tangent_of_pullback(
                res.steps[t], tangents[t], pulled[t], dgoutput, dgstate
            )
            dgzs.append(dgz)
            if t > 0:
                dgoutput = dgy[..., t - 1 : t, :] + through[..., t : t + 1, :]
                dgoutput += kernels.product(dgz, p["weight_hh"])
        dgz = kernels.xp.concat(dgzs[::-1], axis=-2)
        dgp = self._parameters(dgz, res.x, res.earlier)
        dgp["weight_hh"] += gz.mT @ kernels.xp.concat(doutputs[:-1], axis=-2)
        if dx is not None:
            dgp["weight_ih"] += gz.mT @ dx
        if not wrt_input:
            return dgp, None
        dgx = kernels.product(dgz, p["weight_ih"]) + kernels.product(gz, d.p["weight_ih"])
        return dgp, self._turn(dgx)

    def _push_forward(
        self, p: Tree, res: Passed, dp: Tree, dx: Array | None
    ) -> tuple[list[Array], list[lstm_cell.StepTangent]]:
        """The tangents of the outputs, in front that of the zeros before the first step, and of the steps."""
        kernels = kernels_of(res.x)
        moved = kernels.affine(res.x, dp["weight_ih"], dp["bias_ih"] + dp["bias_hh"])
        moved += kernels.affine(res.earlier, dp["weight_hh"], None)
        if dx is not None:
            moved += kernels.affine(dx, p["weight_ih"], None)
        zero = kernels.xp.zeros_like(moved[..., :1, : self.hidden])
        doutput, dstate, doutputs, tangents = zero, zero, [zero], []
        for t, step in enumerate(res.steps):
            dz = moved[..., t : t + 1, :] + kernels.affine(doutput, p["weight_hh"], None)
            doutput, dstate, tangent = lstm_cell.tangent(step, dz, dstate)
            doutputs.append(doutput)
            tangents.append(tangent)
        return doutputs, tangents

    def _pull_back(self, p: Tree, res: Passed, gy: Array) -> tuple[Array, list[lstm_cell.Pulled]]:
        """The cotangents of all pre-activations, ``(..., N, 4 hidden)``, and of the steps."""
        kernels = kernels_of(gy)
        goutput, gstate = gy[..., -1:, :], kernels.xp.zeros_like(gy[..., :1, :])
        gzs, pulled = [], []
        for t in range(len(res.steps) - 1, -1, -1):
            gz, gstate, cotangents = lstm_cell.pullback(res.steps[t], goutput, gstate)
            gzs.append(gz)
            pulled.append(cotangents)
            if t > 0:
                goutput = gy[..., t - 1 : t, :] + kernels.product(gz, p["weight_hh"])
        return kernels.xp.concat(gzs[::-1], axis=-2), pulled[::-1]

    def _parameters(self, gz: Array, x: Array, earlier: Array) -> Tree:
        """The cotangents of the parameters, from those of the pre-activations."""
        bias = kernels_of(gz).sum(gz, (-2,))
        return {"weight_ih": gz.mT @ x, "weight_hh": gz.mT @ earlier, "bias_ih": bias, "bias_hh": bias}

    def _turn(self, sequence: Array | None) -> Array | None:
        """From the order of the examples to that of reading, or back."""
        if sequence is None or not self.reverse:
            return sequence
        return kernels_of(sequence).xp.flip(sequence, axis=-2)
