r"""Long short-term memory (Hochreiter & Schmidhuber 1997): its cell, and `LSTM`, which reads a set with it.

The cell is one step, which matching networks take by themselves.

The pre-activations $z$ are four blocks, in Torch's order: input gate, forget gate, candidate, output gate.
With $i, f, o = \sigma(z_i), \sigma(z_f), \sigma(z_o)$ and $g = \tanh(z_g)$, the cell state before the step
$c'$ and $\tau = \tanh(c)$,

$$c = f c' + i g, \qquad h = o \tau.$$

Write $a = (i, f, g, o)$ and $s$ for the slopes of the four functions, so that $\dot a = s \dot z$. For the
sigmoids $s = a (1 - a)$ and $\dot s = (1 - 2 a) \dot a$, for the hyperbolic tangent $s = 1 - a^2$ and
$\dot s = -2 a \dot a$. Then

$$\dot c = \dot f c' + f \dot c' + \dot i g + i \dot g, \qquad
  \dot\tau = (1 - \tau^2) \dot c, \qquad \dot h = \dot o \tau + o \dot\tau.$$

The cotangent $\bar h$ of the output reaches the state through $\tau$, and adds to the cotangent $\bar c$ that
comes from the next step: with $e = o (1 - \tau^2)$,

$$\bar C = \bar c + e \bar h, \qquad \bar a = (g \bar C,\ c' \bar C,\ i \bar C,\ \tau \bar h), \qquad
  \bar z = s \bar a, \qquad \bar c' = f \bar C.$$

Its tangent, with $\dot e = \dot o (1 - \tau^2) - 2 o \tau \dot\tau$, is

$$\dot{\bar C} = \dot{\bar c} + e \dot{\bar h} + \dot e \bar h, \qquad
  \dot{\bar z} = s \dot{\bar a} + \dot s \bar a, \qquad \dot{\bar c}' = f \dot{\bar C} + \dot f \bar C,$$

where $\dot{\bar a}$ is the product rule of $\bar a$. The rows of ``(..., rows, hidden)`` are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mltk.checks import Checked, Count, Flag
from mltk.ops.activation import sigmoid
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
from mltk.tree import Array, Tree


class CellStep(NamedTuple):
    """What the derivatives need of a step.

    Attributes:
        gates: Input gate, forget gate, candidate and output gate, each ``(..., rows, hidden)``.
        slopes: Of the four, side by side, ``(..., rows, 4 hidden)``.
        before: The cell state before the step.
        squashed: The hyperbolic tangent of the state after it.
    """

    gates: tuple[Array, Array, Array, Array]
    slopes: Array
    before: Array
    squashed: Array


class StepTangent(NamedTuple):
    """The tangents of a `CellStep`."""

    gates: tuple[Array, Array, Array, Array]
    before: Array
    squashed: Array


class CellCotangents(NamedTuple):
    """The cotangents of a step.

    Attributes:
        output: Of the output.
        state: Of the state after the step, with what comes through the output.
        gates: Of the four gates, side by side.
    """

    output: Array
    state: Array
    gates: Array


def step(z: Array, state: Array) -> tuple[Array, Array, CellStep]:
    """The output and the state after a step, and what the derivatives need.

    Args:
        z: Pre-activations ``(..., rows, 4 hidden)``.
        state: Cell state before the step, ``(..., rows, hidden)``.
    """
    xp = kernels_of(z).xp
    hidden = state.shape[-1]
    i, f, g, o = _blocks(z, hidden)
    i, f, g, o = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o)
    slopes = xp.concat([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)], axis=-1)
    after = f * state + i * g
    squashed = xp.tanh(after)
    return o * squashed, after, CellStep((i, f, g, o), slopes, state, squashed)


def tangent(s: CellStep, dz: Array, dstate: Array) -> tuple[Array, Array, StepTangent]:
    """The tangents of the output and of the state after a step, and those of what is in between."""
    i, f, g, o = s.gates
    di, df, dg, do = _blocks(s.slopes * dz, i.shape[-1])
    dafter = df * s.before + f * dstate + di * g + i * dg
    dsquashed = (1 - s.squashed * s.squashed) * dafter
    return do * s.squashed + o * dsquashed, dafter, StepTangent((di, df, dg, do), dstate, dsquashed)


def pullback(s: CellStep, goutput: Array, gstate: Array) -> tuple[Array, Array, CellCotangents]:
    """The cotangents of the pre-activations and of the state before a step, and those in between.

    Args:
        s: The step.
        goutput: Cotangent of the output.
        gstate: Cotangent of the state after the step, as far as it does not come through the output.
    """
    i, f, g, o = s.gates
    total = gstate + o * (1 - s.squashed * s.squashed) * goutput
    gates = kernels_of(total).xp.concat(
        [g * total, s.before * total, i * total, s.squashed * goutput], axis=-1
    )
    return s.slopes * gates, f * total, CellCotangents(goutput, total, gates)


def tangent_of_pullback(
    s: CellStep, d: StepTangent, pulled: CellCotangents, dgoutput: Array, dgstate: Array
) -> tuple[Array, Array]:
    """The tangents of `pullback`'s cotangents of the pre-activations and of the state before the step."""
    xp = kernels_of(dgoutput).xp
    i, f, g, o = s.gates
    di, df, dg, do = d.gates
    open_ = 1 - s.squashed * s.squashed
    dtotal = dgstate + o * open_ * dgoutput
    dtotal += (do * open_ - 2 * o * s.squashed * d.squashed) * pulled.output
    dgates = xp.concat(
        [
            g * dtotal + dg * pulled.state,
            s.before * dtotal + d.before * pulled.state,
            i * dtotal + di * pulled.state,
            s.squashed * dgoutput + d.squashed * pulled.output,
        ],
        axis=-1,
    )
    dslopes = xp.concat([(1 - 2 * i) * di, (1 - 2 * f) * df, -2 * g * dg, (1 - 2 * o) * do], axis=-1)
    return s.slopes * dgates + dslopes * pulled.gates, f * dtotal + df * pulled.state


class Passed(NamedTuple):
    """What the derivatives need of a pass over a sequence, in the order of reading.

    Attributes:
        x: The inputs ``(..., N, features)``.
        earlier: The output before each step, ``(..., N, hidden)``.
        steps: The steps.
    """

    x: Array
    earlier: Array
    steps: list[CellStep]


@dataclass(frozen=True)
class LSTM(Checked, Operation):
    r"""One layer of long short-term memory that reads the examples in order.

    The examples are the sequence. From $h_0 = c_0 = 0$, step $t$ is the cell $K$ of this module:

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
    reverse: Flag = False

    example_axes = 1

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
            output, state, taken = step(z, state)
            outputs.append(output)
            steps.append(taken)
        y = self._turn(kernels.xp.concat(outputs[1:], axis=-2))
        return y, Passed(x, kernels.xp.concat(outputs[:-1], axis=-2), steps)

    def jvp(self, p: Tree, res: Passed, dp: Tree, dx: Array | None) -> Array:
        doutputs, _ = self._push_forward(p, res, dp, self._turn(dx))
        return self._turn(kernels_of(res.x).xp.concat(doutputs[1:], axis=-2))

    def vjp(self, p: Tree, res: Passed, gy: Array, *, wrt_input: bool = True) -> Pulled:
        gz, _ = self._pull_back(p, res, self._turn(gy))
        gp = self._parameters(gz, res.x, res.earlier)
        return gp, self._turn(kernels_of(gz).product(gz, p["weight_ih"])) if wrt_input else None

    def jvp_of_vjp(self, p: Tree, res: Passed, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        kernels = kernels_of(gy)
        dx = self._turn(d.x)
        dgy: Array = self._turn(d.gy)
        doutputs, tangents = self._push_forward(p, res, d.p, dx)
        gz, pulled = self._pull_back(p, res, self._turn(gy))
        through = kernels.product(gz, d.p["weight_hh"])
        dgoutput, dgstate = dgy[..., -1:, :], kernels.xp.zeros_like(gy[..., :1, :])
        dgzs: list[Array] = []
        for t in range(len(res.steps) - 1, -1, -1):
            dgz, dgstate = tangent_of_pullback(res.steps[t], tangents[t], pulled[t], dgoutput, dgstate)
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
    ) -> tuple[list[Array], list[StepTangent]]:
        """The tangents of the outputs, in front that of the zeros before the first step, and of the steps."""
        kernels = kernels_of(res.x)
        moved = kernels.affine(res.x, dp["weight_ih"], dp["bias_ih"] + dp["bias_hh"])
        moved += kernels.affine(res.earlier, dp["weight_hh"], None)
        if dx is not None:
            moved += kernels.affine(dx, p["weight_ih"], None)
        zero = kernels.xp.zeros_like(moved[..., :1, : self.hidden])
        doutput, dstate, doutputs, tangents = zero, zero, [zero], []
        for t, taken in enumerate(res.steps):
            dz = moved[..., t : t + 1, :] + kernels.affine(doutput, p["weight_hh"], None)
            doutput, dstate, moved_along = tangent(taken, dz, dstate)
            doutputs.append(doutput)
            tangents.append(moved_along)
        return doutputs, tangents

    def _pull_back(self, p: Tree, res: Passed, gy: Array) -> tuple[Array, list[CellCotangents]]:
        """The cotangents of all pre-activations, ``(..., N, 4 hidden)``, and of the steps."""
        kernels = kernels_of(gy)
        goutput, gstate = gy[..., -1:, :], kernels.xp.zeros_like(gy[..., :1, :])
        gzs, pulled = [], []
        for t in range(len(res.steps) - 1, -1, -1):
            gz, gstate, cotangents = pullback(res.steps[t], goutput, gstate)
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


def _blocks(values: Array, hidden: int) -> tuple[Array, Array, Array, Array]:
    """The four blocks of the last axis."""
    return (
        values[..., :hidden],
        values[..., hidden : 2 * hidden],
        values[..., 2 * hidden : 3 * hidden],
        values[..., 3 * hidden :],
    )
