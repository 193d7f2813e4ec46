"""No message about a bad configuration shows what is secret in it, however bad it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_monitor.config import ConfigError, parse
from failover_monitor.veil import is_secret, veiled
from tests.test_config import FIVE

HIDDEN = "Secret99"
FENCE = {"command": ["/usr/sbin/fence_ipmilan"], "options": {"ip": "198.51.100.9"}}


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("config.json"))
    return str(caught.value)


def fence(**options: Any) -> dict[str, Any]:
    return {"fence": FENCE | {"options": FENCE["options"] | options}}  # type: ignore[operator]


def http(url: str) -> dict[str, Any]:
    return {"service_checks": [{"type": "http", "url": url}]}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (fence(password=9021055599), "fence.options.password: it is not a text"),
        (fence(password=[HIDDEN]), "fence.options.password: it is not a text"),
        (fence(password=f"{HIDDEN}\n"), "it is more than a line"),
        (fence(**{"pass word": HIDDEN}), "is no name of an option"),
        ({"fence": FENCE | {"options": HIDDEN}}, "fence.options: it is not an object"),
        ({"fence": FENCE | {"option": {"password": HIDDEN}}}, "did you mean options?"),
        ({"fence": [FENCE | {"options": {"password": HIDDEN}}]}, "is not an object"),
        ({"fense": FENCE | {"options": {"password": HIDDEN}}}, "did you mean fence?"),
        ({"ping_timeout": {"password": HIDDEN}}, "ping_timeout: {"),
        ({"notify": [{"url": f"mailtos:bob:{HIDDEN}@host"}]}, "notify[0].url: it is no URL"),
        ({"notify": [{"url": f"tgram:/1:{HIDDEN}/99"}]}, "notify[0].url: it is no URL"),
        ({"notify": [f"json://bob:{HIDDEN}@host"]}, "notify[0]: it is not an object"),
        ({"notify": f"json://bob:{HIDDEN}@host"}, "notify: it is not a list"),
        (http(f"https://bob:{HIDDEN}@198.51.100.9:99999/"), "service_checks[0].url: it is no URL"),
        (http(f"https://bob:{HIDDEN}@"), "service_checks[0].url: it is no URL"),
        ({"lease": {"endpoints": [f"http://bob:{HIDDEN}@198.51.100.9:1"]}}, "it is more than"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_secret_is_in_no_message(keys: dict[str, Any], words: str, indent: int | None) -> None:
    """On one line or on many."""
    said = told(json.dumps(FIVE | keys, indent=indent))
    assert words in said
    assert HIDDEN not in said
    assert "90210555" not in said


@pytest.mark.parametrize(
    "spoilt",
    [
        ('": "Secret', '" "Secret'),
        ('": "Secret', '" = "Secret'),
        ('": "Secret', '": Secret'),
        ('Secret99"', "Secret99"),
        ('"password"', '"password'),
        ('"password"', "password"),
        (": {", " {"),
    ],
)
def test_a_text_that_is_no_json_hides_it_as_well(spoilt: tuple[str, str]) -> None:
    """Whatever was forgotten."""
    text = json.dumps({"fence": FENCE | {"options": {"ip": "x", "password": HIDDEN}}} | FIVE)
    said = told(text.replace(*spoilt))
    assert HIDDEN not in said


def test_what_is_harmless_is_shown() -> None:
    """It is what an operator must see, and the caret stands below it."""
    keys = {"password": HIDDEN, "active_ip": "198.51.100.300", "notify": [{"level": "loud"}]}
    said = told(json.dumps(FIVE | keys, indent=1, ensure_ascii=False))
    for shown in ('"198.51.100.300"', '"loud"', '"password": "********"'):
        assert shown in said
    assert is_secret("fence", "options", "password")
    assert is_secret("notify", 0)
    assert not is_secret("notify", 0, "level")


@given(st.text(alphabet='"\\:{}[], \n\u00fcax1url/*', max_size=60))
def test_every_character_stays_at_its_place(text: str) -> None:
    """So that the caret does."""
    shown = veiled(text)
    assert len(shown) == len(text)
    assert all(new in (old, "*") for new, old in zip(shown, text, strict=True))
