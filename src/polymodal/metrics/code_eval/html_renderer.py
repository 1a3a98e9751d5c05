"""Draw a page of the small language, 128 x 128 pixels, with Pillow's own bitmap font: equal on every machine.

Elements lie below each other, each as wide as what it lies in, except that a button is as wide as its text. What does
not fit on the screen is cut off. The style sheet of `document` states the same rules for a browser, so that it shows
the page alike; only the shapes of its letters are its own.
"""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from polymodal.metrics.code_eval.html_subset import COLORS, Element, parse

#: Width and height of the screen, in pixels.
SCREEN = 128
_MARGIN, _GAP, _PADDING, _INDENT = 4, 3, 4, 10
_LETTER, _LINE = 6, 11
_BORDER = (118, 118, 118)
_PLAIN_BUTTON = (239, 239, 239)

STYLE_SHEET = f"""body {{ margin: {_MARGIN}px; width: {SCREEN - 2 * _MARGIN}px; font: 10px/{_LINE}px monospace }}
body * {{ margin: 0 0 {_GAP}px; padding: 0; box-sizing: border-box; font: inherit }}
h1 {{ font: 20px/{2 * _LINE}px monospace }}
div {{ padding: {_PADDING}px {_PADDING}px {_PADDING - _GAP}px }}
ul {{ padding-left: {_INDENT}px; list-style: none }}
li {{ margin: 0; position: relative }}
li::before {{ content: ""; position: absolute; left: -7px; top: 4px; width: 3px; height: 3px;
  background: currentColor }}
button {{ display: block; padding: 2px 5px; border: 1px solid rgb{_BORDER}; background: rgb{_PLAIN_BUTTON} }}
input {{ display: block; width: 100%; padding: 1px 4px; border: 1px solid rgb{_BORDER} }}
hr {{ height: 1px; border: 0; background: rgb{_BORDER} }}"""


def document(page: str) -> str:
    """A whole document for a browser: the page and the style sheet. Raises PageError as `render` does."""
    parse(page)
    head = f"<!DOCTYPE html>\n<html>\n<head>\n<title>Page</title>\n<style>\n{STYLE_SHEET}\n</style>\n</head>"
    return f"{head}\n<body>\n{page}\n</body>\n</html>\n"


def render(page: str) -> Image.Image:
    """The picture of a page, RGB, `SCREEN` x `SCREEN`.

    Raises:
        PageError: the page is not in the small language.
    """
    return draw(parse(page))


def draw(elements: list[Element]) -> Image.Image:
    """The picture of these elements."""
    image = Image.new("RGB", (SCREEN, SCREEN), "white")
    _stack(image, ImageDraw.Draw(image), elements, _MARGIN, _MARGIN, SCREEN - 2 * _MARGIN)
    return image


def height(elements: list[Element]) -> int:
    """How many pixels a page needs from the top of the screen, its lower margin included."""
    return 2 * _MARGIN + _high(elements, SCREEN - 2 * _MARGIN) - _GAP


def _high(elements: list[Element], width: int) -> int:
    """Pixels of elements below each other, with the gap below each."""
    return sum(_tall(element, width) + (0 if element.tag == "li" else _GAP) for element in elements)


def _tall(element: Element, width: int) -> int:
    match element.tag:
        case "hr":
            return 1
        case "input":
            return _LINE + 4
        case "button":
            return _LINE + 6
        case "div":
            return 2 * _PADDING - _GAP + _high(element.children, width - 2 * _PADDING)
        case "ul":
            return _high(element.children, width - _INDENT)
        case "h1":
            return 2 * _LINE * len(_wrapped(element.text, width // (2 * _LETTER)))
    return _LINE * len(_wrapped(element.text, width // _LETTER))


def _stack(image: Image.Image, pen: ImageDraw.ImageDraw, elements: list[Element], x: int, y: int, width: int) -> None:
    for element in elements:
        if y >= SCREEN:
            return
        _element(image, pen, element, x, y, width)
        y += _high([element], width)


def _element(image: Image.Image, pen: ImageDraw.ImageDraw, element: Element, x: int, y: int, width: int) -> None:
    tall = _tall(element, width)
    right, bottom = max(x, x + width - 1), y + tall - 1
    match element.tag:
        case "hr":
            pen.rectangle((x, y, right, y), fill=_BORDER)
        case "input":
            pen.rectangle((x, y, right, bottom), outline=_BORDER, fill="white")
            _text(image, [element.text], x + 5, y + 2, _BORDER)
        case "button":
            ground = COLORS[element.color] if element.color else _PLAIN_BUTTON
            pen.rectangle((x, y, x + _LETTER * len(element.text) + 11, bottom), outline=_BORDER, fill=ground)
            _text(image, [element.text], x + 6, y + 3, COLORS["black"])
        case "div":
            if element.color:
                pen.rectangle((x, y, right, bottom), fill=COLORS[element.color])
            _stack(image, pen, element.children, x + _PADDING, y + _PADDING, width - 2 * _PADDING)
        case "ul":
            _stack(image, pen, element.children, x + _INDENT, y, width - _INDENT)
        case _:
            color = COLORS[element.color or "black"]
            if element.tag == "li":
                pen.rectangle((x - 7, y + 4, x - 5, y + 6), fill=color)
            scale = 2 if element.tag == "h1" else 1
            _text(image, _wrapped(element.text, width // (scale * _LETTER)), x, y, color, scale)


def _wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most `letters`, broken between words; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= letters:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _text(image: Image.Image, lines: list[str], x: int, y: int, color: tuple[int, int, int], scale: int = 1) -> None:
    for line in lines:
        mask = Image.new("1", (_LETTER * max(1, len(line)), _LINE))
        ImageDraw.Draw(mask).text((0, 0), line, fill=1, font=_font())
        image.paste(color, (x, y), mask.resize((mask.width * scale, mask.height * scale)))
        y += _LINE * scale


@lru_cache(maxsize=1)
def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()
