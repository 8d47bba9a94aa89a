"""A process that launches one toy stage and says so, to be killed: `launching.py VERB NAME ADDRESS`."""

import sys

from flows.launch import launch

if __name__ == "__main__":
    done = launch(*sys.argv[1:], print)
    sys.stdout.write(f"{done.how} {done.outcome.kind}\n")
