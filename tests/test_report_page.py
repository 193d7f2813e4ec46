"""The report in a real browser: it looks right at both widths, in both schemes, and asks nobody.

Needs Debian's chromium and chromium-driver (tests/setup.sh installs them); it never skips.
"""

import base64
import json
import re
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from failover_monitor import cli
from failover_monitor.console import report
from failover_monitor.files import Paths
from tests import eventful_day
from tests.eventful_day import DAY_S, EVIDENCE

BEGIN_S = 1_790_000_000.0
WIDTHS = (1280, 400)
A4_PX = 718  # between the margins
READABLE = 4.5  # WCAG 2, success criterion 1.4.3
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
)
HOSTILE = "</td></table><script>window.taken = 1</script><img src=x onerror='window.taken = 1'>"
# Every picture that is shown, with the boxes of its words.
PICTURES = """
    const box = (one) => { const b = one.getBoundingClientRect();
        return {left: b.left, top: b.top, right: b.right, bottom: b.bottom,
                words: one.textContent}; };
    return [...document.querySelectorAll('svg[role=img]')]
        .filter((svg) => svg.getBoundingClientRect().width > 0)
        .map((svg) => ({...box(svg), words: svg.getAttribute('aria-label'),
                        texts: [...svg.querySelectorAll('text')].map(box)}));
"""
# The contrast of every piece of text with what lies under it, after WCAG 2.
CONTRASTS = """
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const channels = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
        return (x + 0.05) / (y + 0.05); };
    const ground = (one) => { for (; one; one = one.parentElement) {
        const found = getComputedStyle(one).backgroundColor;
        if (channels(found)[3] === 255) return found; } return 'white'; };
    const raised = getComputedStyle(document.querySelector('.ground')).fill;
    const found = [];
    for (const one of document.querySelectorAll('svg[role=img] text')) {
        const words = one.textContent, style = getComputedStyle(one);
        if (one.classList.contains('in')) {
            const band = one.ownerSVGElement.querySelector('.band.' + one.classList[1]);
            const fill = getComputedStyle(band).fill;
            found.push([words, ratio(style.fill, fill.startsWith('url') ? raised : fill)]);
        } else {
            found.push([words, Math.min(ratio(style.fill, ground(one)),
                                        ratio(style.fill, raised))]);
        }
    }
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode, one = text.parentElement;
        if (!text.textContent.trim() || one.closest('svg, script, style')) continue;
        found.push([text.textContent.trim(), ratio(getComputedStyle(one).color, ground(one))]);
    }
    return found;
"""
ROWS = """
    return [...document.querySelectorAll('.events tbody tr:not(.day)')]
        .filter((row) => row.offsetHeight > 0).map((row) => row.className.split(' ')[0]);
"""


class Browser:
    """One headless Chromium, with what it asked for and what it complained of."""

    def __init__(self, *more: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for option in (*OPTIONS, *more):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))

    def ask(self, command: str, **given: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, given)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def show(self, page: Path, width: int = 1280, scheme: str = "light") -> None:
        """Open the page afresh, on a screen of this width."""
        self.driver.get("about:blank")
        self.requests(), self.complaints()
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("Emulation.setDeviceMetricsOverride", **screen)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=wanted)
        self.driver.get(page.as_uri())

    def requests(self) -> list[str]:
        """Every address that was asked for since the last call."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the console said since the last call."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


def left_page(root: Path, name: str, record: eventful_day.Recorded) -> Path:
    """The report of one day of this record."""
    record.write()
    config = root / "config.json"
    keys = {
        "gateway_ip": eventful_day.GATEWAY,
        "active_ip": eventful_day.PRIMARY,
        "ping_interval": 3,
    }
    keys |= {"ping_fail_threshold": 3, "retry_interval": 1.5, "services_to_manage": ["app.service"]}
    config.write_text(json.dumps(keys))
    period = [
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
        for at_s in (BEGIN_S, BEGIN_S + DAY_S)
    ]
    words = ["report", "--config", str(config), "--html", str(root / name)]
    options = cli.parser().parse_args([*words, "--since", period[0], "--until", period[1]])
    options.paths = record.paths
    assert report.report(options) == 0
    return root / name


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day with everything in it, some of it malicious."""
    root = tmp_path_factory.mktemp("day")
    record = eventful_day.write_days(Paths(root / "root"), BEGIN_S)
    record.event(BEGIN_S + 50, "service_failed", "ERROR", HOSTILE, EVIDENCE=HOSTILE)
    record.event(BEGIN_S + 60, "foreign", "CRITICAL", "long-" * 80)
    return left_page(root, "day.html", record)


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty takeovers, and nothing but events."""
    root = tmp_path_factory.mktemp("bad_day")
    record = eventful_day.Recorded(Paths(root / "root"))
    for number in range(40):
        at_s = BEGIN_S + 3600 + number * 300
        record.verdict(at_s, "down", EVIDENCE)
        record.transition(at_s, "standby", "takeover", "the primary stopped answering", EVIDENCE)
        record.transition(at_s + 1, "takeover", "active", "all services run here", EVIDENCE)
        record.verdict(at_s + 90, "up", "it answered")
        record.transition(at_s + 90, "active", "failback", "the primary is back", "it answered")
        record.transition(at_s + 91, "failback", "standby", "all services are stopped here", "")
    return left_page(root, "bad_day.html", record)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")
    return left_page(root, "empty.html", eventful_day.Recorded(Paths(root / "root")))


@pytest.fixture(params=["day", "bad_day", "empty"])
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


# Alone.


def test_it_asks_nobody_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    """One request, for the file itself; the console is empty, so its own policy holds."""
    browser.show(page)
    asked = [url for url in browser.requests() if not url.startswith(("data:", "about:"))]
    assert asked == [page.as_uri()]
    assert browser.complaints() == []


def test_its_policy_lets_nothing_else_in(browser: Browser, day: Path) -> None:
    """Were markup ever let through, it could neither run nor fetch."""
    browser.show(day)
    browser.run(
        "const one = document.createElement('script'); one.textContent = 'window.taken = 1';"
        "document.body.append(one);"
        "const two = document.createElement('img'); two.src = 'http://198.51.100.250/x.png';"
        "document.body.append(two);"
    )
    time.sleep(0.2)
    assert browser.run("return window.taken") is None
    told = " ".join(browser.complaints())
    assert "script-src" in told
    assert "img-src" in told


def test_what_was_recorded_cannot_act(browser: Browser, day: Path) -> None:
    """Markup in an event is shown as it is."""
    browser.show(day)
    assert browser.run("return window.taken") is None
    assert HOSTILE in browser.run("return document.querySelector('#events').textContent")


# To be seen.


@pytest.mark.parametrize("width", WIDTHS)
def test_plots_have_their_place(browser: Browser, page: Path, width: int) -> None:
    """Each once, of a sensible size, inside the screen; no label is cut or lies on another."""
    browser.show(page, width)
    pictures = browser.run(PICTURES)
    assert len(pictures) == {"day": 5, "bad_day": 1, "empty": 1}[page.stem]
    for picture in pictures:
        assert picture["left"] >= 0
        assert picture["right"] <= width
        assert picture["right"] - picture["left"] > 0.7 * width
        assert 60 < picture["bottom"] - picture["top"] < 400
        assert len(picture["words"]) > 40
        for text in picture["texts"]:
            assert text["left"] >= 0, text
            assert text["right"] <= width, text
            assert 9 <= text["bottom"] - text["top"] <= 30, text
        for one, other in combinations(picture["texts"], 2):
            apart = (
                one["right"] <= other["left"]
                or other["right"] <= one["left"]
                or one["bottom"] <= other["top"] + 2
                or other["bottom"] <= one["top"] + 2
            )
            assert apart, (one, other)


@pytest.mark.parametrize("width", [320, 400, 700, 761, 1000, 1280, 2000])
def test_nothing_needs_scrolling_sideways(browser: Browser, page: Path, width: int) -> None:
    """Only a wide table scrolls, within itself."""
    browser.show(page, width)
    assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(browser: Browser, page: Path, scheme: str) -> None:
    """Contrast of at least 4.5, in HTML and in the plots."""
    browser.show(page, 1280, scheme)
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert (lightness < 200) == (scheme == "dark")
    found = browser.run(CONTRASTS)
    assert len(found) > 20
    assert [(words[:40], ratio) for words, ratio in found if ratio < READABLE] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_matters_in_a_plot_stands_out(browser: Browser, day: Path, scheme: str) -> None:
    """Lines, bars and thin bands have a contrast of at least 3 (WCAG 2, 1.4.11)."""
    browser.show(day, 1280, scheme)
    shapes = (
        CONTRASTS.split("const found = [];", maxsplit=1)[0]
        + """
        return ['.mean stroke', '.lost fill', '.limit stroke', '.band.active fill',
                '.band.down fill', '.hole.thin fill', '.sign.takeover fill', '.sign.failback fill']
            .map((told) => told.split(' ')).map(([which, what]) =>
                [which, ratio(getComputedStyle(document.querySelector(which))[what], raised)]);
    """
    )
    found = browser.run(shapes)
    assert len(found) == 8
    assert [one for one in found if one[1] < 3] == []


def test_it_can_be_printed(browser: Browser, day: Path) -> None:
    """On paper: several pages, also from a dark screen, and with light ground."""
    browser.show(day, A4_PX, "dark")
    printed = base64.b64decode(browser.ask("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[])
    assert (
        browser.run("return getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    assert browser.run("return document.documentElement.scrollWidth") <= A4_PX
    pictures = browser.run(PICTURES)
    assert len(pictures) == 5
    assert all(picture["right"] - picture["left"] > 300 for picture in pictures)
    browser.ask("Emulation.setEmulatedMedia", media="", features=[])


# To be used.


def show_only(browser: Browser, name: str) -> list[str]:
    """Choose a filter by its label; the levels of the rows that are left."""
    browser.driver.find_element(By.CSS_SELECTOR, f"label[for=show-{name}]").click()
    rows: list[str] = browser.run(ROWS)
    return rows


def promised(browser: Browser, name: str) -> int:
    text = browser.driver.find_element(By.CSS_SELECTOR, f"label[for=show-{name}] b").text
    return int(text.replace(",", ""))


def test_the_list_can_be_narrowed(browser: Browser, day: Path) -> None:
    """By level, to exactly as many as each choice says."""
    browser.show(day)
    levels = {
        "all": {"info", "warning", "error", "critical"},
        "notable": {"info", "warning", "error", "critical"},
        "warning": {"warning", "error", "critical"},
        "error": {"error", "critical"},
    }
    for name, expected in levels.items():
        rows = show_only(browser, name)
        assert len(rows) == promised(browser, name), name
        assert set(rows) == expected
    assert promised(browser, "all") > promised(browser, "notable") > promised(browser, "warning")


def test_the_list_can_be_searched(browser: Browser, day: Path) -> None:
    """A word leaves the rows that have it, and says how many."""
    browser.show(day)
    show_only(browser, "all")
    field = browser.driver.find_element(By.CSS_SELECTOR, "input[type=search]")
    field.send_keys("APP.service is running")
    assert len(browser.run(ROWS)) == 1
    told = browser.driver.find_element(By.TAG_NAME, "output").text
    assert re.fullmatch(r"1 of \d+ have it", told)
    field.clear()
    field.send_keys(" ")
    assert len(browser.run(ROWS)) == promised(browser, "all")


def test_it_can_be_walked_with_the_keyboard(browser: Browser, day: Path) -> None:
    """Tab reaches the skip link first, then all that can be used; arrows change the filter."""
    browser.show(day)
    reached = []
    for _ in range(7):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            browser.run(
                "const one = document.activeElement, b = one.getBoundingClientRect();"
                "return [one.className || one.id || one.type || one.tagName, b.left >= 0]"
            )
        )
    names = [name for name, _ in reached]
    assert names[0] == "skip"
    assert [name for name in names if name in ("SUMMARY", "scroll", "show-notable", "search")] == [
        "SUMMARY",
        "scroll",
        "show-notable",
        "search",
    ]
    assert all(visible for _, visible in reached[:5])
    browser.driver.find_element(By.ID, "show-notable").send_keys(Keys.ARROW_RIGHT)
    assert set(browser.run(ROWS)) == {"warning", "error", "critical"}


def test_it_can_be_heard(browser: Browser, day: Path) -> None:
    """Every picture and control has a name, every table its headers, headings go down by one."""
    browser.show(day)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            name = node.get("name", {}).get("value", "")
            roles.setdefault(node["role"]["value"], []).append(name)
    pictures = roles.get("image", []) + roles.get("img", []) + roles.get("figure", [])
    assert len([name for name in pictures if name]) >= 5
    for role in ("radio", "searchbox", "link"):
        assert roles[role]
        assert all(roles[role])
    assert len(roles["radio"]) == 4
    assert {"Time", "Level", "What happened", "Address"} <= set(roles["columnheader"])
    assert eventful_day.PRIMARY in roles["rowheader"]
    headings = browser.run(
        "return [...document.querySelectorAll('h1,h2,h3')].map((one) => Number(one.tagName[1]))"
    )
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert browser.run("return document.documentElement.lang") == "en"


def test_it_works_without_javascript(day: Path) -> None:
    """Everything is there, and the filter filters; only the search is missing."""
    made = Browser("--blink-settings=scriptEnabled=false")
    try:
        made.show(day)
        find = made.driver.find_elements
        assert find(By.CSS_SELECTOR, "input[type=search]") == []
        assert (
            len([svg for svg in find(By.CSS_SELECTOR, "svg[role=img]") if svg.is_displayed()]) == 5
        )

        def shown(level: str) -> int:
            rows = find(By.CSS_SELECTOR, f".events tr.{level}")
            return sum(row.is_displayed() for row in rows)

        assert shown("info") > 0
        made.driver.find_element(By.CSS_SELECTOR, "label[for=show-error]").click()
        assert (shown("info"), shown("warning")) == (0, 0)
        assert shown("error") == shown("critical") == 1
    finally:
        made.driver.quit()
