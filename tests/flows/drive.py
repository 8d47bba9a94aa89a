"""The command line in a process of its own, on a hand-written graph instead of the rendered one: `drive.py WORDS`."""

import sys

from components.settings import set_quiet_environment

if __name__ == "__main__":
    set_quiet_environment()
    from flows import workspace
    from flows.command_line import run

    workspace.rendered_again = list
    sys.exit(run(sys.argv[1:]))
