"""Units that the tests put on their hosts."""

# The thing to fail over.  No start limit: tests start it more often than any operator would.
APP = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
"""


# As an operator would write it: with systemd's own start limit, five starts in ten seconds.
LIMITED = """\
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
"""

ENABLED = (
    APP
    + """\
[Install]
WantedBy=multi-user.target
"""
)

FAILS = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/bin/false
"""

# Never gets beyond "activating".
HANGS_IN_START = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
TimeoutStartSec=infinity
ExecStart=/usr/bin/sleep infinity
"""

IGNORES_SIGTERM = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
TimeoutStopSec=5
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
"""

ONESHOT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'date +%%s.%%N >> /var/lib/oneshot-ran'
"""

UNMET_CONDITION = """\
[Unit]
ConditionPathExists=/nowhere
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
"""

# systemd starts it again by itself when it dies.
RESTARTS = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
Restart=always
RestartSec=1
ExecStart=/usr/bin/sleep infinity
"""


def fails_first(times: int) -> str:
    """A unit whose first starts fail; the count lies in /run/attempts of its host."""
    attempt = "echo x >> /run/attempts; n=$(wc -l < /run/attempts)"
    return f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=/bin/sh -c '{attempt}; test "$n" -gt {times}'
ExecStart=/usr/bin/sleep infinity
"""


def pin(*names: str) -> str:
    """An active unit that refers to others.

    A stopped unit that nothing refers to is unloaded, and its timestamps read 0 from then on.
    """
    return f"""\
[Unit]
After={" ".join(names)}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""
