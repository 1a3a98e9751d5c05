"""Makes `docs/_static/first-model.png`, the screenshot of the READMEs: the terminal and the report of a real run.

    python docs/_generate/readme_screenshot.py [--work FOLDER] [--browser chromium]

The run is the quickstart of the README on the example data. The script needs Chromium or Chrome. With `--work`, the run
is kept in FOLDER, and a second call makes the screenshot again without training.
"""

from __future__ import annotations

import argparse
import html
import os
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DOCS = Path(__file__).parents[1]
SCREENSHOT = DOCS / "_static" / "first-model.png"
COMMAND = "polymodal fit example/table.csv --target answer --out runs/first"
#: The panels beside and below the terminal: the headings of the report that they show.
PANELS = ("Largest errors", "Learning curves", "Calibration")
SIZE = (1240, 900)  # CSS pixels
TOP = 494  # height of the upper row
SCALE = 1.4
COLORS = 256
MAX_BYTES = 200_000
COLUMNS = 80  # of the terminal

#: Red, green, yellow, blue, magenta, cyan with enough contrast on white.
HUES = [(179, 38, 30), (26, 115, 50), (143, 93, 0), (64, 73, 184), (130, 60, 150), (23, 118, 107)]
INK, GRAY = (31, 35, 40), (89, 99, 110)
LIGHT = TerminalTheme((255, 255, 255), INK, [INK, *HUES, GRAY], [GRAY, *HUES, INK])

#: Scrolls a copy of the report to a heading, and hides the sections below.
SCROLL = """<style>
html {{ scroll-behavior: auto !important; zoom: 0.86; }}
main {{ padding-bottom: 100vh !important; }}
h2, h3 {{ scroll-margin-top: 14px; }}
</style>
<script>
addEventListener("load", () => {{
  const headings = [...document.querySelectorAll("h2, h3")];
  const heading = headings.find(one => one.textContent.trim() == "{heading}");
  heading.scrollIntoView();
  let below = false;
  for (let next = heading.nextElementSibling; next; next = next.nextElementSibling) {{
    below ||= ["H2", "H3"].includes(next.tagName);
    if (below) next.style.visibility = "hidden";
  }}
}});
</script>
"""
PANEL = """<section>
<header>runs/first/report.html</header>
<iframe src="{number}.html" scrolling="no"></iframe>
</section>
"""
PAGE = """<!doctype html>
<meta charset="utf-8">
<style>
body {{ margin: 0; padding: 24px; background: #eef0f4; font-family: "DejaVu Sans", sans-serif; display: grid;
  grid-template: {top}px 1fr / 586px 1fr; gap: 20px; height: {height}px; box-sizing: border-box; }}
section {{ background: #fff; border: 1px solid #d3d7de; border-radius: 10px; overflow: hidden; display: flex;
  flex-direction: column; }}
header {{ padding: 7px 16px; font-size: 13px; color: #59636e; background: #f6f7f9; border-bottom: 1px solid #d3d7de; }}
pre {{ margin: 0; padding: 14px 18px; font: 13.6px/1.42 "DejaVu Sans Mono", monospace; color: #1f2328; }}
iframe {{ border: 0; width: 100%; flex: 1; }}
</style>
<section><header>Terminal</header><pre>{terminal}</pre></section>
{panels}
"""


def train(work: Path) -> None:
    """Write the example data, run the quickstart in `work`, and keep its output with colors as `terminal.txt`."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    subprocess.run([sys.executable, DOCS / "example_data.py", "example"], cwd=work, check=True)
    command = [sys.executable, "-m", *COMMAND.split()]
    print(f"running {COMMAND} in {work}")
    with (work / "terminal.txt").open("w") as output, (work / "progress.txt").open("w") as progress:
        subprocess.run(command, cwd=work, env=environment, check=True, stdout=output, stderr=progress)


def terminal_html(work: Path) -> str:
    """The command and its output, as HTML with inline colors."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi((work / "terminal.txt").read_text(encoding="utf-8").strip()), soft_wrap=True)
    output = console.export_html(theme=LIGHT, inline_styles=True, code_format="{code}")
    return f"<b>$ {html.escape(COMMAND)}</b>\n\n{output}"


def scrolled_report(report: str, heading: str) -> str:
    return report.replace("</head>", SCROLL.format(heading=heading) + "</head>", 1)


def capture(page: Path, image: Path, browser: str) -> None:
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--virtual-time-budget=3000", f"--force-device-scale-factor={SCALE}"]
    command += [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={image}", page.as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def make_screenshot(work: Path, browser: str) -> None:
    report = work / "runs" / "first" / "report.html"
    if not report.exists():
        train(work)
    for number, heading in enumerate(PANELS):
        copy = scrolled_report(report.read_text(encoding="utf-8"), heading)
        (work / f"{number}.html").write_text(copy, encoding="utf-8")
    panels = "".join(PANEL.format(number=number) for number in range(len(PANELS)))
    page = PAGE.format(terminal=terminal_html(work), panels=panels, top=TOP, height=SIZE[1])
    (work / "panels.html").write_text(page, encoding="utf-8")
    capture(work / "panels.html", work / "panels.png", browser)
    with Image.open(work / "panels.png") as image:
        colors = image.convert("RGB").quantize(COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colors.save(SCREENSHOT, optimize=True)
    size = SCREENSHOT.stat().st_size
    assert size < MAX_BYTES, f"{SCREENSHOT} has {size} bytes, more than {MAX_BYTES}"
    print(f"{SCREENSHOT}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the screenshot of the READMEs from a real run.")
    parser.add_argument("--work", type=Path, help="folder that keeps the run, or has one")
    parser.add_argument("--browser", default="chromium", help="command of Chromium or Chrome")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        make_screenshot(folder, arguments.browser)
