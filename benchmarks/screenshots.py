"""Take the pictures of the documents with Debian's chromium: the page of the service, a report, and pages of the site.

    python benchmarks/screenshots.py --service MODEL docs/images/service.png
    python benchmarks/screenshots.py --page report/report.html docs/images/report.png --height 1950
    python benchmarks/screenshots.py --page build/docs/arabic.html arabic.png

`--service` starts `musamma serve` with the model, tags the text of the example button and waits for the result. Needs the
package playwright.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from service_process import start_service

# Minutes on a busy machine.
TIMEOUT_MS = 600_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--service", metavar="MODEL")
    source.add_argument("--page", type=Path, metavar="FILE")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": options.width, "height": options.height})
        page.set_default_timeout(TIMEOUT_MS)
        if options.page:
            page.goto(options.page.resolve().as_uri())
            page.screenshot(path=options.picture)
        else:
            _picture_service(page, options.service, options.picture)
        browser.close()
    print(f"{options.picture}: {options.picture.stat().st_size:,} bytes")


def _picture_service(page: Page, model: str, picture: Path) -> None:
    with start_service(model) as (_, url):
        page.goto(url)
        page.click("#example")
        page.press("#text", "Control+Enter")
        page.wait_for_selector("#result:not([hidden])")
        page.locator("body").screenshot(path=picture)


if __name__ == "__main__":
    main()
