"""The subcommands `train`, `evaluate`, `reproduce` and `bench`."""

from __future__ import annotations

import errno
import shlex
import sys
import warnings
from dataclasses import fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from mltk import benchmark
from mltk.algorithms import StochasticMAML
from mltk.backend import backend as choose_backend
from mltk.cli import data as data_commands
from mltk.cli import oracle as oracle_commands
from mltk.cli import reports
from mltk.cli import toolkit as toolkit_commands
from mltk.cli.ab import ab
from mltk.cli.choices import AlgorithmName, DataName, Dtype, Protocol, TransformName, backend_names
from mltk.cli.compare import compare
from mltk.cli.exit_status import IMPOSSIBLE, INTERRUPTED
from mltk.cli.held_out import about_training, draw, tasks_to_test_on, test_command
from mltk.cli.image_options import Images, Queries, Shots, Ways
from mltk.cli.out import folder_option
from mltk.cli.policies import ACTED, check_policy, draw_policy, policy_recipe
from mltk.cli.recipes import Wishes, recipe
from mltk.cli.recording import RecordsFile, recording, with_monitor
from mltk.cli.suggestions import SuggestingGroup
from mltk.contracts import Backend
from mltk.data.images.jitter import Jitter
from mltk.data.images.tasks import ImageTasks
from mltk.data.source import chosen_from
from mltk.errors import MissingLibraryError, MltkError, RunError, SettingError
from mltk.evaluation import Entry, Evaluation, omniglot_challenge, returns
from mltk.evaluation import evaluate as evaluate_learner
from mltk.installation import needed_for
from mltk.progress import duration, reporting, say
from mltk.toolkit.recording import run_of
from mltk.toolkit.recovery import RecoveredRun, Recovery
from mltk.toolkit.test_time import TestTimeScaler
from mltk.training.interruption import TerminatedError
from mltk.training.loop import Run
from mltk.training.run_folder import RunFolder, first_free
from mltk.training.runs import load_run
from mltk.training.runs import train as train_learner
from mltk.version import __version__


class Commands(SuggestingGroup):
    """Shows an error that mltk raises on purpose, or of a file, as one message without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            with needed_for("this command"):
                return super().invoke(ctx)
        except MissingLibraryError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(IMPOSSIBLE) from None
        except MltkError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads has seen enough
                raise
            file = "" if error.filename is None else f"{error.filename}: "
            say(f"error: {file}{error.strerror or error}", sys.stderr)
            raise typer.Exit(1) from None


class TableRow(StrEnum):
    """Training shots: rows of the published table."""

    FIVE = "5"
    TEN = "10"
    TWENTY = "20"


app = typer.Typer(
    cls=Commands,
    help="Meta-learning with exact, hand-derived gradients.",
    epilog="Start with: mltk train maml --data sinusoid --steps 5000",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
reproduce = typer.Typer(help="Reproduce published results.", no_args_is_help=True)
groups = {"data": data_commands.app, "oracle": oracle_commands.app, "toolkit": toolkit_commands.app}
for name, group in ({"reproduce": reproduce, "bench": benchmark.app} | groups).items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line."""
    # Whoever types a command need not see which line of the library warns.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app(prog_name="mltk")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mltk {__version__}")
        raise typer.Exit


def _examples(*commands: str) -> str:
    """Examples for the end of a help text, a paragraph each so that lines stay apart."""
    return "\n\n".join(("Examples:", *commands))


@app.callback()
def _options(
    _version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=_examples(
        "mltk train maml --data sinusoid --steps 5000 --inner-steps 5",
        "mltk train meta-sgd --data sinusoid --shots 5 --queries 5 --out runs/meta-sgd",
        "mltk train learned-optimizer --transform kronecker --data sinusoid",
        "mltk train stochastic-maml --data navigation",
        "mltk train anil --data blobs --shots 1 --backend torch --engine autograd",
        "mltk train meta-sgd --data sinusoid --shots 5 --queries 5 --out runs/meta-sgd --resume",
        "mltk train maml --data sinusoid --meta-lr 0.01 --out runs/maml --recover",
    )
)
def train(
    context: typer.Context,
    algorithm: Annotated[AlgorithmName, Argument(help="The learner.", show_default=False)],
    data: Annotated[DataName, Option(help="The task family.", show_default=False)],
    backend: Annotated[str, Option(help="The array library: numpy, torch or a plug-in.")] = "numpy",
    steps: Annotated[int | None, Option(min=1, help="Meta-iterations; 10,000 for vectors.")] = None,
    out: Annotated[Path | None, folder_option("The run folder; by default a new one in runs.")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    recover: Annotated[
        bool, Option("--recover", help="Go on after divergence and failing data, and with a run in --out.")
    ] = False,
    dtype: Annotated[Dtype, Option(help="Precision.")] = Dtype.FLOAT32,
    device: Annotated[str | None, Option(help="As the library writes it, such as cuda.")] = None,
    engine: Annotated[str | None, Option(help="Derivatives: analytic or autograd.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of the parameters and tasks.")] = 0,
    meta_batch: Annotated[int | None, Option(min=1, help="Tasks a meta-iteration.")] = None,
    ways: Annotated[int | None, Option(min=2, help="Classes a task.")] = None,
    shots: Annotated[int | None, Option(min=1, help="Support examples (of each class).")] = None,
    queries: Annotated[int | None, Option(min=1, help="Query examples (of each class).")] = None,
    inner_lr: Annotated[float | None, Option(help="Inner step size, or its start.")] = None,
    inner_steps: Annotated[int | None, Option(min=0, help="Inner gradient steps.")] = None,
    transform: Annotated[
        TransformName | None,
        Option(help="For learned-optimizer: what is learned about inner steps; scale by default."),
    ] = None,
    meta_lr: Annotated[
        float | None, Option(help="Step size of Adam, the outer optimiser; 0.001 by default.")
    ] = None,
    part: Annotated[
        str | None,
        Option(help="Omniglot: background-train (the default), background, small1… CIFAR-FS: train."),
    ] = None,
    folder: Annotated[
        Path | None, Option(help="For --data images: a folder with a folder of images a class.")
    ] = None,
    at_least: Annotated[
        int | None, Option(min=1, help="For --folder: leave out classes with fewer images.")
    ] = None,
    records: RecordsFile = None,
    monitor: Annotated[
        bool, Option("--monitor", help="Look after it: alerts, and monitor.jsonl in the run folder.")
    ] = False,
) -> None:
    """Meta-train a learner on a task family, and write a run folder.

    The network is a perceptron with two hidden layers of 40 units for vectors, Conv-4 for images.

    What is not given has the defaults of the algorithm and the family.
    """
    if resume and out is None:
        raise typer.BadParameter("needs --out, the run folder to continue", param_hint="--resume")
    library = _backend(backend, device=device, dtype=dtype, engine=engine)
    wishes = Wishes(**{field.name: context.params[field.name] for field in fields(Wishes)})
    check_policy(algorithm, data)
    training = (policy_recipe if data in ACTED else recipe)(algorithm, data, wishes)
    if about := about_training(training.tasks):
        say(about, sys.stderr)
    # The folder is chosen and taken in one step: others may be looking for one at the same time.
    place = first_free(Path("runs"), f"{algorithm}-{data}") if out is None else RunFolder(out).locked()
    with place as files:
        if not (resume or recover) and files.holds_run():
            what = "a run, or files called like those of one"
            raise RunError(f"{out} already holds {what}: continue it with --resume, or choose another --out")
        try:
            with recording(records, str(files.path)) as watch, reporting(sys.stderr) as report:
                how = {name: getattr(training, name) for name in ("steps", "meta_batch", "optimizer")}
                how |= {"backend": library, "seed": seed, "out": files, "resume": resume}
                how |= {"progress": partial(report, str(algorithm))}
                how |= {"watch": with_monitor(watch) if monitor else watch}
                run = (Recovery().train if recover else train_learner)(
                    training.learner, training.tasks, **how
                )
        except (KeyboardInterrupt, TerminatedError) as stop:
            _say_how_to_resume(files.path, given=out is not None)
            raise typer.Exit(_status(stop)) from None
        show = draw_policy if data in ACTED else draw
        show(training, run.meta_params, files.path, backend=library, seed=seed)
        _say_what_was_done(run, files.path, test_command(training.tasks, files.path))


@app.command(
    epilog=_examples(
        "mltk evaluate runs/meta-sgd --episodes 2000",
        "mltk evaluate runs/prototypical-omniglot --ways 20 --shots 1",
        "mltk evaluate runs/prototypical-omniglot --protocol omniglot-challenge --runs all_runs.zip",
        "mltk evaluate runs/prototypical-omniglot --ways 20 --views 16",
    )
)
def evaluate(
    folder: Annotated[Path, Argument(help="A run folder.", show_default=False)],
    episodes: Annotated[int, Option(min=1, help="How many tasks.")] = 1000,
    seed: Annotated[int, Option(min=0, help="Seed of the tasks.")] = 0,
    ways: Ways = None,
    shots: Shots = None,
    queries: Queries = None,
    images: Images = None,
    protocol: Annotated[Protocol, Option(help="What to test on.")] = Protocol.UNSEEN_TASKS,
    runs: Annotated[Path | None, Option(help="all_runs.zip of the Omniglot challenge.")] = None,
    workers: Annotated[int | None, Option(min=1, help="Processes that share the tasks.")] = None,
    records: RecordsFile = None,
    views: Annotated[
        int, Option(min=1, help="Average over so many views of the images, jittered but the first.")
    ] = 1,
) -> None:
    """Test a trained learner on new tasks.

    Tasks of images show classes that were held out from training (of Omniglot, other alphabets), or those of
    --folder. Which of them the training has seen is found out by their images, and said.

    The protocol omniglot-challenge is 20-way one-shot classification within an alphabet, in 20 runs.
    """
    if (protocol == Protocol.OMNIGLOT_CHALLENGE) != (runs is not None):
        raise typer.BadParameter("goes with --protocol omniglot-challenge", param_hint="--runs")
    saved = load_run(folder)
    typer.echo(f"{folder}: {type(saved.algorithm).__name__} after {saved.run.steps} meta-iterations")
    learner, params, library = saved.algorithm, saved.run.meta_params, saved.backend
    if records is not None and (runs is not None or isinstance(learner, StochasticMAML)):
        raise typer.BadParameter("takes tasks of examples", param_hint="--records")
    if views > 1:
        if not isinstance(chosen_from(saved.tasks), ImageTasks):
            raise SettingError("--views are those of images; expected none for other tasks")
        learner = TestTimeScaler(learner, views=Jitter()).at(views)
        typer.echo(f"answers are means over {views} views, all but the first jittered")
    found: Any
    if runs is not None:
        found = omniglot_challenge(learner, params, runs, backend=library)
    elif isinstance(learner, StochasticMAML):
        found = returns(learner, params, saved.tasks, episodes=episodes, seed=seed, backend=library)
    else:
        wishes = Wishes(ways=ways, shots=shots, queries=queries, folder=images)
        tasks, description = tasks_to_test_on(saved, wishes)
        if description:
            typer.echo(description)
        how: Any = {"episodes": episodes, "seed": seed, "backend": library, "workers": workers}
        with recording(records, run_of([Entry(str(folder), learner, params)])) as watch:
            found = evaluate_learner(learner, params, tasks, watch=watch, **how)
    typer.echo(str(found))
    if isinstance(found, Evaluation):
        for over in found.known[1:]:
            typer.echo(f"{found.metric} {found.interval(over)}")


app.command(
    epilog=_examples("mltk compare runs/maml runs/anil --episodes 2000", "mltk compare runs/* --over classes")
)(compare)
app.command(epilog=_examples("mltk report runs", "mltk report runs/a runs/b --out a-b.html"))(reports.report)
app.command(epilog=_examples("mltk dashboard runs", "mltk dashboard runs --port 0"))(reports.dashboard)
app.command(epilog=_examples("mltk ab runs/maml runs/anil --margin 0.005 --out maml-anil.json"))(ab)


@reproduce.callback()
def _reproduce() -> None:
    """A callback keeps a single subcommand a subcommand."""


@reproduce.command(
    "sinusoid-table",
    epilog=_examples(
        "mltk reproduce sinusoid-table --shots 5", "mltk reproduce sinusoid-table --seed 1 --out runs/seed-1"
    ),
)
def sinusoid_table(
    shots: Annotated[
        list[TableRow] | None, Option(help="A row of the table; may be repeated. All by default.")
    ] = None,
    steps: Annotated[int, Option(min=1, help="Meta-iterations; the paper's by default.")] = 60_000,
    jobs: Annotated[int | None, Option(min=1, help="Trainings at a time; one per core by default.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of everything.")] = 0,
    out: Annotated[Path, folder_option("Folder for tables, pictures and runs.")] = Path(
        "runs/sinusoid-table"
    ),
) -> None:
    """Train MAML and Meta-SGD on sinusoids, and print both beside the published errors.

    This is Table 1 of Li, Zhou, Chen & Li (2017), with NumPy.

    Trainings that --out holds already are continued, or taken as they are.
    """
    from rich.console import Console

    from mltk.reproduce import SHOTS, render
    from mltk.reproduce import sinusoid_table as reproduce_table

    rows = tuple(int(row) for row in shots or ()) or SHOTS
    trained = set()

    def remember(name: str, step: int, steps: int, loss: float | None) -> None:
        trained.add(name)
        report(name, step, steps, loss)

    try:
        with reporting(sys.stderr) as report:
            outcomes = reproduce_table(
                out=out, shots=rows, steps=steps, seed=seed, jobs=jobs, progress=remember
            )
    except (KeyboardInterrupt, TerminatedError) as stop:
        say(f"\nstopped; the same command continues the trainings in {out}", sys.stderr)
        raise typer.Exit(_status(stop)) from None
    for outcome in outcomes:
        if outcome.training.name not in trained:
            found = out / outcome.training.name
            typer.echo(f"{found} was trained before; delete it to train it anew", err=True)
    Console().print(render(outcomes))
    slowest = max(outcome.seconds for outcome in outcomes)
    typer.echo(f"The longest training took {duration(slowest)}. Tables, pictures and runs are in {out}")


def _backend(name: str, *, device: str | None, dtype: str, engine: str | None) -> Backend:
    """The backend; a name or setting that does not exist is an error of usage."""
    if name not in backend_names():
        choices = ", ".join(repr(known) for known in backend_names())
        raise typer.BadParameter(f"{name!r} is not one of {choices}.", param_hint="--backend")
    try:
        return choose_backend(name, device=device, dtype=str(dtype), engine=engine)
    except SettingError as error:
        raise typer.BadParameter(str(error)) from None


def _status(stop: BaseException) -> int:
    """With what a command ends that was stopped."""
    return stop.status if isinstance(stop, TerminatedError) else INTERRUPTED


def _say_how_to_resume(folder: Path, *, given: bool) -> None:
    again = [word for word in sys.argv[1:] if word != "--resume"]
    again += [] if given else ["--out", str(folder)]
    say(f"\nstopped; continue with:\n  {shlex.join(['mltk', *again, '--resume'])}", sys.stderr)


def _say_what_was_done(run: Run, folder: Path, test: str) -> None:
    last = run.history[-1]
    say(f"{run.steps} meta-iterations in {duration(last['seconds'])}, loss {last['loss']:.4g}", sys.stdout)
    if isinstance(run, RecoveredRun):
        say(f"recovered: {run.recovered}", sys.stdout)
    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    say(f"{folder}: {' '.join(files)}", sys.stdout)
    say(f"Test it with: {test}", sys.stdout)
