"""A page in headless Chromium, spoken to by the DevTools protocol on a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Browser", "browser"]

#: An answer takes no longer, in seconds.
_PATIENCE = 30.0


class Browser:
    """One tab. Whatever it asks for, and complains of, is kept."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out
        self._unread = b""
        self._number = 0
        self._session: str | None = None
        #: URLs of requests, and what the console and the log say.
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def open(self, page: Path) -> None:
        """Go to a file, and wait until it is loaded."""
        self.ask("Page.navigate", url=page.as_uri())
        self.wait_for(f"document.readyState + location.href === 'complete{page.as_uri()}'")

    def size(self, width: int, height: int) -> None:
        """The window's, in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """``light`` or ``dark``, as the reader prefers it."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str, code: int) -> None:
        """A key, by its name and its code."""
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse, with its button pressed, from one point of the window to another, in CSS pixels."""
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        for kind, (x, y) in (("Pressed", start), ("Moved", middle), ("Moved", end), ("Released", end)):
            self.ask("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A finger that moves over the window."""
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        for kind, points in (("Start", [start]), ("Move", [middle]), ("Move", [end]), ("End", [])):
            touches = [{"x": x, "y": y} for x, y in points]
            self.ask("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=touches)

    def picture(self, *, whole: bool = False) -> bytes:
        """What the window shows, or the ``whole`` page, as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command's answer; what happens until then is noted."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(message["params"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            readable, _, _ = select.select([self._out], [], [], _PATIENCE)
            assert readable, "the browser does not answer"
            data = os.read(self._out, 1 << 16)
            assert data, "the browser has ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that keeps its files in ``profile``."""
    read_by_it, into = os.pipe()
    out, written_by_it = os.pipe()
    # The protocol is on the descriptors 3 and 4.
    script = f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}'
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
    with subprocess.Popen(
        ["bash", "-c", script, "bash", "chromium", *options, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[read_by_it, written_by_it],
    ) as process:
        os.close(read_by_it)
        os.close(written_by_it)
        try:
            yield Browser(into, out)
        finally:
            os.close(into)
            process.terminate()
            process.wait(20)
            os.close(out)
