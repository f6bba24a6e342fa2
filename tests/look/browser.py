"""What tests of pages need beside Python: Debian's headless Chromium, driven by Playwright, and axe-core. No browser is fetched.

Where one of them is not to be had a test is skipped and says why; with `BROWSER=required`, as CI runs, it fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from curation.store import store

CHROMIUM = Path(os.environ.get("CHROMIUM") or "/usr/lib/chromium/chromium-headless-shell")
AXE = store.Entry(
    name="axe-core",
    description="axe-core, which looks for what bars people from a page",
    licence="MPL-2.0",
    source="npm:axe-core@4.14.1",
    files=(
        store.File(
            "axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c", 653_780, "package/axe.min.js"
        ),
    ),
    download=708_405,
)
"""For tests alone: the store's table does not have it."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: make test installs it")
    if not CHROMIUM.exists():
        _missing(f"no {CHROMIUM}: make test as root installs Debian's chromium-headless-shell; CHROMIUM names another")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


def axe() -> str:
    """axe-core's script, from npm at the first time."""
    try:
        store._obtain(AXE)
    except store.StoreError as error:
        _missing(str(error))
    return AXE.path.read_text(encoding="utf-8")


def _missing(why: str) -> NoReturn:
    if os.environ.get("BROWSER") == "required":
        pytest.fail(why)
    pytest.skip(why)
