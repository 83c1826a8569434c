r"""One step of an LSTM (Hochreiter & Schmidhuber 1997), which `mltk.ops.LSTM` and matching networks share.

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

from typing import NamedTuple

from mltk.ops.kernels import kernels_of
from mltk.tree import Array


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


class Pulled(NamedTuple):
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
    i, f, g, o = _sigmoid(i), _sigmoid(f), xp.tanh(g), _sigmoid(o)
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


def pullback(s: CellStep, goutput: Array, gstate: Array) -> tuple[Array, Array, Pulled]:
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
    return s.slopes * gates, f * total, Pulled(goutput, total, gates)


def tangent_of_pullback(
    s: CellStep, d: StepTangent, pulled: Pulled, dgoutput: Array, dgstate: Array
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


def _blocks(values: Array, hidden: int) -> tuple[Array, Array, Array, Array]:
    """The four blocks of the last axis."""
    return (
        values[..., :hidden],
        values[..., hidden : 2 * hidden],
        values[..., 2 * hidden : 3 * hidden],
        values[..., 3 * hidden :],
    )


def _sigmoid(x: Array) -> Array:
    """As in `mltk.ops.Sigmoid`: it cannot overflow."""
    return (kernels_of(x).xp.tanh(x / 2) + 1) / 2
