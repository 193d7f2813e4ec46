"""An earlier state of the product, beside the present one in the same run.

Run as a program it installs that state, outside of the room, where there is a network.
"""

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.contestants import Contestant, Ours
from tests.lab import rootfs

Entrant = tuple[Contestant, Path]  # and the layer with the product


def entrants(all_of: Sequence[Contestant], commit: str) -> list[Entrant]:
    """Everybody with the present product; and, if a commit is named, ours with that one as well."""
    now = rootfs.installed_tree()
    found: list[Entrant] = [(who, now) for who in all_of]
    if commit:
        then = installed_at(commit)
        found += [
            (replace(who, name=f"{who.name}, before"), then)
            for who in all_of
            if isinstance(who, Ours)
        ]
    return found


def installed_at(commit: str) -> Path:
    """The product of a commit, installed."""
    checkout = rootfs.cache() / f"checkout-{commit}"
    if not checkout.exists():
        _git("clone", "--quiet", "--no-checkout", str(rootfs.CHECKOUT), str(checkout))
        _git("-C", str(checkout), "checkout", "--quiet", commit)
    return rootfs.installed_tree(checkout)


def _git(*words: str) -> None:
    subprocess.run(["git", "-c", "safe.directory=*", *words], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", default="")
    if wanted := parser.parse_known_args()[0].before:
        print(installed_at(wanted))
