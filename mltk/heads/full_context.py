"""Full context embeddings: what an example means depends on the support set that it is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mltk import tree
from mltk.checks import Checked, Count
from mltk.errors import ShapeError
from mltk.heads.head import Head
from mltk.heads.matching import Temperature, match, match_pullback
from mltk.ops import LSTM, Attention, lstm
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class FullContextMatchingHead(Checked, Head):
    r"""Matching with full context embeddings (Vinyals et al. 2016, section 2.1.2 and appendix A).

    Call $q$ and $s_i$ the embeddings of a query and of the support examples, in the order in which they
    come. Two LSTMs (`mltk.ops.LSTM`) read the support set, one from either end, with a skip connection:

    $$g_i = \overrightarrow{h}_i + \overleftarrow{h}_i + s_i.$$

    A third LSTM reads the same query $K$ times, each time with what attention to the support set gives. From
    $\hat h_0 = c_0 = 0$, which the paper leaves open, for $k = 1 \dots K$:

    $$h_{k-1} = \hat h_{k-1} + q, \qquad
      r_{k-1} = \sum_i \operatorname{softmax}_i(h_{k-1}^\top g_i) \, g_i,$$

    $$z_k = W_x q + W_h [h_{k-1}, r_{k-1}] + b_x + b_h, \qquad
      (\hat h_k, c_k) = \operatorname{cell}(z_k, c_{k-1}),$$

    where $[h, r]$ has twice the length of $q$ and the cell is that of `mltk.ops.lstm`. The query becomes
    $f = \hat h_K + q$, and $f$ is matched with the $g_i$ by cosine attention as in `MatchingHead`.

    The pullback takes these lines in reverse, with $\bar h_K = \bar f$. Since $h_k = \hat h_k + q$, each
    $\bar h_k$ goes to $q$ and is $\bar{\hat h}_k$. The cell pulls $(\bar{\hat h}_k, \bar c_k)$ back to
    $(\bar z_k, \bar c_{k-1})$. $W_h^\top \bar z_k$ is the cotangent of $[h_{k-1}, r_{k-1}]$, whose second
    half the pullback of `mltk.ops.Attention` passes on to $h_{k-1}$ and the $g_i$. In the end $q$ gets
    $W_x^\top \sum_k \bar z_k$, and $\bar s_i$ is $\bar g_i$ and what the two LSTMs pull it back to.

    Parameters: those of the LSTMs, under ``forward``, ``backward`` and ``attention``, with the names, layouts
    and initial values of Torch. ``attention.weight_hh`` is ``(4 d, 2 d)``, for $[h, r]$.

    Attributes:
        features: Length $d$ of an embedding.
        processing_steps: $K$.
        temperature: That of the matching, as in `MatchingHead`.
    """

    features: Count
    processing_steps: Count = 3
    temperature: Temperature = 1.0

    @cached_property
    def readers(self) -> dict[str, LSTM]:
        """What reads the support set, under the names of the parameters."""
        d = self.features
        return {"forward": LSTM(d, d), "backward": LSTM(d, d, reverse=True)}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        shapes = {name: dict(reader.shapes) for name, reader in self.readers.items()}
        wide = {"weight_hh": (4 * self.features, 2 * self.features)}  # it remembers what it reads, too
        shapes["attention"] = LSTM(self.features, self.features).shapes | wide
        return tree.flatten(shapes)

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """See `Head.init`."""
        bound = 1 / math.sqrt(self.features)
        return tree.unflatten(
            {name: rng.uniform(-bound, bound, shape) for name, shape in self.shapes.items()}
        )

    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """The support set in its own context: ``embeddings`` ``(T, N, d)`` and one-hot ``target``."""
        return {"embeddings": self._read(p, support)[0], "target": target}

    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The log-probabilities ``(T, M, ways)``."""
        f, _ = self._attend(p, fitted["embeddings"], query)
        return match(f, fitted["embeddings"], fitted["target"], self.temperature)[0]

    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """See `Head.forward`."""
        g, readings = self._read(p, support)
        f, steps = self._attend(p, g, query)
        y, matched = match(f, g, target, self.temperature)
        return y, (query, g, readings, steps, matched)

    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """See `Head.vjp`."""
        query, g, readings, steps, matched = residuals
        gf, gg = match_pullback(matched, gy)
        g_attention, gg, g_query = self._pull_attention_back(p["attention"], query, g, steps, gf, gg)
        gp: Tree = {}
        g_support = gg
        for name, reader in self.readers.items():
            gp[name], through = reader.vjp(p[name], readings[name], gg)
            g_support = g_support + through
        return {**gp, "attention": g_attention}, g_support, g_query

    def _read(self, p: Tree, support: Array) -> tuple[Array, dict[str, Any]]:
        """The support embeddings in context, and the residuals of the LSTMs."""
        if support.shape[-1] != self.features:
            raise ShapeError(
                f"support has shape {tuple(support.shape)}; expected embeddings (T, N, {self.features}), "
                "the features of the full context"
            )
        g, readings = support, {}
        for name, reader in self.readers.items():
            outputs, readings[name] = reader.forward(p[name], support)
            g = g + outputs
        return g, readings

    def _attend(self, p: Tree, g: Array, query: Array) -> tuple[Array, list[Any]]:
        """The query embeddings in context, and what the pullback needs of each processing step."""
        kernels, own = kernels_of(query), p["attention"]
        projected = kernels.affine(query, own["weight_ih"], own["bias_ih"] + own["bias_hh"])
        output = state = kernels.xp.zeros_like(query)
        steps = []
        for _ in range(self.processing_steps):
            h = output + query
            readout, attended = READ.forward({"keys": g, "values": g}, h)
            recurrent = kernels.xp.concat([h, readout], axis=-1)
            z = projected + kernels.affine(recurrent, own["weight_hh"], None)
            output, state, step = lstm.step(z, state)
            steps.append((attended, recurrent, step))
        return output + query, steps

    def _pull_attention_back(
        self, own: Tree, query: Array, g: Array, steps: list[Any], gf: Array, gg: Array
    ) -> tuple[Tree, Array, Array]:
        """The cotangents of the attention's parameters, of the support embeddings and of the query.

        ``gf`` and ``gg`` are those of the query and support embeddings in context, from their comparison.
        """
        kernels = kernels_of(query)
        g_query, g_output, g_state = gf, gf, kernels.xp.zeros_like(gf)
        g_projected: Array = 0
        g_weight: Array = 0
        for attended, recurrent, step in reversed(steps):
            gz, g_state, _ = lstm.pullback(step, g_output, g_state)
            g_projected = g_projected + gz
            g_weight = g_weight + gz.mT @ recurrent
            g_recurrent = kernels.product(gz, own["weight_hh"])
            memory = {"keys": g, "values": g}
            g_memory, through = READ.vjp(memory, attended, g_recurrent[..., self.features :])
            gg = gg + g_memory["keys"] + g_memory["values"]
            g_output = g_recurrent[..., : self.features] + through
            g_query = g_query + g_output
        bias = kernels.sum(g_projected, (-2,))
        gp = {"weight_ih": g_projected.mT @ query, "weight_hh": g_weight, "bias_ih": bias, "bias_hh": bias}
        return gp, gg, g_query + kernels.product(g_projected, own["weight_ih"])


READ = Attention()
"""How an LSTM reads the support set: by inner products, as the paper does, without a scale."""
