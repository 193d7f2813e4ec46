"""Follows a file of JSON lines that somebody else appends to, turns over, or deletes.

Rule: every whole line is read once.  The place is a plain document, so that it can be kept; a line
that is torn is counted and left out.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from failover_monitor.files import ODD, moment

HEAD_BYTES = 64  # of the first line: an inode number is used again, a moment is not
CHUNK_BYTES = 1 << 16
LINE_BYTES = 1 << 20  # a longer line is nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a file has been read."""

    inode: int = 0
    head: str = ""  # how the file begins, in hexadecimal
    offset: int = 0
    last_s: float = 0.0  # `at_s` of the latest line: for when the file cannot be found again


class Follower:
    """Reads what is new.  A file that was not there at first is read from its beginning."""

    def __init__(self, path: Path, kept: dict[str, Any] | None = None) -> None:
        """`kept`: what `document` gave to an earlier process; without it, only news count."""
        self.lost = 0  # lines that could not be read
        self._path = path
        self._place = self._end() if kept is None else Place(**kept)

    @property
    def document(self) -> dict[str, Any]:
        """The place, to be kept."""
        return asdict(self._place)

    def read(self) -> Iterator[dict[str, Any]]:
        """Every whole line since the last look, oldest first."""
        if not self._path.exists():  # it is being turned over, or was deleted: it will be back
            return
        if not self._continues(self._path):
            before, after_s = self._path.with_suffix(f"{self._path.suffix}.1"), 0.0
            if not self._continues(before):  # turned over twice, or deleted
                after_s = self._place.last_s
                self._place = Place(last_s=after_s)
            yield from newer(self._lines(before), after_s)
            self._place = Place(last_s=self._place.last_s)
            yield from newer(self._lines(self._path), after_s)
            return
        yield from self._lines(self._path)

    def _end(self) -> Place:
        """The end of what is there now."""
        try:
            with self._path.open("rb") as file:
                found, head = os.fstat(file.fileno()), file.read(HEAD_BYTES)
                file.seek(0)
                end = sum(len(line) for line in file if line.endswith(b"\n"))
        except OSError:
            return Place(last_s=time.time())
        return Place(inode=found.st_ino, head=head.hex(), offset=end, last_s=time.time())

    def _continues(self, path: Path) -> bool:
        """Whether this is the file that we were reading."""
        try:
            with path.open("rb") as file:
                found, head = os.fstat(file.fileno()), file.read(HEAD_BYTES)
        except OSError:
            return False
        known = self._place
        same = found.st_ino == known.inode and head.hex().startswith(known.head)
        return same and found.st_size >= known.offset

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            file = path.open("rb")
        except OSError:
            return
        with file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._place.inode:
                self._place = Place(inode=found.st_ino, last_s=self._place.last_s)
            file.seek(self._place.offset)
            for line in self._whole(file):
                yield from self._document(line)

    def _whole(self, file: BinaryIO) -> Iterator[bytes]:
        """Lines that have their end; the place moves with each of them."""
        rest = b""
        while chunk := file.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._move(line, len(line) + 1)
                yield line
            if len(rest) > LINE_BYTES:
                self._move(rest, len(rest))
                self.lost += 1
                rest = b""

    def _move(self, line: bytes, length: int) -> None:
        place = self._place
        head = place.head if place.offset else (line + b"\n")[:HEAD_BYTES].hex()
        self._place = Place(
            inode=place.inode, head=head, offset=place.offset + length, last_s=place.last_s
        )

    def _document(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            document = json.loads(line)
            document["at_s"] = at_s = moment(document["at_s"])
        except ODD:
            self.lost += bool(line.strip())
            return
        place = self._place
        self._place = Place(
            inode=place.inode, head=place.head, offset=place.offset, last_s=max(place.last_s, at_s)
        )
        yield document


def newer(documents: Iterator[dict[str, Any]], after_s: float) -> Iterator[dict[str, Any]]:
    """Those after a moment, where the place itself was lost."""
    return (document for document in documents if document["at_s"] > after_s)
