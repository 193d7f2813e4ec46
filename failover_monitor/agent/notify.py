"""Sends one message to one target.

Rule: the only door to apprise, which says yes or no.  Its reasons are overheard, and nothing of a
URL gets out: it may hold a password.
"""

import logging
import re
from urllib.parse import unquote

import apprise

from failover_monitor.agent.words import Message

SECRET_LENGTH = 4  # shorter pieces of a URL are no secrets
MOODS = {
    "good": apprise.NotifyType.SUCCESS,
    "bad": apprise.NotifyType.WARNING,
    "worst": apprise.NotifyType.FAILURE,
}


class Overheard(logging.Handler):
    """What apprise said last, in each thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.said[record.thread or 0] = record.getMessage()


class Sender:
    """One target."""

    def __init__(self, url: str, overheard: Overheard) -> None:
        # With a time limit of its own apprise would use threads that all targets share, and those
        # that hang would delay the others; its sockets give up after 4 s anyhow.
        asset = apprise.AppriseAsset(async_mode=False, service_timeout=0, app_id="failover-monitor")
        self._apprise = apprise.Apprise(asset=asset)
        self._url, self._overheard = url, overheard
        self.understood = bool(self._apprise.add(url))

    def send(self, message: Message, thread: int) -> str:
        """Send it; "" = it went, else why not.  Blocks; `thread` is the caller's identity."""
        if not self.understood:
            return "apprise does not understand its URL"
        self._overheard.said.pop(thread, None)
        try:
            went = self._apprise.notify(
                title=message.subject,
                body=message.body,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=MOODS[message.mood],
            )
        except Exception as error:  # noqa: BLE001, a plugin's fault must not end the others' post
            return self.masked(f"{type(error).__name__}: {error}")
        if went:
            return ""
        return self.masked(self._overheard.said.get(thread, "no reason was given"))

    def masked(self, text: str) -> str:
        """A text without any piece of the URL."""
        rest = self._url.partition("://")[2]
        pieces = {*re.split(r"[/:@?&=#]+", rest), *re.split(r"[/:@?&=#]+", unquote(rest)), rest}
        for piece in sorted(pieces, key=len, reverse=True):
            if len(piece) >= SECRET_LENGTH:
                text = text.replace(piece, "***")
        return text


def overhear() -> Overheard:
    """Take over what apprise logs: it goes nowhere else."""
    handler = Overheard()
    logger = logging.getLogger("apprise")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    return handler
