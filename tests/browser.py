"""Chromium without a window, spoken to over a pipe: what a page measures, says and shows."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

#: widths of a laptop and of a phone, in pixels of a page
WIDTHS = (1280, 390)
HEIGHT = 800
#: one that starts: an interrupted installation leaves one that does not
PROGRAM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
        and not subprocess.run([found, "--version"], capture_output=True, check=False).returncode
    ),
    None,
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars=false", "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """Run one browser with one page in it; a ``with`` block ends it.

    Args:
        folder: an empty one for the browser's own files.
    """

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        heard, to_hear = os.pipe()
        to_say, said = os.pipe()

        def connect() -> None:
            """Give the browser the ends that it expects, as descriptors 3 and 4."""
            ends = [os.dup(heard), os.dup(said)]
            for end, place in zip(ends, (3, 4), strict=True):
                os.dup2(end, place)

        self._process = subprocess.Popen(
            [PROGRAM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=connect, close_fds=True, pass_fds=(3, 4),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(heard)
        os.close(said)
        self._to, self._from = os.fdopen(to_hear, "wb"), os.fdopen(to_say, "rb")
        self._number, self._rest, self._session = 0, b"", ""
        self.said: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self._ask("Page.bringToFront")
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._to.close()
        self._from.close()
        self._process.terminate()
        self._process.wait(20)

    def open(self, page: Path, width: int) -> None:
        """Load a file at a width; below 600 pixels as a phone does, with touch."""
        phone = width < 600
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=HEIGHT, mobile=phone,
            deviceScaleFactor=1,
        )  # fmt: skip
        self._ask("Emulation.setTouchEmulationEnabled", enabled=phone, maxTouchPoints=5)
        self._ask("Emulation.setEmitTouchEventsForMouse", enabled=False)
        self.said = []
        url = page.resolve().as_uri()
        self._ask("Page.navigate", url=url)
        while self.ask("`${document.readyState} ${location.href}`") != f"complete {url}":
            time.sleep(0.02)

    def ask(self, script: str) -> Any:
        """Return the value of an expression on the page; a promise's when it is kept."""
        answer = self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def swipe(self, x: float, y: float, distance: float, steps: int = 8) -> None:
        """Move a finger upwards, from a place in the window."""
        ways = [("touchStart", 0.0)]
        ways += [("touchMove", distance * step / steps) for step in range(1, steps + 1)]
        for kind, moved in ways:
            self._ask("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y - moved}])
        self._ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse from a place in the window to another."""
        ways = (("Moved", start), ("Pressed", start), ("Moved", end), ("Released", end))
        for kind, (x, y) in ways:
            self._ask(
                "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left",
                buttons=0 if kind == "Released" else 1, clickCount=1,
            )  # fmt: skip

    def look(self, *, dark: bool = False, paper: bool = False) -> None:
        """Show pages as by night, or as a printer gets them."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        media = "print" if paper else "screen"
        self._ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def shoot(self, path: Path) -> Path:
        """Write a picture of the whole page."""
        shot = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._hear()).get("id") != number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _hear(self) -> dict[str, Any]:
        """Return the next message; keep the names of events and what a console would show."""
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        name, params = message.get("method", ""), message.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.said.append(
                params["exceptionDetails"]["exception"].get("description", "exception")
            )
        elif name == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.said.append(params["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.said.append(" ".join(str(a.get("value", a)) for a in params["args"]))
        elif name == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.said.append(f"asked for {url}")
        return message
