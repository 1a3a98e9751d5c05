"""Small generated web pages with their screenshots.

    page  = 2 to 4 blocks, at most one of each kind except p
    block = h1 | p | button | input | hr | ul of 2 or 3 li | div of 1 or 2 blocks (no ul, no div)
    text  = 1 word (h1, button, input, li) or 2 to 4 words (p)

Half of the elements that can have a color get a random one. Pages higher than the screen are rejected.
"""

from __future__ import annotations

import numpy as np

from polymodal.datasets.planted import Columns
from polymodal.metrics.code_eval.html_renderer import SCREEN, draw, height
from polymodal.metrics.code_eval.html_subset import Element, to_html, walk

_WORDS = ["apple", "bird", "cloud", "door", "earth", "fish", "green", "house", "ink", "jam", "kite", "lamp", "moon"]
_WORDS += ["night", "ocean", "paper", "queen", "river", "star", "tree"]
_INKS = ["blue", "green", "purple", "red"]
_GROUNDS = ["khaki", "lightblue", "lightgreen", "pink", "plum", "silver"]
_BLOCKS = ["h1", "p", "button", "input", "hr", "ul", "div"]


def make_pages(rows: int = 100, seed: int = 0) -> Columns:
    """Web pages in a small subset of HTML, with their screenshots.

    Words and colors are independent of the layout. Split by `layout` to test on new combinations of blocks.

    Columns: `image`, a PIL image of 128 x 128 pixels, the rendering of `html`; `html`; `layout`, the tags with their
    nesting, such as `h1 div(p button) hr`.

        >>> columns = make_pages(1)
        >>> list(columns), columns["image"][0].size
        (['image', 'html', 'layout'], (128, 128))
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"image": [], "html": [], "layout": []}
    while len(columns["html"]) < rows:
        elements = _page(generator)
        if height(elements) <= SCREEN:
            columns["image"].append(draw(elements))
            columns["html"].append(to_html(elements))
            columns["layout"].append(layout(elements))
    return columns


def layout(elements: list[Element]) -> str:
    """The tags of a page with their nesting; items of lists are counted, as in `ul(3)`."""
    parts = []
    for element in elements:
        inside = str(len(element.children)) if element.tag == "ul" else layout(element.children)
        parts.append(f"{element.tag}({inside})" if inside else element.tag)
    return " ".join(parts)


def _page(generator: np.random.Generator) -> list[Element]:
    wanted = int(generator.integers(2, 5))
    while True:
        tags = generator.choice(_BLOCKS, wanted).tolist()
        elements = [_block(tag, generator) for tag in tags]
        kinds = [path for path, element in walk(elements) if element.tag not in ("p", "li")]
        if len(set(kinds)) == len(kinds):
            return elements


def _block(tag: str, generator: np.random.Generator) -> Element:
    match tag:
        case "hr":
            return Element(tag)
        case "ul":
            return Element(tag, children=[_block("li", generator) for _ in range(generator.integers(2, 4))])
        case "div":
            inside = generator.choice([one for one in _BLOCKS if one not in ("ul", "div")], generator.integers(1, 3))
            return Element(
                tag,
                color=str(generator.choice(_GROUNDS)),
                children=[_block(one, generator) for one in inside.tolist()],
            )
    words = generator.choice(_WORDS, generator.integers(2, 5) if tag == "p" else 1)
    colors = {"button": _GROUNDS, "input": []}.get(tag, _INKS)
    colored = bool(colors) and generator.random() < 0.5
    return Element(tag, " ".join(words.tolist()), str(generator.choice(colors)) if colored else "")
