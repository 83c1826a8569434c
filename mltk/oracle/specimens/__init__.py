"""Specimens: right and deliberately wrong implementations in plain Torch, which prove the diagnosis.

They are written as users write them, independently of mltk's own inner loop and of the catalogue of mistakes.
The self-test runs each as a candidate: the wrong ones must be found and named, no right one accused.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Scale = Literal[
    "sum-over-tasks",
    "sum-over-examples",
    "sum-over-tasks-and-examples",
    "divided-by-tasks",
    "gradient-accumulated-twice",
]

UNKNOWN = "unknown"
"""The mistake of a specimen that no catalogue has."""


@dataclass(frozen=True)
class Specimen:
    """An implementation, and what must be found about it.

    Attributes:
        name: Unique; lower case with hyphens.
        computation: The name of the computation that it claims to be.
        candidate: The function ``"module:function"``, or the name of a peer.
        mistake: The name of the catalogue's entry; `UNKNOWN` if there is none, ``None`` if it is correct.
        scale: The error of scale on top of the mistake.
    """

    name: str
    computation: str
    candidate: str
    _: KW_ONLY
    mistake: str | None = None
    scale: Scale | None = None


def _correct(computation: str, module: str, *functions: str) -> tuple[Specimen, ...]:
    return tuple(
        Specimen(f"{computation}-{_hyphens(function)}", computation, _path(module, function))
        for function in functions
    )


def _wrong(
    computation: str,
    module: str,
    function: str,
    mistake: str,
    scale: Scale | None = None,
) -> Specimen:
    name = f"{computation}-{_hyphens(function)}"
    return Specimen(name, computation, _path(module, function), mistake=mistake, scale=scale)


def _hyphens(function: str) -> str:
    return function.replace("_", "-")


def _path(module: str, function: str) -> str:
    return f"{__name__}.{module}:{function}"


CORRECT: tuple[Specimen, ...] = (
    *_correct("maml", "right_loops", "maml_by_autograd", "maml_by_backward", "maml_by_vmap", "maml_by_hand"),
    *(
        Specimen(f"maml-{peer}", "maml", peer)
        for peer in (
            "torch-func",
            "torch-loop",
            "torch-batched",
            "higher",
            "torchopt",
            "jax",
            "learn2learn",
            "torchmeta",
        )
    ),
    *_correct("fomaml", "right_loops", "fomaml_by_detach", "fomaml_by_sgd", "fomaml_at_the_end"),
    *(
        Specimen(f"fomaml-{peer}", "fomaml", peer)
        for peer in ("torch-func", "higher", "jax", "learn2learn", "torchmeta")
    ),
    *_correct("anil", "right_loops", "subset_in_the_loop", "subset_by_mask"),
    *_correct("boil", "right_loops", "subset_in_the_loop", "subset_by_mask"),
    *_correct("meta-sgd", "right_loops", "meta_sgd"),
    *_correct("reptile", "right_loops", "reptile"),
    *_correct("prototypical", "right_heads", "prototypical_by_cdist", "prototypical_expanded"),
    *_correct("matching", "right_heads", "matching_by_attention", "matching_by_logsumexp"),
    *_correct("ridge", "right_heads", "ridge_primal", "ridge_woodbury", "ridge_by_least_squares"),
    *_correct("logistic", "right_heads", "logistic_by_newton", "logistic_by_reweighting"),
)
"""Never to be accused."""

WRONG: tuple[Specimen, ...] = (
    _wrong("maml", "wrong_orders", "first_order_by_detach", "first-order"),
    _wrong("maml", "wrong_orders", "first_order_by_data", "first-order"),
    _wrong("maml", "wrong_orders", "first_order_by_copy", "first-order"),
    _wrong("maml", "wrong_orders", "first_order_without_graph", "first-order"),
    _wrong("anil", "wrong_orders", "first_order_subset", "first-order"),
    _wrong("boil", "wrong_orders", "first_order_subset", "first-order"),
    _wrong("meta-sgd", "wrong_orders", "first_order_rates", "first-order"),
    _wrong("fomaml", "wrong_orders", "second_order_kept", "second-order-kept"),
    _wrong("fomaml", "wrong_orders", "second_order_kept_by_func", "second-order-kept"),
    _wrong("maml", "wrong_orders", "graph_of_last_step", "truncated"),
    _wrong("maml", "wrong_orders", "graph_of_first_step", "truncated"),
    _wrong("maml", "wrong_orders", "last_step_missing", "inner-step-missing"),
    _wrong("maml", "wrong_orders", "first_step_missing", "inner-step-missing"),
    _wrong("maml", "wrong_orders", "extra_step", "extra-step"),
    _wrong("maml", "wrong_orders", "query_at_the_start", "query-loss-at-initial-parameters"),
    _wrong("maml", "wrong_orders", "swapped", "support-query-swapped"),
    _wrong("maml", "wrong_scales", "sum_over_tasks", "sum-over-tasks"),
    _wrong("maml", "wrong_scales", "sum_over_tasks_in_grad", "sum-over-tasks"),
    _wrong("maml", "wrong_scales", "sum_over_examples", "sum-over-examples"),
    _wrong("maml", "wrong_scales", "sum_over_examples_by_reduction", "sum-over-examples"),
    _wrong("maml", "wrong_scales", "sum_over_everything", "sum-over-tasks-and-examples"),
    _wrong("maml", "wrong_scales", "inner_loss_summed", "inner-loss-summed"),
    _wrong("maml", "wrong_scales", "inner_loss_by_reduction", "inner-loss-summed"),
    _wrong("maml", "wrong_scales", "rate_over_tasks", "inner-rate-factor"),
    _wrong("maml", "wrong_scales", "rate_over_steps", "inner-rate-factor"),
    _wrong("maml", "wrong_scales", "half_inner_loss", "inner-rate-factor"),
    _wrong("maml", "wrong_scales", "first_order_and_sum", "first-order", "sum-over-tasks"),
    _wrong("maml", "wrong_scales", "first_order_and_twice", "first-order", "gradient-accumulated-twice"),
    _wrong("maml", "wrong_scales", "extra_step_and_sum_over_examples", "extra-step", "sum-over-examples"),
    _wrong("maml", "wrong_scales", "summed_everywhere", "inner-loss-summed", "sum-over-examples"),
    _wrong(
        "maml",
        "wrong_scales",
        "truncated_and_sum_over_everything",
        "truncated",
        "sum-over-tasks-and-examples",
    ),
    _wrong("maml", "wrong_scales", "swapped_and_sum", "support-query-swapped", "sum-over-tasks"),
    _wrong("maml", "wrong_scales", "softmax_and_sum", "softmax-twice", "sum-over-tasks"),
    _wrong(
        "fomaml", "wrong_scales", "kept_order_and_twice", "second-order-kept", "gradient-accumulated-twice"
    ),
    _wrong("maml", "wrong_states", "never_restored", "state-leaks-between-tasks"),
    _wrong("fomaml", "wrong_states", "module_never_restored", "state-leaks-between-tasks"),
    _wrong("anil", "wrong_states", "shallow_copy", "state-leaks-between-tasks"),
    _wrong("maml", "wrong_states", "backward_twice", "gradient-accumulated-twice"),
    _wrong("fomaml", "wrong_states", "no_zero_grad_outside", "gradient-accumulated-twice"),
    _wrong("maml", "wrong_states", "inner_backward_reaches_the_leaves", "outer-gradient-accumulates"),
    _wrong("fomaml", "wrong_states", "no_zero_grad_before_the_query", "outer-gradient-accumulates"),
    _wrong("maml", "wrong_states", "inner_gradients_added_up", "inner-gradients-accumulate"),
    _wrong("fomaml", "wrong_states", "no_zero_grad_in_the_loop", "inner-gradients-accumulate"),
    _wrong("maml", "wrong_states", "last_task_only", "one-task-only", "divided-by-tasks"),
    _wrong("maml", "wrong_states", "inner_momentum", "momentum-in-inner-loop"),
    _wrong("anil", "wrong_states", "adapts_everything", "adapts-all-instead-of-subset"),
    _wrong("boil", "wrong_states", "adapts_everything", "adapts-all-instead-of-subset"),
    _wrong(
        "anil", "wrong_states", "adapts_everything_and_sum", "adapts-all-instead-of-subset", "sum-over-tasks"
    ),
    _wrong("anil", "wrong_states", "exchanged", "anil-boil-exchanged"),
    _wrong("boil", "wrong_states", "exchanged", "anil-boil-exchanged"),
    _wrong("anil", "wrong_states", "forgets_the_bias", "adapted-subset-wrong"),
    _wrong("boil", "wrong_states", "forgets_the_first_layer", "adapted-subset-wrong"),
    _wrong("meta-sgd", "wrong_states", "rates_do_not_learn", "rate-gradient-missing"),
    _wrong("meta-sgd", "wrong_states", "rates_climb", "rate-gradient-sign"),
    _wrong("meta-sgd", "wrong_states", "rates_climb_and_sum", "rate-gradient-sign", "sum-over-tasks"),
    _wrong("maml", "wrong_losses", "softmax_twice", "softmax-twice"),
    _wrong("fomaml", "wrong_losses", "softmax_twice_first_order", "softmax-twice"),
    _wrong("maml", "wrong_losses", "label_smoothing", "label-smoothing"),
    _wrong("maml", "wrong_losses", "label_smoothing_outside", "label-smoothing"),
    _wrong("maml", "wrong_losses", "weight_decay", "weight-decay-in-inner-loop"),
    _wrong("maml", "wrong_losses", "larger_weight_decay", "weight-decay-in-inner-loop"),
    _wrong("fomaml", "wrong_losses", "weight_decay_in_sgd", "weight-decay-in-inner-loop"),
    _wrong("maml", "wrong_losses", "clipping_by_norm", "gradient-clipping"),
    _wrong("maml", "wrong_losses", "clipping_by_value", "gradient-clipping"),
    _wrong("fomaml", "wrong_losses", "clipping_in_sgd", "gradient-clipping"),
    _wrong("maml", "wrong_losses", "meta_gradient_clipped", "outer-clipping"),
    _wrong("maml", "wrong_losses", "evaluation_mode", "batch-norm-evaluation-mode"),
    _wrong("maml", "wrong_losses", "running_statistics", "batch-norm-running-statistics"),
    _wrong("maml", "wrong_losses", "query_statistics", "batch-norm-query-statistics"),
    _wrong("prototypical", "wrong_heads", "euclidean_by_cdist", "euclidean-distance"),
    _wrong("prototypical", "wrong_heads", "euclidean_by_norm", "euclidean-distance"),
    _wrong(
        "prototypical",
        "wrong_heads",
        "euclidean_and_sum",
        "euclidean-distance",
        "sum-over-tasks-and-examples",
    ),
    _wrong("prototypical", "wrong_heads", "not_negated", "missing-negation"),
    _wrong("prototypical", "wrong_heads", "summed_prototypes", "prototype-by-sum"),
    _wrong("prototypical", "wrong_heads", "colder_when_warmer", "temperature-multiplied"),
    _wrong("prototypical", "wrong_heads", "probabilities_as_logits", "softmax-twice"),
    _wrong("prototypical", "wrong_heads", "dot_products_with_prototypes", "cosine-without-normalisation"),
    _wrong("prototypical", "wrong_heads", "summed_over_tasks", "sum-over-tasks"),
    _wrong("matching", "wrong_heads", "dot_products", "cosine-without-normalisation"),
    _wrong("matching", "wrong_heads", "one_side_normalised", "cosine-without-normalisation"),
    _wrong("matching", "wrong_heads", "attention_times_temperature", "temperature-multiplied"),
    _wrong("matching", "wrong_heads", "attention_as_logits", "softmax-twice"),
    _wrong("ridge", "wrong_heads", "penalty_times_examples", "regulariser-times-examples"),
    _wrong(
        "ridge",
        "wrong_heads",
        "penalty_times_examples_and_twice",
        "regulariser-times-examples",
        "gradient-accumulated-twice",
    ),
    _wrong("ridge", "wrong_heads", "column_of_ones", "bias-penalised"),
    _wrong("ridge", "wrong_heads", "lambda_on_the_kernel", "lambda-on-wrong-matrix"),
    _wrong("ridge", "wrong_heads", "lambda_is_its_root", "regulariser-power"),
    _wrong("ridge", "wrong_heads", "softmax_of_ridge", "softmax-twice"),
)
"""Each to be found and named."""

UNNAMED: tuple[Specimen, ...] = (
    _wrong("maml", "unknown", "sign_of_a_bias", UNKNOWN),
    _wrong("maml", "unknown", "frozen_layer", UNKNOWN),
    _wrong("maml", "unknown", "transposed_weight", UNKNOWN),
    _wrong("maml", "unknown", "noise_in_a_task", UNKNOWN),
    _wrong("maml", "unknown", "growing_loss_backwards", UNKNOWN),
    _wrong("maml", "wrong_losses", "constant_support_statistics", UNKNOWN),
    _wrong("prototypical", "wrong_heads", "detached_prototypes", UNKNOWN),
    _wrong("matching", "wrong_heads", "mean_cosine_of_a_class", UNKNOWN),
)
"""Each to be found, and no name given."""

SPECIMENS: tuple[Specimen, ...] = (*CORRECT, *WRONG, *UNNAMED)
