"""The console script `hiraku`, also `python -m flows`."""

import sys

from components.settings import set_quiet_environment


def main() -> None:
    """Run the command line; a refusal is a message and exit code 2, never a traceback."""
    set_quiet_environment()
    from flows.command_line import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
