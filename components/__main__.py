"""The process of one stage: `python -m components VERB NAME`, the command of every DVC stage.

A process of its own, without Prefect in it: a crash or an out-of-memory kill never takes the orchestrator along, a rank
started by Lightning never starts a second flow run, and a bare GPU machine needs no orchestrator.
"""

import os
import sys
import time

from components.settings import set_quiet_environment

set_quiet_environment()


def main(arguments: list[str]) -> int:
    """Run one stage and leave its outcome; the exit code is 0 only if it is done."""
    from importlib import import_module

    from components import PURE_VERBS
    from components.lifeline import die_with_parent
    from components.outcomes import Busy, Outcome, Refused, clear_outcome, write_outcome

    if len(arguments) != 2 or arguments[0] not in PURE_VERBS:
        return 2
    die_with_parent()
    verb, name = arguments
    clear_outcome(verb, name)
    run = getattr(import_module(f"components.{verb}"), verb)
    started = time.monotonic()
    # Interpreter and imports are told apart from work.
    seconds = {"start": round(_process_age_seconds(), 2)}
    try:
        run(name)
        outcome = Outcome("done")
    except Refused as error:
        outcome = Outcome("refused", str(error))
    except Busy as error:
        outcome = Outcome("busy", str(error))
    except BaseException as error:
        write_outcome(verb, name, Outcome("failed", f"{type(error).__name__}: {error}", seconds))
        raise
    seconds["work"] = round(time.monotonic() - started, 2)
    write_outcome(verb, name, Outcome(outcome.kind, outcome.reason, seconds))
    if outcome.reason:
        pass
    return 0 if outcome.kind == "done" else 1


def _process_age_seconds() -> float:
    import psutil

    return time.time() - psutil.Process(os.getpid()).create_time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
