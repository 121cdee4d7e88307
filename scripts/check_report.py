"""Open a report in headless Chromium and use it as a reader does, with the keyboard alone.

    pip install 'dir-bench[browser]' && apt-get install chromium
    dir-bench report report.html && python scripts/check_report.py report.html --screenshots shots

Playwright drives the Chromium of the system; no browser of its own is needed. Checked: nothing on the console, no
request but for the file itself, pictures that load, Tab reaches the skip link, the filter, the sort buttons and what
unfolds; every column sorts; the filter narrows; the page is not wider than a phone; without JavaScript the tables stay.
Exit code 1 and a line for each claim that does not hold.
"""

import argparse
import re
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, ElementHandle, Page, Request, ViewportSize, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
MOMENT = 300  # milliseconds that a page is given to do what it should not


def check(path: Path, shots: Path | None = None) -> list[str]:
    """Return what is wrong with a report, a sentence each; write screenshots into a folder if one is given."""
    if CHROMIUM is None:
        raise SystemExit("no Chromium here: install the package chromium")
    url = path.resolve().as_uri()
    wrong: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        page = browser.new_page(viewport=WIDE)
        listen(page, url, wrong)
        visit(page, url)
        if page.evaluate("[...document.images].some(image => !image.naturalWidth)"):
            wrong.append("a figure does not load")
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") != "skip":
            wrong.append("the first Tab does not reach the skip link")
        fields = page.query_selector_all(".tools input")
        for table, field in zip(page.query_selector_all("table.sortable"), fields, strict=True):
            wrong += [*sorting(page, table), *filtering(page, table, field)]
        wrong += unfolding(page)
        for size, name in ((WIDE, "wide"), (NARROW, "narrow")):
            page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                visit(page, url)
                page.evaluate("document.querySelector('details')?.setAttribute('open', '')")
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    wrong.append(f"the page is wider than {size['width']} pixels")
                if shots is not None:
                    page.screenshot(path=shots / f"{name}_{scheme}.png", full_page=True)
        wrong += without_script(browser, url)
    return list(dict.fromkeys(wrong))


def listen(page: Page, url: str, wrong: list[str]) -> None:
    """Add to `wrong` what the page says on the console, and what it asks of a network."""

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            wrong.append(f"console: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith("data:") and request.url.partition("#")[0] != url:
            wrong.append(f"request: {request.url}")

    page.on("console", said)
    page.on("request", asked)
    page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))


def visit(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_timeout(MOMENT)


def column(table: ElementHandle, place: int) -> tuple[str, list[str]]:
    """Return a column's aria-sort and its sort keys, in the order of the rows."""
    state, keys = table.evaluate(
        """(table, place) => [
            table.querySelectorAll("thead th[scope=col]")[place].ariaSort,
            [...table.tBodies].map(body => body.rows[0].cells[place]).map(cell => cell.dataset.sort ?? cell.innerText),
        ]""",
        place,
    )
    return state, keys


def sorting(page: Page, table: ElementHandle) -> list[str]:
    """Press Enter three times on each column's button: two orders, each the other's reverse, then the first again."""
    wrong = []
    for place, head in enumerate(table.query_selector_all("thead th[scope=col]")):
        name = head.evaluate("head => head.abbr || head.textContent")
        _, before = column(table, place)
        head.evaluate("head => head.querySelector('button').focus()")
        states = ["descending", "ascending"] if "↑" in name else ["ascending", "descending"]
        for expected in (*states, "none"):
            page.keyboard.press("Enter")
            state, found = column(table, place)
            if state != expected:
                wrong.append(f"{name}: aria-sort is {state}, not {expected}")
            if state == "none":
                if found != before:
                    wrong.append(f"{name}: the third press does not bring the first order back")
            elif not ordered(found, state == "descending"):
                wrong.append(f"{name}: not {state}: {found}")
    return wrong


def ordered(keys: list[str], down: bool) -> bool:
    """Tell whether keys are in order, numbers by value, with what is no number last."""
    there = [key for key in keys if key not in ("–", "n/a")]
    if keys[: len(there)] != there:
        return False
    numbers = [re.match(r"^[-+]?\d+(\.\d+)?(?=$|[\s†])", key) for key in there]
    if not all(numbers):  # the browser's own order of texts: only that it is one of the two ends
        return sorted(there, key=str.casefold)[-1 if down else 0].casefold() == there[0].casefold()
    values = [float(found.group()) for found in numbers if found]
    return values == sorted(values, reverse=down)


def filtering(page: Page, table: ElementHandle, field: ElementHandle) -> list[str]:
    """Type into the filter: a row's own words keep it, words of no row hide all, Escape brings all back."""
    texts = table.evaluate("table => [...table.tBodies].map(body => body.innerText.toLowerCase())")
    label = table.evaluate("table => [...table.tBodies].at(-1).rows[0].cells[0].innerText")

    def shown() -> int:
        return int(table.evaluate("table => [...table.tBodies].filter(body => body.offsetHeight > 0).length"))

    wrong = []
    field.focus()
    page.keyboard.insert_text(label)
    expected = sum(all(word in text for word in label.lower().split()) for text in texts)
    if (kept := shown()) != expected:
        wrong.append(f"filter '{label}' shows {kept} of {len(texts)} rows, not {expected}")
    page.keyboard.insert_text(" no such row")
    if shown() != 0:
        wrong.append("a filter that no row fits hides not all of them")
    page.keyboard.press("Escape")
    if shown() != len(texts):
        wrong.append("Escape does not bring all rows back")
    return wrong


def unfolding(page: Page) -> list[str]:
    """Tab to a run's details, open them, and copy the command."""
    page.locator("#main").focus()
    if not tab_to(page, "summary"):
        return ["Tab reaches nothing that unfolds"]
    page.keyboard.press("Enter")
    if not page.evaluate("document.activeElement.parentElement.open"):
        return ["Enter does not unfold a run"]
    if not tab_to(page, "button.copy", 5):
        return ["Tab does not reach a button to copy"]
    page.keyboard.press("Enter")
    page.wait_for_timeout(MOMENT)
    said = page.evaluate("document.activeElement.nextElementSibling.textContent")
    selected = page.evaluate("getSelection().toString()")
    command = page.evaluate("document.querySelector('details[open] pre').textContent")
    if said != "copied" and (not said.startswith("selected") or selected.strip() != command.strip()):
        return [f"the command is neither copied nor selected: '{said}'"]
    return []


def tab_to(page: Page, selector: str, most: int = 200) -> bool:
    """Press Tab until an element that matches has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return True
    return False


def without_script(browser: Browser, url: str) -> list[str]:
    """Return what is wrong with the page where JavaScript is off."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(url)
    found = {what: page.locator(what).count() for what in ("tbody tr", "button", "input")}
    right = found["tbody tr"] and not found["button"] and not found["input"]
    return [] if right else [f"without JavaScript: {found}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="wide and narrow, light and dark")
    asked = parser.parse_args()
    if not asked.file.is_file():
        parser.error(f"there is no file {asked.file}: `dir-bench report {asked.file}` writes one")
    start = time.monotonic()
    wrong = check(asked.file, asked.screenshots)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(f"{asked.file}: {len(wrong) or 'nothing'} wrong, {time.monotonic() - start:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
