"""`hiraku serve` in a throw-away project: its flows are those of `toy_flow`."""

import sys

from components.settings import set_quiet_environment

if __name__ == "__main__":
    set_quiet_environment()
    from flows import command_line, workspace

    workspace.rendered_again = list
    from flows import deployments
    from flows.session import OURS

    deployments.RETRAIN = "tests.flows.toy_flow.retrain_flow"
    ours = deployments.deployments
    dying = deployments.Deployment("dying", "tests.flows.toy_flow.dying_flow", "Dies each time.", {}, [OURS])
    entry = "tests.flows.toy_flow.ticking_flow"
    ticking = deployments.Deployment("ticking", entry, "", {}, [OURS], cron="* * * * *", timezone="Asia/Tokyo")
    deployments.deployments = lambda library: [*ours(library), dying, ticking]
    sys.exit(command_line.run(sys.argv[1:]))
