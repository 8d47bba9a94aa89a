"""The words of the command line. Libraries are imported inside the commands, so that help comes at once."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter
from rich.markup import escape

from components.outcomes import Refused
from flows import operating
from flows.launch import StageFailed, StageStopped, terminated
from flows.terminal import console, errors, say

REFUSED = 2
"""Exit code when input is wrong or a result cannot be accepted."""
FAILED = 1
"""Exit code when something broke that may work another time."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

STAGES = Group("Stages, in the order of the path", sort_key=1)
RELEASES = Group("Releases", sort_key=0)
PROJECT = Group("Project", sort_key=2)

VERB_HELP = {
    "ingest": ("corpus", "Raw files to clean, de-duplicated records with provenance and licence."),
    "validate": (
        "corpus",
        "Records to report, profile and the ids accepted; a corpus that fails its suite is refused.",
    ),
    "fit": ("encoder", "Records to an encoder, such as a tokenizer."),
    "shard": ("corpus+encoder", "Accepted records and an encoder to shards that training streams."),
    "pretrain": ("recipe", "Shards to weights, from a random start; goes on from its checkpoint if it was stopped."),
    "align": ("recipe", "The weights that a recipe starts from and data to weights."),
    "evaluate": ("recipe", "Weights and tasks to scores, one row per item."),
    "package": ("recipe", "Weights, encoder, scores and lineage to the folder that will stand on the Hub."),
    "register": ("recipe", "A package to a version in the model registry, alias challenger."),
    "publish": (
        "recipe",
        "A registered version to a Hub repository (HF_TOKEN, HF_ENDPOINT), read back and loaded before it counts.",
    ),
}
"""Verb -> what it works on, and one line of help."""

app = App(
    name="hiraku",
    help="Raw data of a language to openly released models, stage by stage. NAME is a YAML file under recipes/.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # answered below
    help_epilogue="Servers: PREFECT_API_URL and MLFLOW_TRACKING_URI; unset, embedded ones in .hiraku/ serve.",
)


@app.command(group=RELEASES)
def release(recipe: str, /) -> int:
    """Bring a recipe up to date, all that it depends on first, and register its model.

    Stages whose inputs have not changed are left alone; a stage that was stopped goes on from its checkpoint.

    Parameters
    ----------
    recipe
        A recipe, such as gpt-demo (see: hiraku recipes).
    """
    from flows import checks, scoreboard, server, summary

    checks.before_release(recipe, say)
    with server.running():
        from flows import release as flow

        done = flow.release(recipe, say)
    summary.print_summary(done, console)
    scoreboard.show(recipe, console)
    return 0


@app.command(group=RELEASES)
def recipes() -> int:
    """List what can be made and where each stands."""
    from flows import summary

    summary.print_recipes(console)
    return 0


def _verb_command(verb: str) -> Callable[[str], int]:
    """The command of one verb."""
    what, text = VERB_HELP[verb]

    def command(name: str, /) -> int:
        from flows import checks, scoreboard, server, summary

        checks.before_verb(verb, name, say)
        with server.running():
            from flows import release as flow

            done = flow.run_verb(verb, name, say)
        summary.print_rows(done, console)
        if verb == "evaluate":
            scoreboard.show(name, console)
        return 0

    command.__name__ = verb
    command.__doc__ = f"{text}\n\nParameters\n----------\nname\n    A name of kind {what}, as under recipes/."
    return command


def publish(recipe: str, /, *, version: str = "", to: Path | None = None, unapproved: bool = False) -> int:
    """A registered version to a Hub repository (HF_TOKEN, HF_ENDPOINT), read back and loaded before it counts.

    Parameters
    ----------
    recipe
        A name of kind recipe, as under recipes/.
    version
        A version of the registry, or an alias such as champion; without it, the one that the package here is.
    to
        A folder that gets the files instead of the places that the recipe names.
    unapproved
        Publish a version that was never promoted, though the recipe asks for a person's approval.
    """
    from flows import checks, server, summary

    place = None if to is None else str(to)
    checks.before_publish(recipe, place, say)
    with server.running():
        from flows import release as flow

        done = flow.publish(recipe, version, place, say, unapproved)
    summary.print_rows(done, console)
    return 0


for _verb in VERB_HELP:
    _command = publish if _verb == "publish" else _verb_command(_verb)
    app.command(_command, name=_verb, group=STAGES, sort_key=list(VERB_HELP).index(_verb))


@app.command(group=PROJECT)
def collect(name: str, /, *, source: Annotated[Path | None, Parameter(name="--from")] = None) -> int:
    """Bring the raw data of a corpus, or somebody else's model from a Hub, under data/ and record it in data.dvc.

    Parameters
    ----------
    name
        A corpus, such as demo-text, or a recipe with 'source: hub:...', such as llama2-7b.
    source
        The folder that holds the files, or the lists of addresses. Without it, the generator of the corpus writes them,
        or what its lists name is downloaded: run it again, and only what failed is tried.
    """
    from flows.collect import collect as bring

    bring(name, source, say)
    return 0


@app.command(group=PROJECT)
def graph(*, check: bool = False) -> int:
    """Render dvc.yaml from the recipes.

    Parameters
    ----------
    check
        Write nothing; fail if what is there differs.
    """
    from flows import workspace

    if check:
        stale = workspace.stale_graph()
        if stale:
            raise Refused(f"{', '.join(map(str, stale))} is not what the recipes say. Run: hiraku graph")
        return 0
    for path in workspace.rendered_again():
        say(f"{path} was rendered again")
    return 0


@app.command(group=PROJECT)
def batch(recipe: str, number: int, /) -> int:
    """Show what stands in a batch of a training, such as one that the guard left out.

    Parameters
    ----------
    recipe
        A recipe whose shards are made.
    number
        The batch's number, as the trainer's messages name it: from 0, over all epochs.
    """
    from components.batch_view import batch_texts
    from flows import checks

    checks.before_batch(recipe)
    for place, text in enumerate(batch_texts(recipe, number)):
        console.rule(f"sample {place}", align="left")
        console.print(text, markup=False)
    return 0


@app.command(group=PROJECT)
def clean() -> int:
    """Remove the checkpoints of trainings that nobody runs; one that was stopped begins from step 0 then.

    What DVC keeps of old states goes by its own words: dvc gc --workspace.
    """
    from components import checkpoints
    from components.settings import settings

    root = settings().checkpoint_root
    freed = checkpoints.clear(root)
    for folder, num_bytes in freed.items():
        say(f"{folder}: {num_bytes:,} bytes came free")
    if not freed:
        say(f"{root} holds no checkpoint that nobody uses.")
    return 0


@app.command(group=PROJECT)
def doctor(recipe: str | None = None, /, *, step: int | None = None) -> int:
    """Say what this machine can and cannot do, and what to change.

    Parameters
    ----------
    recipe
        A recipe whose need of memory, disk and precision is compared with the machine, and whose training is estimated
        on others: bytes of each strategy, FLOPs, time.
    step
        Also take an optimiser step with the recipe's network on about so many random tokens, and say what it took.
    """
    from flows import doctor as clinic

    return clinic.consult(recipe, step, console)


@app.command(group=PROJECT)
def ui(*, mlflow_port: int = 5000, prefect_port: int = 4200) -> int:
    """Open the pages of MLflow and Prefect on this machine only, until Ctrl-C.

    Parameters
    ----------
    mlflow_port
        Port of MLflow: curves, parameters, models.
    prefect_port
        Port of Prefect: flow runs, logs.
    """
    from flows import pages

    return pages.serve(mlflow_port, prefect_port, say)


operating.add_to(app)


def run(words: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    # Prefect sends itself the signal again when it has noted the end; without a handler nothing else would be closed.
    signal.signal(signal.SIGTERM, terminated)
    try:
        return int(app(list(words), exit_on_error=False, print_error=True) or 0)
    except CycloptsError:
        return REFUSED
    except Refused as error:
        errors.print(f"[bold red]Refused:[/] {escape(str(error))}", soft_wrap=True)
        return REFUSED
    except StageStopped as error:
        errors.print(f"Stopped: {escape(str(error))}", soft_wrap=True)
        return FAILED
    except StageFailed as error:
        errors.print(f"[bold red]Failed:[/] {escape(str(error))}", soft_wrap=True)
        errors.print("The lines above say more. The same command tries again, from the checkpoint if there is one.")
        return FAILED
    except KeyboardInterrupt:
        errors.print(
            "Stopped. What is done is kept: the same command goes on from there, a training from a checkpoint."
        )
        return INTERRUPTED
    except Exception as error:
        from flows import faults

        errors.print(f"[bold red]Failed:[/] {escape(faults.put(error, words))}", soft_wrap=True)
        return FAILED
