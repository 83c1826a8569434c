"""Heads, the ridge solver and similarities in plain Torch: a class whose methods wrong specimens override."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import Implementation, specimen
from mltk.oracle.specimens.network import Arrays, gradients, learnable

METRIC = ("prototypical", "matching", "matching-full-context")
MATCHING = ("matching", "matching-full-context")
SOLVED = ("ridge", "logistic")
REGULARISED = ("ridge", "logistic", "ridge-regression")
HEADS = (*METRIC, *SOLVED)
DISTANCES = ("prototypical", "pairwise-sqeuclidean")
COSINES = (*METRIC, "pairwise-cosine-similarity")

INPUTS = ("support_x", "query_x", "embeddings", "a", "b")
"""What gradients are taken for, besides the parameters."""

Outputs = dict[str, Any]


@specimen(*HEADS, "ridge-regression", "pairwise-sqeuclidean", "pairwise-cosine-similarity")
class Head(Implementation):
    """Logits of the queries from the support set, their loss, and its gradients.

    The settings of the case say which head it is.
    """

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        inputs = {name: getattr(data, name) for name in INPUTS if hasattr(data, name)}
        self.leaves = learnable({**inputs, **params})
        self.dtype = next(iter(inputs.values())).dtype

    def answer(self) -> Outputs:
        """Whatever the computation returns."""
        if "similarity" in self.settings:
            return self.pairs()
        if "bias" in self.settings:
            return self.solver()
        support, query = self.embedded(self.leaves["support_x"]), self.embedded(self.leaves["query_x"])
        logits = self.finished(self.logits(support, query))
        loss = self.loss(logits, self.data.query_y)
        return {"logits": logits.detach(), "loss": loss.detach(), "gradients": self.gradient(loss)}

    def pairs(self) -> Outputs:
        """All similarities, and what their cotangent pulls back to."""
        a, b = self.leaves["a"], self.leaves["b"]
        value = self.cosines(a, b) if self.settings.similarity == "cosine" else self.squares(a, b)
        return {"value": value.detach(), "gradients": self.gradient((value * self.data.gy).sum())}

    def solver(self) -> Outputs:
        """Weight and bias of ridge regression, and what their cotangents pull back to."""
        x, y = self.embedded(self.leaves["embeddings"]), self.targets(self.data.targets)
        weight, bias = self.fitted(x, y, self.settings.bias)
        weight, bias = self.scale() * weight.mT, self.scale() * bias.expand(*y.shape[:1], 1, -1)[:, 0]
        value = (weight * self.data.g_weight).sum() + (bias * self.data.g_bias).sum()
        return {"weight": weight.detach(), "bias": bias.detach(), "gradients": self.gradient(value)}

    def embedded(self, x: Tensor) -> Tensor:
        """The embeddings as they reach the head."""
        return x

    def gradient(self, value: Tensor) -> Arrays:
        """Of a number, for all leaves."""
        return gradients(value, self.leaves)

    def finished(self, logits: Tensor) -> Tensor:
        """What is done to logits at the end."""
        return logits

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of the logits."""
        if self.settings.ways is None:
            return F.mse_loss(logits, target)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels as rows of one 1 each."""
        return F.one_hot(labels, self.settings.ways).to(self.dtype)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Those of the head that the settings tell of."""
        if "distance" in self.settings:
            return torch.div(self.compared(query, self.prototypes(support)), self.temperature())
        if "processing_steps" in self.settings:
            context = self.read(support)
            return self.matched(context, self.attend(query, context))
        if "reg_lambda" not in self.settings:
            return self.matched(support, query)
        y = self.targets(self.data.support_y)
        if "steps" in self.settings:
            return self.calibrated(query @ self.newton(support, y))
        weight, bias = self.fitted(support, y, self.settings.intercept)
        return self.calibrated(query @ weight + bias)

    def prototypes(self, support: Tensor) -> Tensor:
        """The class means."""
        members = self.one_hot(self.data.support_y)
        means: Tensor = (members.mT @ support) / members.sum(1)[..., None]
        return means

    def temperature(self) -> Any:
        """Learned or given."""
        learned = self.leaves.get("log_temperature")
        return self.settings.temperature if learned is None else learned.exp()

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        """The similarities of prototypical networks."""
        return self.cosines(a, b) if self.settings.distance == "cosine" else -self.squares(a, b)

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of all pairs."""
        return (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1)

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosines of all pairs."""
        product: Tensor = self.unit(a) @ self.unit(b).mT
        return product

    def unit(self, x: Tensor) -> Tensor:
        """Rows of length 1; a row of zeros stays, and passes no gradient on."""
        squared = x.square().sum(-1, keepdim=True)
        return torch.where(squared > 0, x / torch.where(squared > 0, squared, 1).sqrt(), 0)

    def matched(self, support: Tensor, query: Tensor) -> Tensor:
        """The logits of matching networks."""
        scores = self.cosines(query, support) / self.temperature()
        return self.by_class(scores, self.one_hot(self.data.support_y))

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        """The logarithm of the attention that falls on each class."""
        return (scores.softmax(-1) @ members).log()

    def read(self, support: Tensor) -> Tensor:
        """The support set in its full context."""
        forth = self.lstm("forward", support)
        back = self.lstm("backward", support.flip(1)).flip(1)
        return forth + back + support

    def attend(self, query: Tensor, context: Tensor) -> Tensor:
        """The queries in the context of the support set."""
        output = state = torch.zeros_like(query)
        for _ in range(self.settings.processing_steps):
            output, state = self.process(query, output, state, context)
        return output + query

    def process(self, query: Tensor, output: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One processing step."""
        hidden = output + query
        return self.cell("attention", query, torch.cat([hidden, self.readout(hidden, memory)], -1), state)

    def readout(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """What a query reads of the support set."""
        return (hidden @ memory.mT).softmax(-1) @ memory

    def lstm(self, name: str, x: Tensor) -> Tensor:
        """Reads examples in the order in which they stand."""
        output = state = torch.zeros_like(x[:, 0])
        outputs = []
        for i in range(x.shape[1]):
            output, state = self.cell(name, x[:, i], output, state)
            outputs.append(output)
        return torch.stack(outputs, 1)

    def cell(self, name: str, x: Tensor, recurrent: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A step of an LSTM."""
        p = {key: self.leaves[f"{name}.{key}"] for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        z = F.linear(x, p["weight_ih"], p["bias_ih"]) + F.linear(
            recurrent, p["weight_hh"], self.second_bias(p)
        )
        i, f, g, o = self.gates(z)
        state = f.sigmoid() * state + i.sigmoid() * g.tanh()
        return o.sigmoid() * state.tanh(), state

    def second_bias(self, p: Arrays) -> Tensor | None:
        """That of the recurrent half of a cell."""
        return p["bias_hh"]

    def gates(self, z: Tensor) -> tuple[Tensor, ...]:
        """The input gate, the forget gate, the candidate and the output gate."""
        return z.chunk(4, -1)

    def reg_lambda(self, x: Tensor) -> Tensor:
        """The regulariser, learned or given, of a shape that meets matrices of tasks."""
        if "log_lambda" in self.leaves:
            return self.leaves["log_lambda"].exp()[None, None]
        if "reg_lambda" in self.leaves:
            return self.leaves["reg_lambda"][..., None, None]
        return torch.full((1, 1), self.settings.reg_lambda, dtype=x.dtype)

    def targets(self, y: Tensor) -> Tensor:
        """What is regressed on: numbers, or one-hot labels."""
        return y if self.settings.ways is None else self.one_hot(y)

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        """Weight and bias of ridge regression."""
        if not intercept:
            return self.solved(x, y), torch.zeros_like(y[:, :1])
        x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        weight = self.solved(x - x_mean, y - y_mean)
        return weight, y_mean - x_mean @ weight

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        """The weights of ridge regression without an intercept."""
        eye = torch.eye(x.shape[-1], dtype=x.dtype)
        weight: Tensor = torch.linalg.solve(x.mT @ x + self.reg_lambda(x) * eye, x.mT @ y)
        return weight

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        """The weights of logistic regression, one class against the rest."""
        weight = torch.zeros_like(x[:, 0, :, None] * y[:, :1])
        for k in range(self.settings.steps):
            weight = self.newton_step(weight, x, y, k)
        return weight

    def newton_step(self, weight: Tensor, x: Tensor, y: Tensor, k: int) -> Tensor:
        """One of Newton's steps on all classes."""
        share = (x @ weight).sigmoid()
        slope = share * (1 - share)
        gradient = x.mT @ (share - y) + self.reg_lambda(x) * weight
        step = torch.linalg.solve(self.hessian(x, slope.mT[..., None]), gradient.mT[..., None])[..., 0].mT
        return torch.sub(weight, step)

    def hessian(self, x: Tensor, slope: Tensor) -> Tensor:
        """That of each class, from the slopes ``(T, ways, N, 1)``."""
        eye = torch.eye(x.shape[-1], dtype=x.dtype)
        return x.mT[:, None] @ (slope * x[:, None]) + self.reg_lambda(x)[..., None, :, :] * eye

    def scale(self) -> Any:
        """Of the outputs, learned or given."""
        return self.leaves.get("scale", self.settings.scale)

    def calibrated(self, outputs: Tensor) -> Tensor:
        """Times the scale, plus the shift."""
        scaled: Tensor = self.scale() * outputs
        return scaled + self.leaves.get("bias", 0.0)
