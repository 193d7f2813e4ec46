"""JSON with // and /* */ comments, and the place of everything in it.

Rule: comments are all that is added to JSON.  They are blanked, never cut out, so every offset in
what is left is true in the file as well.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]  # not in typeshed
from json.scanner import py_make_scanner  # type: ignore[attr-defined]

DEEPEST = 32  # levels of nesting; a configuration needs two

Key = str | int
Scan = Callable[[str, int], tuple[object, int]]

_TEXT_OR_COMMENT = re.compile(
    r'"(?:\\.|[^"\\\n])*"?|(?P<comment>//[^\n]*|/\*.*?\*/)|/\*.*', re.DOTALL
)
_NOT_NEWLINE = re.compile(r"[^\n]")
_TEXT = re.compile(r'"(?P<text>(?:\\.|[^"\\\n])*)"?(?P<key>\s*:)?')

# The parser's words, and ours: what is wrong, what would be right.
_FAULTS = (
    ("Expecting value", "a value is expected here", 'a number, "text" or a [list]'),
    ("Expecting property name", "a key is expected here", 'a key in double quotes: "key"'),
    ("Expecting ','", "a comma is missing before this", "a comma between two entries"),
    ("Expecting ':'", "a colon is missing before this", 'a colon between key and value: "key": 3'),
    ("Unterminated string", "the closing quote is missing", 'text between two quotes: "text"'),
    ("Invalid control", "a line break or control character in a text", "text on one line"),
    ("Invalid \\", "the backslash begins no known escape", r"\\ for a backslash, \" for a quote"),
    ("Extra data", "something follows the end", "one object { ... } and nothing after it"),
    ("Nested", "nested too deeply", "the keys stand directly in the one object { ... }"),
)
_BY_FIRST_LETTER = {
    "#": ("# does not begin a comment", "// begins a comment"),
    "'": ("single quotes do not enclose a text", "double quotes"),
    "/": ("this is no comment, or one without its end", "// to the end of the line, or /* ... */"),
}


class JsoncError(ValueError):
    """The text is not JSON; `offset` is where that shows."""

    def __init__(self, offset: int, what: str, right: str) -> None:
        super().__init__(f"{what}; right: {right}")
        self.offset = offset
        self.what = what
        self.right = right


@dataclass(frozen=True, slots=True)
class Member:
    """Where an entry of an object or a list begins."""

    key_at: int
    value_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that was read."""

    data: object
    start: int  # offset of the outermost value
    members: dict[int, dict[Key, Member]]  # by id() of an object or list inside `data`
    repeated: tuple[tuple[str, int], ...]  # keys that stood in their object already; first one wins

    def member(self, location: tuple[Key, ...]) -> Member:
        """Places of the deepest part of a location that exists."""
        here, value = Member(self.start, self.start), self.data
        for key in location:
            found = self.members.get(id(value), {}).get(key)
            if found is None:
                break
            here = found
            value = value[key]  # type: ignore[index]  # it has members
        return here


class _Reader(json.JSONDecoder):
    """The standard decoder, which in passing notes where every value began."""

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[int, dict[Key, Member]] = {}
        self.repeated: list[tuple[str, int]] = []
        self._depth = 0
        self.parse_int = _number
        self.parse_object = self._object
        self.parse_array = self._array
        self.scan_once = py_make_scanner(self)

    def _noting(self, scan: Scan, spans: list[tuple[int, int]]) -> Scan:
        def noting(text: str, start: int) -> tuple[object, int]:
            self._depth += 1
            if self._depth > DEEPEST:
                raise json.JSONDecodeError("Nested", text, start)
            value, end = scan(text, start)
            self._depth -= 1
            spans.append((start, end))
            return value, end

        return noting

    def _object(
        self, at: tuple[str, int], strict: bool, scan: Scan, *_hooks: object
    ) -> tuple[object, int]:
        text, before = at
        spans: list[tuple[int, int]] = []

        def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
            built: dict[str, object] = {}
            places: dict[Key, Member] = {}
            previous_end = before
            for (key, value), (start, end) in zip(pairs, spans, strict=True):
                key_at = text.index('"', previous_end)
                previous_end = end
                if key in built:
                    self.repeated.append((key, key_at))
                else:
                    built[key] = value
                    places[key] = Member(key_at, start)
            self.members[id(built)] = places
            return built

        value, end = JSONObject(at, strict, self._noting(scan, spans), None, build, {})
        return value, end

    def _array(self, at: tuple[str, int], scan: Scan) -> tuple[object, int]:
        spans: list[tuple[int, int]] = []
        value, end = JSONArray(at, self._noting(scan, spans))
        self.members[id(value)] = {i: Member(start, start) for i, (start, _) in enumerate(spans)}
        return value, end


def _number(digits: str) -> float:
    """A whole number; an absurd one as a float, because int() refuses thousands of digits."""
    return int(digits) if len(digits) < 18 else float(digits)


def _blank(text: str) -> str:
    """The text with spaces where its comments were."""
    return _TEXT_OR_COMMENT.sub(
        lambda found: _NOT_NEWLINE.sub(" ", found[0]) if found["comment"] else found[0], text
    )


def _fault(error: json.JSONDecodeError, text: str) -> JsoncError:
    offset = error.pos
    before = text[:offset].rstrip()
    if before.endswith(",") and text[offset : offset + 1] in {"}", "]"}:
        return JsoncError(len(before) - 1, "nothing follows this comma", "no comma at the end")
    if error.msg.startswith("Illegal trailing comma"):  # Python >= 3.13
        return JsoncError(offset, "nothing follows this comma", "no comma at the end")
    if offset >= len(text.rstrip()):
        return JsoncError(offset, "the file ends too early", "a } or ] for every { or [")
    if mistake := _BY_FIRST_LETTER.get(text[offset]):
        return JsoncError(offset, *mistake)
    for words, what, right in _FAULTS:
        if error.msg.startswith(words):
            return JsoncError(offset, what, right)
    return JsoncError(offset, error.msg, "JSON")


def key_before(text: str, offset: int) -> str:
    """The key that stands at this place of a text that is no JSON, or else nearest before it."""
    key = ""
    for found in _TEXT.finditer(_blank(text)):
        if found.start() > offset:
            break
        if found["key"]:
            key = found["text"]
    return key


def read(text: str) -> Document:
    """Read a text, or raise `JsoncError`.  NaN and Infinity come through as floats."""
    blanked = _blank(text)
    reader = _Reader()
    try:
        data = reader.decode(blanked)
    except json.JSONDecodeError as error:
        raise _fault(error, blanked) from None
    return Document(
        data=data,
        start=len(blanked) - len(blanked.lstrip()),
        members=reader.members,
        repeated=tuple(reader.repeated),
    )
