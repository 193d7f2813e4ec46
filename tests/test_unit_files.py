"""Aliases: the name that systemd itself uses."""

from pathlib import Path

import pytest

from failover_monitor.unit_files import aliases


@pytest.mark.parametrize(
    ("name", "link", "target", "own"),
    [
        ("app.service", "other.service", "third.service", "app.service"),
        ("alias.service", "alias.service", "/lib/systemd/system/app.service", "app.service"),
        ("masked.service", "masked.service", "/dev/null", "masked.service"),
        ("a@x.service", "a@.service", "b@.service", "b@x.service"),
        ("a@x.service", "a@x.service", "app.service", "app.service"),
    ],
)
def test_an_alias_leads_to_the_name_that_the_cgroup_has(
    tmp_path: Path, name: str, link: str, target: str, own: str
) -> None:
    """As systemd reads its directories; whoever has no alias keeps the name."""
    (tmp_path / link).symlink_to(target)
    assert aliases(name, (tmp_path / "etc", tmp_path))[-1] == own
