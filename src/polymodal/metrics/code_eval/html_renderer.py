"""Render a page of the HTML subset as 128 x 128 pixels, with the bitmap font of Pillow: equal on every machine.

Elements are stacked vertically and have the width of their parent, except buttons, which have the width of their text.
Content beyond the screen is cut off. The style sheet of `document` states the same rules for a browser, which then
shows the same page except for the shapes of the letters.
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
    """A complete document for a browser: the page with the style sheet. Raises PageError as `render` does."""
    parse(page)
    head = f"<!DOCTYPE html>\n<html>\n<head>\n<title>Page</title>\n<style>\n{STYLE_SHEET}\n</style>\n</head>"
    return f"{head}\n<body>\n{page}\n</body>\n</html>\n"


def render(page: str) -> Image.Image:
    """Render a page as an RGB image of `SCREEN` x `SCREEN` pixels.

    Raises:
        PageError: the page is not in the HTML subset.

    Example:
        >>> render("<h1>Hello</h1>").size
        (128, 128)
    """
    return draw(parse(page))


def draw(elements: list[Element]) -> Image.Image:
    """Render these elements."""
    image = Image.new("RGB", (SCREEN, SCREEN), "white")
    _draw_stack(image, ImageDraw.Draw(image), elements, _MARGIN, _MARGIN, SCREEN - 2 * _MARGIN)
    return image


def height(elements: list[Element]) -> int:
    """Height of a page in pixels, including its lower margin."""
    return 2 * _MARGIN + _stack_height(elements, SCREEN - 2 * _MARGIN) - _GAP


def _stack_height(elements: list[Element], width: int) -> int:
    """Height of stacked elements in pixels, with the gap below each."""
    return sum(_element_height(element, width) + (0 if element.tag == "li" else _GAP) for element in elements)


def _element_height(element: Element, width: int) -> int:
    match element.tag:
        case "hr":
            return 1
        case "input":
            return _LINE + 4
        case "button":
            return _LINE + 6
        case "div":
            return 2 * _PADDING - _GAP + _stack_height(element.children, width - 2 * _PADDING)
        case "ul":
            return _stack_height(element.children, width - _INDENT)
        case "h1":
            return 2 * _LINE * len(_wrap(element.text, width // (2 * _LETTER)))
    return _LINE * len(_wrap(element.text, width // _LETTER))


def _draw_stack(
    image: Image.Image, pen: ImageDraw.ImageDraw, elements: list[Element], x: int, y: int, width: int
) -> None:
    for element in elements:
        if y >= SCREEN:
            return
        _draw_element(image, pen, element, x, y, width)
        y += _stack_height([element], width)


def _draw_element(image: Image.Image, pen: ImageDraw.ImageDraw, element: Element, x: int, y: int, width: int) -> None:
    tall = _element_height(element, width)
    right, bottom = max(x, x + width - 1), y + tall - 1
    match element.tag:
        case "hr":
            pen.rectangle((x, y, right, y), fill=_BORDER)
        case "input":
            pen.rectangle((x, y, right, bottom), outline=_BORDER, fill="white")
            _draw_text(image, [element.text], x + 5, y + 2, _BORDER)
        case "button":
            background = COLORS[element.color] if element.color else _PLAIN_BUTTON
            pen.rectangle((x, y, x + _LETTER * len(element.text) + 11, bottom), outline=_BORDER, fill=background)
            _draw_text(image, [element.text], x + 6, y + 3, COLORS["black"])
        case "div":
            if element.color:
                pen.rectangle((x, y, right, bottom), fill=COLORS[element.color])
            _draw_stack(image, pen, element.children, x + _PADDING, y + _PADDING, width - 2 * _PADDING)
        case "ul":
            _draw_stack(image, pen, element.children, x + _INDENT, y, width - _INDENT)
        case _:
            color = COLORS[element.color or "black"]
            if element.tag == "li":
                pen.rectangle((x - 7, y + 4, x - 5, y + 6), fill=color)
            scale = 2 if element.tag == "h1" else 1
            _draw_text(image, _wrap(element.text, width // (scale * _LETTER)), x, y, color, scale)


def _wrap(text: str, letters: int) -> list[str]:
    """Lines of at most `letters`, broken between words; a longer word has its own line."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= letters:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _draw_text(
    image: Image.Image, lines: list[str], x: int, y: int, color: tuple[int, int, int], scale: int = 1
) -> None:
    for line in lines:
        mask = Image.new("1", (_LETTER * max(1, len(line)), _LINE))
        ImageDraw.Draw(mask).text((0, 0), line, fill=1, font=_font())
        image.paste(color, (x, y), mask.resize((mask.width * scale, mask.height * scale)))
        y += _LINE * scale


@lru_cache(maxsize=1)
def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()
