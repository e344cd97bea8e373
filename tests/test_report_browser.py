"""The report in headless Chromium, opened from disk: it sorts, plays, switches, and asks for nothing outside.

Needs the Debian packages chromium and chromium-driver and the Python package selenium. The check with
axe-core also needs its script: `npm install axe-core`, M2L_AXE=node_modules/axe-core/axe.min.js.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_helpers import make_report, measured_suite

pytestmark = pytest.mark.browser

#: Width and height of the window: a phone, a laptop, and a large screen.
SIZES = {390: 844, 1280: 900, 1920: 1080}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """M2L_REPORT (a report made before), or one of a small suite."""
    if given := os.environ.get("M2L_REPORT"):
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("browser")
    suite = measured_suite(folder, seconds=4.0)
    assert make_report(folder, suite, folder / "report", "--clips", "4") == 0
    return folder / "report"


@pytest.fixture(scope="module", params=sorted(SIZES))
def driver(request: pytest.FixtureRequest) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium or chromedriver on this machine")
    width = request.param
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    made.set_script_timeout(300)
    size = {"width": width, "height": SIZES[width], "deviceScaleFactor": 1, "mobile": width < 500}
    made.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    made.window = size
    yield made
    made.quit()


def wait(check: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def find(driver: Any, css: str) -> Any:
    return driver.find_element("css selector", css)


def texts(driver: Any, css: str) -> list[str]:
    return [str(element.text) for element in driver.find_elements("css selector", css)]


def scheme(driver: Any, value: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": value}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def listen(driver: Any, report: Path) -> Iterator[Any]:
    """The listening page; afterward the console must be empty and every request inside the report."""
    driver.get("about:blank")
    _logs(driver)
    driver.get((report / "listen.html").as_uri())
    yield driver
    _clean(driver, report)


def _logs(driver: Any) -> tuple[list[Any], list[str]]:
    requests = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])
    return driver.get_log("browser"), requests


def _clean(driver: Any, report: Path) -> None:
    console, requests = _logs(driver)
    assert console == []
    assert requests
    inside = report.as_uri() + "/"
    outside = [url for url in requests if not url.startswith((inside, "data:", "blob:", "about:"))]
    assert outside == []


def pages(report: Path) -> list[Path]:
    return sorted(report.rglob("*.html"))


def one_of_each(report: Path) -> list[Path]:
    """The pages, but only two systems: one that was measured and, if there is one, one that was not."""
    systems = sorted((report / "systems").glob("*.html"))
    absent = [path for path in systems if "<b>Not measured.</b>" in path.read_text(encoding="utf-8")]
    measured = [path for path in systems if path not in absent]
    return [*sorted(report.glob("*.html")), *measured[-1:], *absent[:1]]


def test_a_script_that_came_in_with_a_name_does_not_run(driver: Any, report: Path, tmp_path: Path) -> None:
    """What a page should ever let through as markup runs into its policy, and sends nothing."""
    altered = tmp_path / "report"
    shutil.copytree(report, altered)
    page = altered / "index.html"
    evil = (
        "<script>document.documentElement.dataset.evil = 'ran'</script>"
        "<img src='http://127.0.0.1:9/x.png' onerror=\"document.documentElement.dataset.evil = 'ran'\">"
    )
    text = page.read_text(encoding="utf-8").replace("</main>", evil + "</main>")
    page.write_text(text, encoding="utf-8")
    driver.get("about:blank")
    _logs(driver)
    driver.get(page.as_uri())
    wait(lambda: driver.execute_script("return document.readyState") == "complete")
    assert driver.execute_script("return document.documentElement.dataset.evil") is None
    console, _ = _logs(driver)
    assert len([entry for entry in console if "Content Security Policy" in entry["message"]]) >= 3


def test_every_page_opens_fits_and_asks_for_nothing_outside(driver: Any, report: Path) -> None:
    for path in pages(report):
        driver.get("about:blank")
        _logs(driver)
        driver.get(path.as_uri())
        assert driver.title
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert driver.execute_script(overflow) <= 0, f"{path.name} is wider than the window"
        broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert driver.execute_script(broken) == []
        _clean(driver, report)


def test_tables_sort_both_ways_with_absent_values_last(driver: Any, report: Path) -> None:
    driver.get((report / "index.html").as_uri())
    button = find(driver, "#table2-table thead th:nth-child(2) button")
    head = find(driver, "#table2-table thead th:nth-child(2)")
    values = """return [...document.querySelectorAll('#table2-table tbody tr')].map(
        row => row.cells[1].getAttribute('data-sort'))"""

    def column() -> list[float | None]:
        return [None if text is None else float(text) for text in driver.execute_script(values)]

    before = column()
    for direction, sign in (("descending", -1), ("ascending", 1)):
        driver.execute_script("arguments[0].focus()", button)
        button.send_keys("\ue007")  # Enter: the keyboard sorts too
        assert head.get_attribute("aria-sort") == direction
        now = column()
        assert sorted(now, key=str) == sorted(before, key=str)
        known = [value for value in now if value is not None]
        assert known == sorted(known, key=lambda value: sign * value)
        assert all(value is None for value in now[len(known) :])


def test_marks_follow_the_chosen_reference(driver: Any, report: Path) -> None:
    driver.get((report / "index.html").as_uri())
    data = json.loads(find(driver, "#table2-comparisons").get_attribute("textContent"))
    reference = next(name for name in data if name.startswith("opus"))
    before = driver.execute_script("return document.querySelector('#table2-table tbody').textContent")
    driver.execute_script(
        "const s = document.querySelector('#table2-reference'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        reference,
    )
    words = {1: "better", -1: "worse", 0: "≈"}
    shown = driver.execute_script(
        """return Object.fromEntries([...document.querySelectorAll('#table2-table tbody tr')].map(row => [
            row.dataset.row,
            Object.fromEntries([...row.querySelectorAll('td[data-key]')].map(
                cell => [cell.dataset.key, (cell.querySelector('.mark') || cell).textContent]))]))"""
    )
    for row, columns in data[reference].items():
        for key, verdict in columns.items():
            assert words[verdict] in shown[row][key]
    driver.execute_script(
        "const s = document.querySelector('#table2-reference'); s.value = '';s.dispatchEvent(new Event('change'))"
    )
    assert driver.execute_script("return document.querySelector('#table2-table tbody').textContent") == before


def heard(driver: Any) -> list[str]:
    """Names of the versions with a gain that is not 0."""
    gains = driver.execute_script(
        "return Object.fromEntries(Object.entries(m2lPlayer.voices).map(v => [v[0], v[1].gain.gain.value]))"
    )
    return [name for name, gain in gains.items() if gain > 1e-3]


def test_it_plays_and_switches_system_at_the_same_position(listen: Any) -> None:
    driver = listen
    position = "return window.m2lPlayer.position()"
    play = find(driver, "[data-play]")
    play.click()
    wait(lambda: driver.execute_script("return window.m2lPlayer.playing && window.m2lPlayer.position() > 0.3"))
    assert play.get_attribute("aria-label") == "Pause"
    names = driver.execute_script("return Object.keys(window.m2lPlayer.voices)")
    assert len(names) >= 3
    driver.execute_script("window.before = window.m2lPlayer.voices[arguments[0]].source", names[1])
    start = driver.execute_script("return [m2lPlayer.startedAt, m2lPlayer.offset, m2lPlayer.position()]")
    tracks = driver.find_elements("css selector", ".clip:not([hidden]) .track input:not([disabled])")
    for radio in tracks[1:3]:
        key = radio.get_attribute("value")
        driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", radio)
        radio.click()
        assert find(driver, "[data-player]").get_attribute("data-track") == key
        # One version is heard, and it is this one.
        wait(lambda key=key: heard(driver) == [key])
    # The same sources go on from the same start: nothing was restarted, the play head did not move.
    assert driver.execute_script("return window.m2lPlayer.voices[arguments[0]].source === window.before", names[1])
    now = driver.execute_script("return [m2lPlayer.startedAt, m2lPlayer.offset, m2lPlayer.position()]")
    assert now[:2] == start[:2]
    assert now[2] != start[2]
    play.click()
    held = driver.execute_script(position)
    time.sleep(0.3)
    assert driver.execute_script(position) == held
    tracks[0].send_keys("1")  # the keyboard switches too, at the same place
    assert driver.execute_script(position) == held
    assert find(driver, "[data-player]").get_attribute("data-track") == tracks[1].get_attribute("value")


def test_versions_differ_and_identity_does_not(listen: Any) -> None:
    driver = listen
    find(driver, "[data-play]").click()
    wait(lambda: driver.execute_script("return window.m2lPlayer.playing"))
    differences = driver.execute_script(
        """const b = m2lPlayer.buffers, a = b._original.getChannelData(0), found = {};
        for (const name in b) {
          const x = b[name].getChannelData(0);
          let sum = 0;
          for (let i = 0; i < x.length; i++) sum += (x[i] - a[i]) ** 2;
          found[name] = Math.sqrt(sum / x.length);
        }
        return found;"""
    )
    assert differences.pop("_original") == 0
    assert differences.pop("identity") == 0
    assert differences
    assert all(value > 1e-3 for value in differences.values())


def test_keys_and_clips(listen: Any) -> None:
    driver = listen
    radio = find(driver, ".clip:not([hidden]) .track input")
    driver.execute_script("arguments[0].focus()", radio)
    radio.send_keys(" ")
    wait(lambda: driver.execute_script("return window.m2lPlayer.playing"))
    radio.send_keys("2")
    followed = find(driver, "[data-player]").get_attribute("data-track")
    links = driver.find_elements("css selector", "[data-clip]")
    assert len(links) > 1
    driver.execute_script("arguments[0].click()", links[1])
    shown = driver.find_elements("css selector", ".clip:not([hidden])")
    assert [clip.get_attribute("id") for clip in shown] == [links[1].get_attribute("data-clip")]
    assert driver.current_url.endswith("#" + links[1].get_attribute("data-clip"))
    assert not driver.execute_script("return window.m2lPlayer.playing")
    # The system a listener follows stays chosen from clip to clip.
    assert find(driver, "[data-player]").get_attribute("data-track") == followed
    driver.back()
    wait(lambda: find(driver, ".clip:not([hidden])").get_attribute("id") == links[0].get_attribute("data-clip"))


def test_clips_can_be_ordered_by_a_system_s_score(listen: Any) -> None:
    driver = listen
    key = find(driver, "#clip-order optgroup option:last-child").get_attribute("value")
    driver.execute_script(
        "const s = document.querySelector('#clip-order'); s.value = arguments[0];s.dispatchEvent(new Event('change'))",
        key,
    )
    script = "return [...document.querySelectorAll('[data-order]')].map(x => JSON.parse(x.dataset.order)[arguments[0]])"
    values = driver.execute_script(script, key)
    assert values == sorted(values)
    assert len(values) > 1


def test_levels_can_be_matched(listen: Any) -> None:
    driver = listen
    box = find(driver, "[data-match]")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", box)
    plain = driver.execute_script("return m2lPlayer.levels")
    box.click()
    matched = driver.execute_script("return m2lPlayer.levels")
    levels = driver.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('.clip:not([hidden]) .track[data-rms]')]"
        ".map(t => [t.dataset.track, [Number(t.dataset.rms), Number(t.dataset.gain)]]))"
    )
    import math

    # What is next to silent (an untrained model) cannot be brought up without clipping, and nobody matches to it.
    audible = {name: level for name, level in levels.items() if level[0] > -60}
    assert len(audible) >= 3
    after = [rms + 20 * math.log10(matched[name] / gain) for name, (rms, gain) in audible.items()]
    assert max(after) - min(after) < 0.1
    assert all(matched[name] <= plain[name] + 1e-9 for name in levels)


def test_themes_differ_and_the_choice_is_kept(driver: Any, report: Path) -> None:
    color = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for value in ("light", "dark"):
        scheme(driver, value)
        driver.get((report / "index.html").as_uri())
        seen[value] = driver.execute_script(color)
    assert seen["light"] != seen["dark"]
    button = find(driver, "[data-theme-button]")
    button.click()  # light, against the system's dark
    assert driver.execute_script(color) == seen["light"]
    driver.get((report / "provenance.html").as_uri())
    assert driver.execute_script(color) == seen["light"]
    driver.execute_script("localStorage.clear()")
    scheme(driver, "light")


def test_it_prints(driver: Any, report: Path) -> None:
    import base64

    driver.get((report / "index.html").as_uri())
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    # On A4, which the pages turn, no table is cut off, and what only a pointer can use is not printed.
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size = {"width": 1030, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = "return [...document.querySelectorAll('section > .scroll')].map(t => t.scrollWidth - t.clientWidth)"
    assert all(excess <= 1 for excess in driver.execute_script(wide))
    shown = "return [...document.querySelectorAll('.compare, .switch, nav')].filter(x => x.offsetHeight).length"
    assert driver.execute_script(shown) == 0
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", driver.window)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(driver: Any, report: Path, theme: str) -> None:
    script = os.environ.get("M2L_AXE")
    if not script:
        pytest.skip("M2L_AXE does not name axe-core's axe.min.js")
    source = Path(script).read_text(encoding="utf-8")
    scheme(driver, theme)
    found = []
    for path in one_of_each(report):
        driver.get(path.as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        driver.execute_script(source)
        result = driver.execute_async_script(
            "const done = arguments[0]; axe.run(document).then(done, e => done({error: String(e)}))"
        )
        assert "error" not in result, result
        for violation in result["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            found.append((path.name, violation["id"], violation["impact"], nodes))
    scheme(driver, "light")
    assert found == []
