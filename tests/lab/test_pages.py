"""The pages of docs/, typed on real hosts: every command works, and prints what the page says."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import rootfs, units
from tests.lab.hosts import Host, Lab, SystemdHost, wait_until
from tests.lab.network import LAN
from tests.lab.pair import APP, CONFIG, LOG, MONITOR, UNITS
from tests.pages import TYPED, Step, play
from tests.recorded import BASE_S, ROLES, Minute, sample

pytestmark = pytest.mark.timeout(400)

BARE = "docs/tutorial.md"  # the others begin with the program installed
SAMPLES = "/var/lib/failover-monitor/samples.jsonl"
MESSAGES = "/var/log/webhook.log"
FIGURES = "/var/lib/prometheus/node-exporter"
KEYS: dict[str, object] = {
    "gateway_ip": f"{LAN}1",
    "active_ip": f"{LAN}2",
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "retry_interval": 1.5,
    "services_to_manage": [APP],
}
MORE: dict[str, dict[str, object]] = {
    "docs/notifications.md": {
        "notify": [{"url": f"json://{LAN}5:8080/", "name": "laptop"}],
        "metrics": {"textfile": f"{FIGURES}/failover_monitor.prom"},
    },
    "docs/hold-and-hand-over.md": {"flap_window": 600, "max_takeovers": 1},
}
RECEIVER = """\
import http.server

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("/var/log/webhook.log", "a") as log:
            log.write(body + "\\n")
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("", 8080), Receiver).serve_forever()
"""
RECEIVES = "[Service]\nExecStart=/usr/bin/python3 -I /opt/receiver.py\n"
SHELL = "cd /root/failover-monitor 2>/dev/null || cd /root\n"
GIT_CLONE = """\
mkdir /root/failover-monitor
cd /root/failover-monitor
tar -C /src --exclude=./.venv --exclude=./.git -c . | tar -x --no-same-owner
"""
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
Hosts = dict[str, Host]


def people(lab: Lab, *layers: Path) -> Hosts:
    """A primary that serves, a standby, somebody's laptop with a webhook, and a gateway."""
    app = {f"{UNITS}/{APP}": units.ENABLED}
    receiver = {"/opt/receiver.py": RECEIVER, f"{UNITS}/webhook.service": RECEIVES}
    source = {str(rootfs.CHECKOUT): "/src", str(rootfs.wheelhouse()): "/wheels"}
    gateway = lab.plain("gateway", 1)
    primary = lab.systemd("primary", 2, files=app)
    standby = lab.systemd("standby", 3, layers=layers, files=app, binds=source)
    laptop = lab.systemd("laptop", 5, files=receiver)
    primary.systemctl("enable", "--now", APP)
    laptop.systemctl("start", "webhook.service")
    standby.run("sh", "-ec", GIT_CLONE)
    wait_until(lambda: standby.hears(f"{LAN}2"), 10, "the hosts hear each other")
    return {"gateway": gateway, "primary": primary, "standby": standby, "laptop": laptop}


def typing(hosts: Hosts) -> Callable[[Step], tuple[int, str]]:
    """As an operator who types one command after the other."""

    def run(step: Step) -> tuple[int, str]:
        words = ("sh", "-c", SHELL + step.words)
        done = hosts[step.host].run(*words, check=False, within=120, env=OFFLINE)
        return done.returncode, done.stdout + done.stderr

    return run


def installed(lab: Lab, page: str) -> Hosts:
    """The same, with the program as the page's reader has it, and a recorded week behind it."""
    hosts = people(lab, rootfs.installed_tree())
    standby = hosts["standby"]
    assert isinstance(standby, SystemdHost)
    now_s = time.time()
    week = (sample(now_s - BASE_S - 60 * n, Minute(), ROLES) for n in range(10_000, 0, -1))
    standby.write(SAMPLES, "".join(f"{json.dumps(line)}\n" for line in week))
    standby.run("mkdir", "-p", FIGURES)
    standby.write(CONFIG, json.dumps(KEYS | MORE.get(page, {}), indent=2) + "\n", 0o600)
    standby.systemctl("enable", "--now", MONITOR)
    return hosts


def test_a_new_operator_comes_from_nothing_to_the_post_mortem(lab: Lab) -> None:
    """The tutorial, as it is typed: the report has both takeovers, and the laptop was told."""
    hosts = people(lab)
    play(rootfs.CHECKOUT / BARE, typing(hosts))
    standby, laptop = hosts["standby"], hosts["laptop"]
    report = standby.run("cat", "/root/failover-monitor/report.html").stdout
    assert report.startswith("<!doctype html>")
    for words in ("T1: takeover on", "T2: takeover on", "kernel update of the primary"):
        assert words in report
    told = [json.loads(line)["title"] for line in laptop.run("cat", MESSAGES).stdout.splitlines()]
    for words in ("TEST", "WARNING: the primary is down", "OVER: the primary is down"):
        assert any(words in title for title in told), told
    look_for_traces(standby)


@pytest.mark.parametrize("page", [page for page in TYPED if page != BARE])
def test_every_command_of_a_page_works(lab: Lab, page: str) -> None:
    """As an operator who types them one after the other."""
    hosts = installed(lab, page)
    play(rootfs.CHECKOUT / page, typing(hosts))
    look_for_traces(hosts["standby"])


def look_for_traces(standby: Host) -> None:
    """No command, and no process, has ended in a way that nobody thought of."""
    assert "Traceback" not in standby.run("journalctl", "-b", "-q", "--no-pager").stdout
    assert "Traceback" not in standby.run("cat", LOG).stdout
