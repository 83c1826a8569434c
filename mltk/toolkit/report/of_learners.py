"""What a page says of learners: the table of all, those on the same tasks in pairs, and each by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mltk.checks import is_number
from mltk.errors import MltkError
from mltk.evaluation.interval import Interval
from mltk.evaluation.table import LearnerOutcome, Table
from mltk.pictures.curves import learning_curve_figure
from mltk.pictures.hardness import accuracy_by_hardness_figure
from mltk.pictures.reliability import reliability_figure
from mltk.progress import duration
from mltk.task_analysis.hardness_fit import fit_by_hardness
from mltk.toolkit.report.drawn import bar, inline
from mltk.toolkit.report.judging import SameTasks
from mltk.toolkit.report.markup import Html, folded, join, listed, shown, summarised, table, tag
from mltk.toolkit.report.of_failures import confused, failed
from mltk.toolkit.report.seen_runs import SeenRun

ALL_PAIRS = 8
"""So many learners are compared each with each, more with the best of them alone."""


def overview(runs: Sequence[SeenRun], ids: dict[str, str], groups: Sequence[SameTasks]) -> Html:
    """A row a learner."""
    rows = []
    by_name = {run.name: run for run in runs}
    for name, anchor in ids.items():
        run = by_name.get(name)
        group = next((each for each in groups if name in each.outcomes), None)
        cells: list[object] = [tag("a", name, href=f"#{anchor}")]
        if run is None:
            cells += ["–", "–", "–", "–"]
        else:
            last = run.history[-1] if run.history else None
            cells += [
                run.learner,
                badge(run),
                (tag("span", progress_of(run), data_live=f"step {name}"), run.step),
            ]
            cells += [
                ("–", math.nan)
                if last is None
                else (tag("span", f"{last['loss']:.4g}", data_live=f"loss {name}"), last["loss"])
            ]
        if group is None:
            cells.append("not evaluated")
        else:
            found = group.outcomes[name].evaluation
            cells.append((f"{found.metric} {found.in_words()}", found.mean))
        rows.append(cells)
    return table(
        "All learners", ["name", "learner", "state", "step", "loss", "unseen tasks (± over tasks)"], rows
    )


def badge(run: SeenRun) -> Html:
    """The state of a run."""
    return tag("span", run.state, class_=f"badge {run.state.replace(' ', '-')}")


def compared(group: SameTasks, found: Table) -> Html:
    """Intervals of all learners on the same tasks, and their differences in pairs."""
    names = list(found.outcomes)
    metric = found[names[0]].metric
    intervals = [(name, each) for name in names for each in _intervals(found.outcomes[name])]
    ends = [end for _, each in intervals for end in (each.low, each.high) if math.isfinite(end)]
    scale = (min(ends, default=0.0), max(ends, default=1.0))
    rows: list[list[Any]] = []
    for name, each in intervals:
        text = str(each).partition(" (")[0]
        drawn = bar(each.low, each.estimate, each.high, scale, text)
        rows.append([name, each.population, (text, each.estimate), drawn])
    head = ["learner", f"{100 * intervals[0][1].level:g} % interval over", metric, "on one scale"]
    parts = [table(f"The {metric} and how far it may be off, for what would be drawn anew", head, rows)]
    if len(names) > 1:
        over = "classes" if "classes" in found[names[0]].known else "tasks"
        many = len(names) > ALL_PAIRS
        rows = []
        for pair in found.comparisons("best" if many else None, over=over):
            apart = pair.difference
            text = f"{apart.estimate:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]".replace("-", "−")
            won = f"{pair.wins} / {pair.ties} / {pair.losses}"
            rows.append([" − ".join(pair.names), (text, apart.estimate), won, pair.sign_flip, pair.holm])
        head = [
            "pair",
            f"difference, over {over}",
            "larger / equal / smaller",
            "p over tasks (sign flips)",
            "p after Holm",
        ]
        what = "with the best" if many else "in pairs"
        parts.append(table(f"Differences of {metric} {what}, on the same tasks", head, rows))
    return join(parts)


def curve(run: SeenRun, key: str) -> Html:
    """The learning curve, as far as it has come."""
    if not run.history:
        return tag("p", "Nothing is logged yet.", class_="note")
    figure = learning_curve_figure(run.history, title=run.learner, loss=run.loss)
    first, last = run.history[0], run.history[-1]
    about = (
        f"Learning curve: {run.loss} from {first['loss']:.4g} to {last['loss']:.4g} at step {last['step']}"
    )
    return inline(figure, key, about)


def of_run(run: SeenRun, key: str) -> Iterator[Html]:
    """What the folder of a run says."""
    for problem in run.problems:
        yield tag("p", problem, class_="problem", role="note")
    told = [
        ("Learner", run.learner),
        ("State", join((badge(run), " ", tag("span", progress_of(run), data_live=f"step {run.name}")))),
    ]
    if run.history:
        told.append(("Training took", duration(run.history[-1]["seconds"])))
    yield listed([*told, ("Folder", tag("code", str(run.folder)))])
    yield tag("div", curve(run, f"{key}-curve"), data_live=f"curve {run.name}", class_="pictures")
    if run.alerts:
        yield join((tag("h3", "Alerts"), shown(run.alerts, "alerts")))
    if run.watched:
        yield folded("What a monitor saw", _watched(run.watched))
    if run.config:
        settings = [(name, tag("code", in_code(value))) for name, value in run.config.items()]
        yield folded("Settings", listed(settings))


def of_outcome(group: SameTasks, name: str, key: str) -> Iterator[Html]:
    """What an evaluation says of a learner."""
    if name in group.problems:
        yield tag("p", f"It could not be evaluated: {group.problems[name]}", class_="problem", role="note")
    if name not in group.outcomes:
        return
    outcome = group.outcomes[name]
    told = [(f"{outcome.evaluation.metric} over {each.over}", str(each)) for each in _intervals(outcome)]
    seconds = outcome.seconds
    took = f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
    transductive = {True: "yes", False: "no", None: "unknown"}[outcome.evaluation.transductive]
    told += [("Transductive", transductive), ("To adapt and predict", f"{took} a task")]
    yield join((tag("h3", "On unseen tasks"), listed(told)))
    drawn = []
    if outcome.calibration is not None:
        figure = reliability_figure(outcome.calibration.bins)
        drawn.append(
            inline(figure, f"{key}-reliability", "Reliability: accuracy of predictions by their confidence")
        )
    with suppress(MltkError):  # tasks that are too few or all alike have no line
        if group.hardness is not None:
            known = np.isfinite(group.hardness)
            fit = fit_by_hardness(group.hardness[known], outcome.evaluation.values[known])
            figure = accuracy_by_hardness_figure(fit)
            drawn.append(inline(figure, f"{key}-hardness", "Accuracy of tasks by their hardness"))
    if drawn:
        yield join((tag("h3", "Calibration and hardness"), tag("div", *drawn, class_="pictures")))
    if outcome.calibration is not None:
        yield folded("Calibration in numbers", summarised(outcome.calibration))
    if failures := group.failures.get(name):
        worst = [failed(each, group, f"{key}-failure-{place}") for place, each in enumerate(failures)]
        yield join((tag("h3", "Where it failed"), tag("div", *worst, class_="failures")))
    if name in group.confusions:
        yield confused(group, name)


def in_code(config: object) -> str:
    """Settings as they would be written: ``Adam(learning_rate=0.001)``."""
    if isinstance(config, dict):
        inner = ", ".join(f"{key}={in_code(value)}" for key, value in config.items() if key != "type")
        return f"{str(config.get('type', '')).rpartition('.')[2]}({inner})"
    if isinstance(config, list):
        return f"[{', '.join(map(in_code, config))}]"
    return str(config)


def _intervals(outcome: LearnerOutcome) -> list[Interval]:
    return [outcome.evaluation.interval(over) for over in outcome.evaluation.known]


def progress_of(run: SeenRun) -> str:
    """How far a run is: ``"40 of 300"``."""
    return f"{run.step:,} of {run.steps:,}" if run.steps else f"{run.step:,}"


def _watched(looks: Sequence[Mapping[str, Any]]) -> Html:
    """The course of everything that a monitor measured."""
    rows = []
    for name in dict.fromkeys(key for look in looks for key in look if key != "step"):
        values: list[float] = [look[name] for look in looks if is_number(look.get(name))]
        if values:
            rows.append([name, values[0], values[-1], min(values), max(values)])
    about = f"{len(looks)} looks, to step {looks[-1]['step']:,}"
    return table(about, ["measure", "first", "last", "least", "most"], rows)
