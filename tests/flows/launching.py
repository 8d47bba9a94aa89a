"""A process that launches one toy stage and says so, to be killed: `launching.py VERB NAME ADDRESS`."""

import signal
import sys

from flows.launch import launch

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    done = launch(*sys.argv[1:], print)
    sys.stdout.write(f"{done.how} {done.outcome.kind}\n")
