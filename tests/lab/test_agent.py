"""Be told, on real hosts: a webhook on a third host, figures in a file, an agent without rights.

The messages follow a real takeover and failback; whatever happens to them, the monitor goes on.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.hosts import Host, wait_until
from tests.lab.pair import APP, CONFIG, MONITOR, Pair, Standby

pytestmark = pytest.mark.timeout(200)
MakePair = Callable[..., Pair]

AGENT = "failover-monitor-agent.service"
TEXTFILE = "/var/lib/prometheus/node-exporter/failover_monitor.prom"
HIDDEN = "hunter2"
RECEIVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(sys.argv[1], "a") as file:
            file.write(json.dumps(body) + "\\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

HTTPServer(("0.0.0.0", 8080), Hook).serve_forever()
"""


class Post:
    """A host that receives webhooks."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self._path = directory / "messages"
        self._path.touch()
        self._process = host.popen(sys.executable, "-c", RECEIVER, str(self._path))

    @property
    def url(self) -> str:
        return f"json://user:{HIDDEN}@{self.host.address}:8080/hook"

    @property
    def got(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def wait_for(self, words: str, within: float) -> dict[str, Any]:
        """Wait for a message with these words in its subject."""
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found[:] = [message for message in self.got if words in message["title"]]
            return bool(found)

        wait_until(arrived, within, f"a message says {words!r}; so far {self.got}")
        return found[0]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def make_told(make_pair: MakePair, tmp_path: Path) -> Iterator[Callable[..., tuple[Pair, Post]]]:
    """`make_told(**keys)`: a pair whose standby tells a third host, and writes figures."""
    made: list[Post] = []

    def make(**keys: Any) -> tuple[Pair, Post]:
        pair = make_pair(
            notify=[{"url": f"json://user:{HIDDEN}@198.51.100.9:8080/hook", "name": "webhook"}],
            metrics={"textfile": TEXTFILE},
            **keys,
        )
        post = Post(pair.lab.plain("post", 9), tmp_path)
        made.append(post)
        pair.standby.run("mkdir", "-p", str(Path(TEXTFILE).parent))
        pair.standby.systemctl("enable", "--now", AGENT)
        # It tells what happens from the moment on at which it has begun to follow.
        wait_until(lambda: "tells webhook" in pair.standby.journal(AGENT), 30, "the agent follows")
        return pair, post

    yield make
    for post in made:
        post.close()


def figures(standby: Standby) -> dict[str, str]:
    """What node_exporter would give on."""
    found = {}
    for line in standby._text(TEXTFILE).splitlines():
        name, _, value = line.rpartition(" ")
        found[name.removeprefix("failover_monitor_")] = value
    return found


def wait_for_figure(standby: Standby, name: str, value: str) -> None:
    wait_until(
        lambda: figures(standby).get(name) == value,
        45,  # it is written every 15 s
        f"{name} is {value}: {figures(standby)}\n{standby.journal(AGENT, lines=20)}",
    )


def test_a_takeover_and_its_end_are_told_and_counted(
    make_told: Callable[..., tuple[Pair, Post]],
) -> None:
    """Two messages that a sleepy person understands, and the figures after each of them."""
    pair, post = make_told()
    wait_for_figure(pair.standby, 'phase{phase="standby"}', "1.0")
    pair.takeover()
    begun = post.wait_for("the primary is down", 30)
    assert "takeover -> active" in begun["title"]
    assert "failover-monitor status" in begun["message"]
    wait_for_figure(pair.standby, 'phase{phase="active"}', "1.0")
    wait_for_figure(pair.standby, "takeovers_total", "1.0")
    wait_for_figure(pair.standby, f'service_running{{unit="{APP}"}}', "1.0")
    pair.failback()
    over = post.wait_for("OVER: the primary is down", 30)
    assert over["type"] == "success"
    wait_for_figure(pair.standby, 'phase{phase="standby"}', "1.0")
    wait_for_figure(pair.standby, "failbacks_total", "1.0")
    wait_for_figure(pair.standby, 'notifications_sent_total{target="webhook"}', "2.0")
    assert len(post.got) == 2


def test_the_end_is_told_although_nobody_could_be_told_of_the_beginning(
    make_told: Callable[..., tuple[Pair, Post]],
) -> None:
    """The receiver was away during the takeover, the agent was killed: both arrive, in order."""
    pair, post = make_told()
    wait_for_figure(pair.standby, "up", "1.0")
    post.host.cut()
    pair.takeover()
    wait_until(lambda: "cannot tell webhook" in pair.standby.journal(AGENT), 30, "it was tried")
    pair.standby.signal(AGENT)
    pair.failback()
    wait_until(lambda: pair.standby.running(AGENT), 20, "the agent is back")
    assert post.got == []
    post.host.heal()
    post.wait_for("OVER: the primary is down", 60)
    begun, over = post.got
    assert "WARNING: the primary is down" in begun["title"]
    assert "Late:" in begun["message"] or "s ago" in begun["message"]
    assert "OVER" in over["title"]


def test_a_reset_of_the_standby_loses_no_message(
    make_told: Callable[..., tuple[Pair, Post]],
) -> None:
    """It serves and loses its power; after the boot the return of the primary is told, once."""
    pair, post = make_told()
    wait_for_figure(pair.standby, "up", "1.0")
    pair.takeover()
    post.wait_for("the primary is down", 30)
    pair.standby.crash()
    pair.primary.heal()
    pair.standby.start()
    over = post.wait_for("OVER: the primary is down", 90)
    assert over["type"] == "success"
    assert [message["title"].count("OVER: the primary is down") for message in post.got].count(
        1
    ) == 1
    wait_for_figure(pair.standby, 'phase{phase="standby"}', "1.0")


def test_a_reboot_with_a_bad_configuration_is_told(
    make_told: Callable[..., tuple[Pair, Post]],
) -> None:
    """The monitor does not begin with it; the agent goes on with the last good one, and tells."""
    pair, post = make_told()
    wait_for_figure(pair.standby, "up", "1.0")
    pair.standby.write(CONFIG, '{"gateway_ip": 5}')
    pair.standby.reboot()
    post.wait_for("nobody watches", 120)


def test_a_monitor_that_is_gone_is_told(make_told: Callable[..., tuple[Pair, Post]]) -> None:
    """Nobody watches: told after a minute and a little, and so is its return."""
    pair, post = make_told()
    wait_for_figure(pair.standby, "up", "1.0")
    pair.standby.systemctl("stop", MONITOR)
    post.wait_for("nobody watches", 90)
    wait_for_figure(pair.standby, "up", "0.0")
    assert 'phase{phase="standby"}' not in figures(pair.standby)
    pair.standby.systemctl("start", MONITOR)
    post.wait_for("OVER: nobody watches", 60)
    wait_for_figure(pair.standby, "up", "1.0")


def test_the_agent_may_do_next_to_nothing(make_told: Callable[..., tuple[Pair, Post]]) -> None:
    """No root, no capability, no secret in a log; its link goes when it goes; --test works."""
    pair, post = make_told()
    standby = pair.standby
    wait_for_figure(standby, "up", "1.0")
    said = standby.run("systemd-analyze", "security", "--no-pager", AGENT, check=False).stdout
    print(said.splitlines()[-1])
    standby.run("systemd-analyze", "security", "--threshold=15", AGENT)
    status = Path(f"/proc/{standby.pids(AGENT)[0]}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    tried = standby.run("failover-monitor", "agent", "--test")
    assert tried.stdout == "webhook: it went\n"
    post.wait_for("TEST", 10)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat")
    assert standby.run(*nobody, TEXTFILE).stdout.startswith("# HELP")
    state = "/var/lib/private/failover-monitor-agent/state.json"
    for path in (CONFIG, state):
        assert standby.run(*nobody, path, check=False).returncode != 0
    for text in (standby.journal(), standby.read(state), standby.read(TEXTFILE)):
        assert HIDDEN not in text
    standby.systemctl("stop", AGENT)
    assert not standby.run("sh", "-c", f"ls -A {Path(TEXTFILE).parent}").stdout
    standby.configure(notify=None, metrics=None)
    standby.systemctl("start", AGENT)
    wait_until(lambda: "nothing to do" in standby.journal(AGENT), 20, "it says so")
    wait_until(lambda: standby.unit(AGENT)["ActiveState"] == "inactive", 10, "it ends well")
