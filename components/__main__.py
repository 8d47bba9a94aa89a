"""The process of one stage: `python -m components VERB NAME`, the command of every DVC stage.

A process of its own, without Prefect in it: a crash or an out-of-memory kill never takes the orchestrator along, a
second rank of a training never starts a second flow run, and a bare GPU machine needs no orchestrator.
"""

import os
import sys
import time
import traceback
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from components import ranks
from components.settings import set_quiet_environment

if TYPE_CHECKING:
    from components.outcomes import Outcome

set_quiet_environment()


def main(arguments: list[str]) -> int:
    """Run one stage and leave its outcome; the exit code is 0 only if it is done."""
    from components import PURE_VERBS
    from components.outcomes import clear_outcome, scratch_left, write_outcome

    if len(arguments) != 2 or arguments[0] not in PURE_VERBS:
        sys.stderr.write(f"usage: python -m components VERB NAME\nVERB is one of: {', '.join(PURE_VERBS)}\n")
        return 2
    verb, name = arguments
    if not ranks.is_main():
        return _join(verb, name)
    clear_outcome(verb, name)
    # Interpreter and imports are told apart from work.
    seconds = {"start": round(_process_age_seconds(), 2)}
    started = time.monotonic()
    outcome = _run(verb, name)
    seconds["work"] = round(time.monotonic() - started, 2)
    write_outcome(verb, name, replace(outcome, seconds=seconds, scratch=scratch_left()))
    if outcome.kind != "done":
        sys.stderr.write(f"{verb} {name}: {outcome.reason}\n")
    return 0 if outcome.kind == "done" else 1


def _join(verb: str, name: str) -> int:
    """Take part in a training as another rank than 0, which says for all how it ended."""
    from components.lifeline import die_with_parent
    from components.outcomes import Outcome, Refused, Stopped

    die_with_parent()
    try:
        getattr(import_module(f"components.{verb}"), verb)(name)
    except Stopped:
        return 0  # rank 0 stops after the same step, and may still be writing its checkpoint
    except Refused as error:
        return _leave(verb, name, Outcome("refused", str(error)))
    except Exception as error:
        traceback.print_exc()
        return _leave(verb, name, Outcome("failed", f"{type(error).__name__}: {error}"))
    return 0


def _leave(verb: str, name: str, outcome: "Outcome") -> int:
    """Tell rank 0 how this rank ended."""
    from components.outcomes import write_outcome

    write_outcome(verb, ranks.outcome_name(name, ranks.rank()), outcome)
    return 1


def _run(verb: str, name: str) -> "Outcome":
    """The end of a verb's public function, in words; a fault of the program shows its traceback too."""
    from components.lifeline import die_with_parent
    from components.outcomes import Busy, Outcome, Refused, Stopped

    try:
        die_with_parent()
        getattr(import_module(f"components.{verb}"), verb)(name)
    except Refused as error:
        return Outcome("refused", str(error))
    except Busy as error:
        return Outcome("busy", str(error))
    except Stopped as error:
        return Outcome("stopped", str(error))
    except ModuleNotFoundError as error:
        if error.name != f"components.{verb}":
            raise
        return Outcome("refused", f"The verb '{verb}' has no component in this version. Run: hiraku recipes")
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return Outcome("failed", f"{type(error).__name__}: {error}")
    return Outcome("done")


def _process_age_seconds() -> float:
    import psutil

    return time.time() - psutil.Process(os.getpid()).create_time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
