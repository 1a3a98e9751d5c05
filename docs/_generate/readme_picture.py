"""Makes `docs/_static/first-model.png`, the picture of the READMEs: terminal and report of a real run, side by side.

    python docs/_generate/readme_picture.py [--work FOLDER] [--browser chromium]

The run is the quickstart of the README on the example data. It needs Chromium or Chrome. With `--work`, the run is kept
in FOLDER, and a second call makes the picture again without training.
"""

from __future__ import annotations

import argparse
import html
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DOCS = Path(__file__).parents[1]
PICTURE = DOCS / "_static" / "first-model.png"
COMMAND = "polymodal fit example/table.csv --target answer --out runs/first"
SIZE = (1680, 1000)
MAX_BYTES = 200_000
TERMINAL_COLUMNS = 80
#: Colors with enough contrast on white: black, red, green, yellow, blue, magenta, cyan, white; then the bright ones.
LIGHT = TerminalTheme(
    (255, 255, 255),
    (31, 35, 40),
    [(31, 35, 40), (179, 38, 30), (26, 115, 50), (143, 93, 0), (64, 73, 184), (130, 60, 150), (23, 118, 107)]
    + [(89, 99, 110)],
    [(89, 99, 110), (179, 38, 30), (26, 115, 50), (143, 93, 0), (64, 73, 184), (130, 60, 150), (23, 118, 107)]
    + [(31, 35, 40)],
)
PAGE = """<!doctype html><meta charset="utf-8"><style>
html, body {{ margin: 0; background: #eef0f4; font-family: "DejaVu Sans", sans-serif; }}
main {{ display: flex; gap: 24px; padding: 28px; height: {height}px; box-sizing: border-box; align-items: stretch; }}
section {{ background: #fff; border: 1px solid #d3d7de; border-radius: 10px; overflow: hidden; box-sizing: border-box;
  box-shadow: 0 6px 24px rgb(30 35 60 / 12%); display: flex; flex-direction: column; }}
header {{ padding: 9px 16px; font-size: 14px; color: #59636e; background: #f6f7f9; border-bottom: 1px solid #d3d7de; }}
.terminal {{ width: 730px; flex: none; }} .report {{ flex: 1; }}
pre {{ margin: 0; padding: 18px 20px; font: 14.2px/1.5 "DejaVu Sans Mono", monospace; color: #1f2328; }}
iframe {{ border: 0; width: 100%; flex: 1; }}
</style><main>
<section class="terminal"><header>Terminal</header><pre>{terminal}</pre></section>
<section class="report"><header>runs/first/report.html</header><iframe src="{report}" scrolling="no"></iframe></section>
</main>"""


def train(work: Path) -> None:
    """Write the example data, run the quickstart in `work`, and keep its output with colors as `terminal.txt`."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(TERMINAL_COLUMNS)}
    subprocess.run([sys.executable, DOCS / "example_data.py", "example"], cwd=work, check=True)
    command = [sys.executable, "-m", *COMMAND.split()]
    run = subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    (work / "terminal.txt").write_text(run.stdout, encoding="utf-8")


def terminal_html(work: Path) -> str:
    """The command and its output, as HTML with inline colors."""
    console = Console(record=True, width=TERMINAL_COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    output = (work / "terminal.txt").read_text(encoding="utf-8")
    console.print(Text.from_ansi(output), soft_wrap=True)
    code = console.export_html(theme=LIGHT, inline_styles=True, code_format="{code}")
    return f"<b>$ {html.escape(COMMAND)}</b>\n{code}"


def screenshot(page: Path, picture: Path, browser: str) -> None:
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=3000"]
    command += [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def make_picture(work: Path, browser: str) -> None:
    report = work / "runs" / "first" / "report.html"
    if not report.exists():
        train(work)
    page = work / "picture.html"
    page.write_text(
        PAGE.format(terminal=terminal_html(work), report=report.resolve().as_uri(), height=SIZE[1]), encoding="utf-8"
    )
    screenshot(page, work / "picture.png", browser)
    with Image.open(work / "picture.png") as image:
        assert image.size == SIZE, f"{browser} made a picture of {image.size}"
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    assert PICTURE.stat().st_size < MAX_BYTES, f"{PICTURE} has {PICTURE.stat().st_size} bytes"
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the picture of the READMEs from a real run.")
    parser.add_argument("--work", type=Path, help="keep the run in this folder, or use the run that is there")
    parser.add_argument("--browser", default="chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.work:
            arguments.work.mkdir(parents=True, exist_ok=True)
        make_picture((arguments.work or Path(folder)).resolve(), arguments.browser)
