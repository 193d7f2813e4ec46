"""Which name a unit really has: an alias is a link in the directories of unit files.

Rule: systemd is not asked; it may be the part that hangs.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

UNIT_DIRS = (  # systemd.unit(5), the first that has a name wins
    Path("/etc/systemd/system"),
    Path("/run/systemd/system"),
    Path("/usr/local/lib/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
ALIAS_LIMIT = 8  # links followed from one unit name to the next


def aliases(name: str, unit_dirs: Sequence[Path]) -> tuple[str, ...]:
    """The name and those it leads to; the last is the unit's own."""
    names = [name]
    while len(names) <= ALIAS_LIMIT:
        target = _link(names[-1], unit_dirs)
        if not target or target in names:
            break
        names.append(target)
    return tuple(names)


def own_names(units: Iterable[str]) -> dict[str, str]:
    """By the name that is listed: the unit's own on this host."""
    return {name: aliases(name, UNIT_DIRS)[-1] for name in units}


def _link(name: str, unit_dirs: Sequence[Path]) -> str:
    """The unit that the first file of this name links to, or nothing."""
    stem, _, kind = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    template = f"{prefix}@.{kind}"
    for candidate in (name, template) if at else (name,):
        for directory in unit_dirs:
            file = directory / candidate
            try:
                target = file.readlink().name
            except OSError:
                if os.path.lexists(file):
                    return ""  # a file of its own
                continue
            target_stem = target.removesuffix(f".{kind}")
            if target_stem == target:
                return ""  # /dev/null, or a unit of another type
            return f"{target_stem}{instance}.{kind}" if target_stem.endswith("@") else target
    return ""
