"""What a configuration amounts to, and the decision table behind it."""

import argparse
import json
import os
import sys

from failover_monitor.config import ConfigError, load
from failover_monitor.decision import TABLES
from failover_monitor.model import Role
from failover_monitor.ownership import distrust
from failover_monitor.timing import facts, report


def check(options: argparse.Namespace) -> int:
    path = options.path or options.config
    try:
        policy = load(path, distrust=distrust).policy
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    if options.json:
        print(json.dumps(facts(policy), indent=1))
    else:
        print(f"{path} is good.\n\n{report(policy)}")
    return 0


def explain(options: argparse.Namespace) -> int:
    table = TABLES[Role.PRIMARY if options.guard else Role.STANDBY]
    if options.mermaid:
        print("stateDiagram-v2")
        for row in table:
            print(f"    {row.source} --> {row.target}: {row.because}")
        return 0
    print(f"{'from':<10}{'to':<10}{'when':<20}because")
    for row in table:
        when = row.when.__name__.replace("_", " ")
        print(f"{row.source:<10}{row.target:<10}{when:<20}{row.because}")
    print("\nThe first row that holds wins; no row: the phase stays.")
    return 0
