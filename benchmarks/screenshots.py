r"""Take the pictures of the documents with Debian's chromium: the page of the service, a report, and pages of the site.

    python benchmarks/screenshots.py --service MODEL docs/images/service.png
    python benchmarks/screenshots.py --page report/report.html docs/images/report.png --width 1200 --height 1950 \
        --remove '#scores h3, #scores h3 ~ *, section:not(#scores, #articles), article:not(:has-text("seed-mosul"))'
    python benchmarks/screenshots.py --page build/docs/arabic.html arabic.png

`--service` starts `musamma serve` with the model, tags the text of the example button and waits for the result. The report in
docs/images is that of the packaged tagger on Khabar's test part; what lies between the scores and one article is removed. Pictures are saved
with a palette of 256 colours. Needs the package playwright.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from PIL import Image
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
    parser.add_argument(
        "--remove", metavar="SELECTOR", help="elements of the page to leave out, as a selector of Playwright"
    )
    options = parser.parse_args()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": options.width, "height": options.height})
        page.set_default_timeout(TIMEOUT_MS)
        if options.page:
            page.goto(options.page.resolve().as_uri())
            if options.remove:
                page.locator(options.remove).evaluate_all("elements => elements.forEach(element => element.remove())")
            page.screenshot(path=options.picture)
        else:
            _picture_service(page, options.service, options.picture)
        browser.close()
    with Image.open(options.picture) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(options.picture, optimize=True)
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
