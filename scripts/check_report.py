"""Open a report in headless Chromium and use it as a reader does, with the keyboard alone.

    dir-bench report report.html && python scripts/check_report.py report.html --screenshots /tmp/shots

Checked: nothing on the console, no request but for the file itself, pictures that load, Tab reaches the skip link, the
filter, the sort buttons and what unfolds; every column sorts; the filter narrows; the page is not wider than a phone;
without JavaScript the tables stay. Exit code 1 and a line for each claim that does not hold.
"""

import argparse
import base64
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 60.0  # seconds for one answer of the browser
WIDE, NARROW = (1280, 900), (390, 844)
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, "")}


class Browser:
    """The DevTools protocol over a pair of pipes: JSON messages that end in a zero byte."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        self.buffer, self.sent, self.session = b"", 0, None
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result; events that come meanwhile are kept in `events`."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.sent:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def wait(self, event: str) -> None:
        """Read until this event has come since the last call of `open`."""
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            if not select.select([self.read], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"the browser was silent for {TIMEOUT:.0f} s")
            if not (more := os.read(self.read, 1 << 20)):
                raise RuntimeError("the browser ended")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path) -> list[dict[str, Any]]:
        """Load a file, and return what happened until a moment after."""
        self.events = []
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")
        self.run("new Promise(done => setTimeout(done, 300))")
        return self.events

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self.send("Input.dispatchKeyEvent", type="keyUp", **same)

    def tab_to(self, selector: str, most: int = 200) -> bool:
        """Press Tab until an element that matches has the focus."""
        for _ in range(most):
            self.press("Tab")
            if self.run(f"document.activeElement.matches({json.dumps(selector)})"):
                return True
        return False


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    if CHROMIUM is None:
        raise SystemExit("no Chromium here: install the package chromium")
    down, up = os.pipe(), os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (down[0], up[1])]
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
             "--disable-background-networking", "--disable-dev-shm-usage"]  # fmt: skip

    def place() -> None:  # the numbers where --remote-debugging-pipe looks for them
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (down[0], up[1], *ends):
            os.close(end)
        try:
            made = Browser(up[0], down[1])
            target = made.send("Target.createTarget", url="about:blank")["targetId"]
            made.session = made.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                made.send(f"{domain}.enable")
            yield made
        finally:
            process.terminate()
            process.wait(timeout=20)
            os.close(up[0])
            os.close(down[1])


def check(path: Path, shots: Path | None = None) -> list[str]:
    """Return what is wrong with a report, a sentence each; write screenshots into a folder if one is given."""
    with browser() as page:
        view(page, WIDE)
        wrong = quiet(page.open(path), path)
        if page.run("[...document.images].some(image => !image.naturalWidth)"):
            wrong.append("a figure does not load")
        page.press("Tab")
        if page.run("document.activeElement.className") != "skip":
            wrong.append("the first Tab does not reach the skip link")
        for table in range(page.run("document.querySelectorAll('table.sortable').length")):
            wrong += [*sorting(page, table), *filtering(page, table)]
        wrong += unfolding(page)
        wrong += quiet(page.events, path)
        if shots is not None:
            shots.mkdir(parents=True, exist_ok=True)
        for size, name in ((WIDE, "wide"), (NARROW, "narrow")):
            for scheme in ("light", "dark"):
                view(page, size, scheme)
                page.open(path)
                page.run("document.querySelector('details')?.setAttribute('open', '')")
                if page.run("document.documentElement.scrollWidth > innerWidth"):
                    wrong.append(f"the page is wider than {size[0]} pixels")
                if shots is not None:
                    save(page, shots / f"{name}_{scheme}.png")
        wrong += without_script(page, path)
    return list(dict.fromkeys(wrong))


def quiet(events: list[dict[str, Any]], path: Path) -> list[str]:
    """Return what the page said on the console, and what it asked of a network."""
    wrong = []
    for event in events:
        name, held = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            wrong.append(f"exception: {held['exceptionDetails']}")
        elif name == "Runtime.consoleAPICalled" and held["type"] in ("error", "warning", "assert"):
            wrong.append(f"console: {held['args']}")
        elif name == "Log.entryAdded" and held["entry"]["level"] in ("error", "warning"):
            wrong.append(f"console: {held['entry']['text']}")
        elif name == "Network.requestWillBeSent":
            url = held["request"]["url"]
            if not url.startswith("data:") and url.partition("#")[0] != path.resolve().as_uri():
                wrong.append(f"request: {url}")
    return wrong


ROWS = "[...document.querySelectorAll('table.sortable')[{table}].tBodies]"


def column(page: Browser, table: int, place: int) -> list[str]:
    """Return the sort keys of a column, in the order of the rows."""
    rows = ROWS.format(table=table)
    cell = f"b.rows[0].cells[{place}]"
    return list(page.run(f"{rows}.map(b => {cell}.dataset.sort ?? {cell}.innerText)"))


def sorting(page: Browser, table: int) -> list[str]:
    """Press Enter three times on each column's button: two orders, each the other's reverse, then the first again."""
    wrong = []
    heads = f"document.querySelectorAll('table.sortable')[{table}].querySelectorAll('thead th[scope=col]')"
    for place in range(page.run(f"{heads}.length")):
        name = page.run(f"{heads}[{place}].abbr || {heads}[{place}].textContent")
        before = column(page, table, place)
        page.run(f"{heads}[{place}].querySelector('button').focus()")
        states = ["descending", "ascending"] if "↑" in name else ["ascending", "descending"]
        for expected in (*states, "none"):
            page.press("Enter")
            state = page.run(f"{heads}[{place}].ariaSort")
            if state != expected:
                wrong.append(f"{name}: aria-sort is {state}, not {expected}")
            found = column(page, table, place)
            if state == "none":
                if found != before:
                    wrong.append(f"{name}: the third press does not bring the first order back")
            elif not ordered(found, state == "descending"):
                wrong.append(f"{name}: not {state}: {found}")
    return wrong


def ordered(keys: list[str], down: bool) -> bool:
    """Tell whether keys are in order, numbers by value, with holes last."""
    there = [key for key in keys if key != "–"]
    if keys[: len(there)] != there:
        return False
    numbers = [re.match(r"^[-+]?\d+(\.\d+)?(?=$|[ †])", key) for key in there]
    if not all(numbers):  # the browser's own order of texts: only that it is one of the two ends
        return sorted(there, key=str.casefold)[-1 if down else 0].casefold() == there[0].casefold()
    values = [float(found.group()) for found in numbers if found]
    return values == sorted(values, reverse=down)


def filtering(page: Browser, table: int) -> list[str]:
    """Type into the filter: a row's own words keep it, words of no row hide all, Escape brings all back."""
    rows = ROWS.format(table=table)
    shown = f"{rows}.filter(b => b.offsetHeight > 0)"
    total, label = page.run(f"{rows}.length"), page.run(f"{rows}.at(-1).rows[0].cells[0].innerText")
    page.run(f"document.querySelectorAll('.tools input')[{table}].focus()")
    page.send("Input.insertText", text=label)
    wrong = []
    texts, kept = page.run(f"{rows}.map(b => b.innerText.toLowerCase())"), page.run(f"{shown}.length")
    expected = sum(all(word in text for word in label.lower().split()) for text in texts)
    if kept != expected:
        wrong.append(f"filter '{label}' shows {kept} of {total} rows, not {expected}")
    page.send("Input.insertText", text=" no such row")
    if page.run(f"{shown}.length") != 0:
        wrong.append("a filter that no row fits hides not all of them")
    page.press("Escape")
    if page.run(f"{shown}.length") != total:
        wrong.append("Escape does not bring all rows back")
    return wrong


def unfolding(page: Browser) -> list[str]:
    """Tab to a run's details, open them, and copy the command."""
    page.run("document.querySelector('#main').focus()")
    if not page.tab_to("summary"):
        return ["Tab reaches nothing that unfolds"]
    page.press("Enter")
    if not page.run("document.activeElement.parentElement.open"):
        return ["Enter does not unfold a run"]
    if not page.tab_to("button.copy", 5):
        return ["Tab does not reach a button to copy"]
    page.press("Enter")
    page.run("new Promise(done => setTimeout(done, 300))")
    said = page.run("document.activeElement.nextElementSibling.textContent")
    selected = page.run("getSelection().toString()")
    command = page.run("document.querySelector('details[open] pre').textContent")
    if said != "copied" and (not said.startswith("selected") or selected.strip() != command.strip()):
        return [f"the command is neither copied nor selected: '{said}'"]
    return []


def without_script(page: Browser, path: Path) -> list[str]:
    """Return what is wrong with the page where JavaScript is off."""
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.events = []
    page.send("Page.navigate", url=path.resolve().as_uri())
    page.wait("Page.loadEventFired")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    found = {
        what: len(page.send("DOM.querySelectorAll", nodeId=root, selector=what)["nodeIds"])
        for what in ("tbody tr", "button", "input")
    }
    right = found["tbody tr"] and not found["button"] and not found["input"]
    return [] if right else [f"without JavaScript: {found}"]


def view(page: Browser, size: tuple[int, int], scheme: str = "light") -> None:
    page.send("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def save(page: Browser, path: Path) -> None:
    data = page.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
    path.write_bytes(base64.b64decode(data))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="wide and narrow, light and dark")
    asked = parser.parse_args()
    start = time.monotonic()
    wrong = check(asked.file, asked.screenshots)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(f"{asked.file}: {len(wrong) or 'nothing'} wrong, {time.monotonic() - start:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
