"""What a configuration holds and no message may show: passwords, and URLs, which hold passwords.

Rule: what is not known to be harmless is veiled, also in a text that is no JSON at all.  A problem
of the configuration goes into the log, the history, messages and reports, which everybody may read.
"""

import re

from failover_monitor.settings import PROTECTIONS, Keys, MetricsKeys, NotifyKeys, Settings

KINDS: tuple[type[Keys], ...] = (Settings, NotifyKeys, MetricsKeys, *PROTECTIONS)
OURS = frozenset(f.alias or name for keys in KINDS for name, f in keys.model_fields.items())
HARMLESS = OURS - {"url", "endpoints", "options", "notify", "service_checks"}
TOKEN = re.compile(
    r"""(?P<key>"(?:\\.|[^"\\\n])*")(?=\s*[:"])  # also with its colon forgotten
    | (?P<value>"(?:\\.|[^"\\\n])*"?
    | [^\s"{}\[\],:]+)""",
    re.VERBOSE,
)


def is_secret(*steps: str | int) -> bool:
    """Whether what stands at this place of the configuration is nobody's business."""
    key = next((step for step in reversed(steps) if isinstance(step, str)), "")
    return key not in HARMLESS


def veiled(text: str) -> str:
    """The same text, every character at its place, without the values of secret keys."""
    key = "gateway_ip"  # what stands before any key is no secret

    def veil(found: re.Match[str]) -> str:
        nonlocal key
        token = found[0]
        if found["key"]:
            key = token[1:-1]
            return token
        if not is_secret(key):
            return token
        if token.startswith('"'):
            end = '"' if len(token) > 1 and token.endswith('"') else ""
            return '"' + "*" * (len(token) - 1 - len(end)) + end
        return "*" * len(token)

    return TOKEN.sub(veil, text)
