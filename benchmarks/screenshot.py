"""The picture at the top of the README: `curation view` on a run, one clip open, in Debian's headless Chromium.

    python benchmarks/screenshot.py runs/sample KEY docs/view.jpg [--width 1300] [--height 1280] [--scheme light|dark]

The README's own shows bikes_00003 of `make curate`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from urllib.parse import quote

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/lib/chromium/chromium-headless-shell"
READY = "[...document.querySelectorAll('#detail img')].every((image) => image.complete && image.naturalWidth)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("key")
    parser.add_argument("output")
    parser.add_argument("--width", type=int, default=1300)
    parser.add_argument("--height", type=int, default=1280)
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    arguments = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-m", "curation.cli", "view", arguments.run], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = re.search(r"http://\S+/", server.stdout.readline())[0]  # type: ignore[index]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            size = {"width": arguments.width, "height": arguments.height}
            page = browser.new_page(viewport=size, color_scheme=arguments.scheme)
            page.goto(f"{url}?key={quote(arguments.key)}")
            page.wait_for_selector("#detail video")
            while not page.evaluate(READY):
                page.wait_for_timeout(100)
            page.evaluate("document.activeElement.blur(); document.querySelector('video').currentTime = 0.1")
            page.wait_for_timeout(1000)
            page.screenshot(path=arguments.output, type="jpeg", quality=82)
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
