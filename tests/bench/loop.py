"""A loop of `ping -c1`: the simplest failover program, as a peer to be compared with.

    loop.py GATEWAY PRIMARY UNIT

Gateway first, then the primary, one echo each; then a pause.  The count of failures is kept while
the gateway does not answer, as such loops do.
"""

import subprocess
import sys
import time

INTERVAL_S = 3
FAILURES = 3


def answers(address: str) -> bool:
    words = ["ping", "-c1", "-W1", address]
    return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0


def main(gateway: str, primary: str, unit: str) -> None:
    failures, state = 0, "unknown"
    while True:
        if answers(gateway):
            if answers(primary):
                failures = 0
                if state != "active_alive":
                    state = "active_alive"
                    subprocess.run(["systemctl", "stop", unit], check=False)
            else:
                failures += 1
                if failures >= FAILURES and state != "active_dead":
                    state = "active_dead"
                    subprocess.run(["systemctl", "start", unit], check=False)
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main(*sys.argv[1:4])
