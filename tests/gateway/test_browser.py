"""The dashboard in a real browser (Chromium, driven over its debugging protocol); skipped where there is none."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Server, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SOURCE = """
def handler(event, context):
    print("<img src=x onerror=document.title='taken'>")
    return {"got": event, "markup": "<script>document.title='taken'</script>"}
"""


class Page:
    """One page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._connection.recv(timeout=30))
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    def ask(self, script: str) -> Any:
        told = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)

    def wait(self, script: str, what: str) -> None:
        eventually(lambda: bool(self.ask(script)), what)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    assert CHROMIUM
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
    ]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--remote-allow-origins=*", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as browser:
        assert browser.stderr
        line = next(line for line in browser.stderr if "DevTools listening" in line)
        found = re.search(r"ws://\S+", line)
        assert found
        with connect(found[0], max_size=None) as control:
            whole = Page(control)
            target = whole.send("Target.createTarget", url="about:blank")["targetId"]
        base = found[0].partition("/devtools/")[0]
        with connect(f"{base}/devtools/page/{target}", max_size=None) as connection:
            yield Page(connection)
        browser.terminate()


def test_the_dashboard(twin: Server, page: Page) -> None:
    twin.deploy("shown", SOURCE)
    twin.call("shown", 1)
    page.send("Page.navigate", url=twin.url)
    page.wait("document.querySelector('[data-name=shown]') !== null", "the function is listed")
    page.wait("document.getElementById('instance-rows').innerText.includes('shown')", "its instance is listed")
    page.wait("document.getElementById('device-rows').innerText.includes('opencl:twin:0')", "devices are listed")
    page.wait("document.getElementById('event-rows').innerText.includes('is ready')", "events are listed")

    # By keyboard alone: to the function's name, open it, on to the form's button, press it.
    for _ in range(20):
        page.press("Tab")
        if page.ask("document.activeElement.dataset.name === 'shown'"):
            break
    page.press("Enter", "\r")
    page.wait("!document.getElementById('detail').hidden", "the function's part opens")
    assert page.ask("document.activeElement.id") == "detail-name"
    page.ask("document.getElementById('event').value = '[1, 2]'")
    page.press("Tab")
    page.press("Tab")
    assert page.ask("document.activeElement.tagName") == "BUTTON"
    page.press("Enter", "\r")
    page.wait("document.getElementById('answer').textContent.includes('markup')", "the answer is shown")
    assert json.loads(page.ask("document.getElementById('answer').textContent"))["got"] == [1, 2]

    # What the function says is text.
    page.wait("document.getElementById('log').textContent.includes('<img src=x')", "the log is shown")
    assert page.ask("document.querySelectorAll('main img, main script').length") == 0
    assert page.ask("document.title") == "Kasoku"

    for scheme in ("light", "dark"):
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours = page.ask(
            "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] })()"
        )
        brightness = [sum(int(n) for n in re.findall(r"\d+", colour)[:3]) for colour in colours]
        assert abs(brightness[0] - brightness[1]) > 500, f"text can be read when it is {scheme}"
