# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong matching networks: their attention and their LSTMs. Each overrides methods of `Head`."""

from __future__ import annotations

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import UNKNOWN, specimen
from mltk.oracle.specimens.head import MATCHING, Head
from mltk.oracle.specimens.network import Arrays

FULL = "matching-full-context"


@specimen("matching", mistake="softmax-twice")
class AttentionAsLogits(Head):
    """Probabilities go to the cross-entropy, which wants logits."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return scores.softmax(-1) @ members


@specimen("matching", mistake=UNKNOWN)
class MeanCosineOfAClass(Head):
    """The mean cosine of each class is its logit."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return torch.div(scores @ members, members.sum(1)[:, None])


@specimen(*MATCHING, mistake="attention-axis")
class AttentionOverQueries(Head):
    """``softmax(dim=1)``."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(1) @ members).log()


@specimen(*MATCHING, mistake="attention-not-added-by-class")
class MeanAttention(Head):
    """The mean of the attention to the examples of a class."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(-1) @ members / members.sum(1)[:, None]).log()


@specimen(*MATCHING, mistake="attention-not-normalised")
class SumsOfExponentials(Head):
    """No division by the sum over all examples."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.exp() @ members).log()


@specimen(*MATCHING, mistake="epsilon-in-logarithm")
class EpsilonInLogarithm(Head):
    """``(attention + 1e-6).log()``."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(-1) @ members + 1e-6).log()


@specimen(*MATCHING, mistake="support-without-gradient")
class SupportDetached(Head):
    """What the queries are compared with is computed under ``no_grad``."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {**found, "support_x": torch.zeros_like(found["support_x"])}


@specimen(FULL, mistake="gate-order")
class GatesOfAnotherLibrary(Head):
    """Input, forget, output, candidate."""

    def gates(self, z: Tensor) -> tuple[Tensor, ...]:
        i, f, o, g = super().gates(z)
        return i, f, g, o


@specimen(FULL, mistake="one-bias")
class OneBias(Head):
    """A cell with one bias."""

    def second_bias(self, p: Arrays) -> Tensor | None:
        return None


@specimen(FULL, mistake="processing-steps")
class OneStepTooMany(Head):
    """A processing step before the loop."""

    def attend(self, query: Tensor, context: Tensor) -> Tensor:
        output, state = self.process(query, torch.zeros_like(query), torch.zeros_like(query), context)
        for _ in range(self.settings.processing_steps):
            output, state = self.process(query, output, state, context)
        return output + query


@specimen(FULL, mistake="reading-direction")
class NotTurnedRound(Head):
    """The outputs from the end stand in the order of reading."""

    def read(self, support: Tensor) -> Tensor:
        return self.lstm("forward", support) + self.lstm("backward", support.flip(1)) + support


@specimen(FULL, mistake="skip-connection-missing")
class NoSkip(Head):
    """What the LSTMs make of the support set, alone."""

    def read(self, support: Tensor) -> Tensor:
        return super().read(support) - support


@specimen(FULL, mistake="readout-wrong")
class ScaledReadout(Head):
    """Inner products over √d, as in transformers."""

    def readout(self, hidden: Tensor, memory: Tensor) -> Tensor:
        scores = hidden @ memory.mT / memory.shape[-1] ** 0.5
        return torch.matmul(scores.softmax(-1), memory)


@specimen(FULL, mistake="state-is-forgotten")
class StateForgotten(Head):
    """``LSTMCell(x, h)`` without the state."""

    def process(self, query: Tensor, output: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return super().process(query, output, torch.zeros_like(state), memory)
