"""Chromium, driven by the tests of the report."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)


class Browser:
    """A headless Chromium."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(20)

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.resize(width, height)
        self.prefer("dark" if dark else "light")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.as_uri())
        self.until("document.querySelector('.plot .scatterlayer .trace')")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def get(self, expression: str, *arguments: object) -> Any:
        return self.run(f"return {expression}", *arguments)

    def until(self, condition: str) -> None:
        """Waits until a condition holds, for at most ten seconds."""
        end = time.monotonic() + 10
        while not self.get(f"Boolean({condition})"):
            assert time.monotonic() < end, f"timed out: {condition}"
            time.sleep(0.02)

    def choose(self, name: str, value: str) -> None:
        """Sets a control as a user does, and waits for the curves."""
        if self.get("document.forms.bar.elements[arguments[0]].tagName", name) == "SELECT":
            self.run(
                "const c = document.forms.bar.elements[arguments[0]]; c.value = arguments[1];"
                "c.dispatchEvent(new Event('change', { bubbles: true }))",
                name,
                value,
            )
        else:
            self.driver.find_element("css selector", f"[name={name}][value={value}]").click()
        self.settle()

    def settle(self) -> None:
        """Waits until the visible panels are drawn, one after each frame."""
        self.driver.execute_async_script(
            "const done = arguments[0]; let frames = 5;"
            "const next = () => frames-- ? requestAnimationFrame(() => setTimeout(next)) : done(); next()"
        )

    def traces(self, panel: int = 0) -> list[dict[str, Any]]:
        """The traces that Plotly has drawn in a panel."""
        return self.get(
            "document.querySelectorAll('.plot')[arguments[0]].data.map((t) => ({ name: t.name, x: t.x, "
            "y: t.y, meta: t.meta, dash: t.line.dash, colour: t.line.color, text: t.text }))",
            panel,
        )

    def means(self, panel: int = 0) -> dict[str, tuple[list[float], list[float]]]:
        return {t["name"]: (t["x"], t["y"]) for t in self.traces(panel) if t["meta"] == "mean"}

    def chip(self, label: str) -> Any:
        chips = self.driver.find_elements("css selector", ".chip")
        (found,) = [chip for chip in chips if chip.text == label]
        return found

    def console(self) -> list[str]:
        """Messages on the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """URLs requested since the page was opened."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent]
