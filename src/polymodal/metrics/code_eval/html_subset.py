"""A small, strict subset of HTML for generated web pages: parser and serializer.

A page is a sequence of elements of the table below; anything else is an error. Pages are valid HTML. A browser needs
only the style sheet of `document`, because browsers differ in their default fonts and margins. No browser is needed
here: the subset is rendered with Pillow (`html_renderer`), equally on every machine, thousands of pages per minute.

    element   content          attributes
    h1 p li   text             style="color:COLOR"
    button    text             style="background:COLOR"
    div       elements, no li  style="background:COLOR"
    ul        li
    hr        nothing
    input     nothing          placeholder="TEXT"

Attributes are optional. Text is printable ASCII; `&`, `<` and `>` are written `&amp;`, `&lt;`, `&gt;`. End tags are
required (except for `hr` and `input`, which have none), tags and attributes are in lower case and quotes are double, so
that each page has a single spelling, up to whitespace.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from polymodal.core.errors import PolymodalError

#: Allowed colors, as in CSS (CSS Color Module Level 4, section 6.1).
COLORS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "green": (0, 128, 0),
    "khaki": (240, 230, 140),
    "lightblue": (173, 216, 230),
    "lightgreen": (144, 238, 144),
    "pink": (255, 192, 203),
    "plum": (221, 160, 221),
    "purple": (128, 0, 128),
    "red": (255, 0, 0),
    "silver": (192, 192, 192),
}
_BLOCKS = frozenset({"h1", "p", "button", "div", "ul", "hr", "input"})
_TEXT = frozenset({"h1", "p", "li", "button"})
_VOID = frozenset({"hr", "input"})
_INSIDE = {"": _BLOCKS, "div": _BLOCKS, "ul": frozenset({"li"})}
_STYLE = {"h1": "color", "p": "color", "li": "color", "button": "background", "div": "background"}
#: Maximum nesting depth, and maximum length of a page.
MAX_DEPTH, MAX_CHARACTERS = 8, 10_000


class PageError(PolymodalError):
    """A page is not in the HTML subset or not well formed; the message gives the position."""


@dataclass
class Element:
    """An element. `color` is that of the text, or of the background of `button` and `div`; `text` of an `input` is its
    placeholder. Both are "" if not given."""

    tag: str
    text: str = ""
    color: str = ""
    children: list[Element] = field(default_factory=list)


def parse(page: str) -> list[Element]:
    """Parse a page.

    Raises:
        PageError: the page is empty, not well formed, or not in the HTML subset.

    Example:
        >>> parse('<p style="color:red">Hi</p>')
        [Element(tag='p', text='Hi', color='red', children=[])]
    """
    if len(page) > MAX_CHARACTERS:
        raise PageError(f"the page has {len(page)} characters; the maximum is {MAX_CHARACTERS}")
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.finish()
    if "".join(page.split()) != "".join(to_html(reader.elements).split()):
        raise PageError("the page is not in strict form: end tags, double quotes, lower case, one space in a tag")
    return reader.elements


def to_html(elements: list[Element]) -> str:
    """Serialize elements, one per line; children are in the line of their parent."""
    return "\n".join(_serialize(element) for element in elements)


def walk(elements: list[Element], path: str = "") -> Iterator[tuple[str, Element]]:
    """Every element in order, each with the tags from the page to it, as in `div/p`."""
    for element in elements:
        tag_path = f"{path}/{element.tag}" if path else element.tag
        yield tag_path, element
        yield from walk(element.children, tag_path)


def _serialize(element: Element) -> str:
    start = element.tag
    if element.color:
        start += f' style="{_STYLE[element.tag]}:{element.color}"'
    if element.tag == "input" and element.text:
        start += f' placeholder="{html.escape(element.text)}"'
    if element.tag in _VOID:
        return f"<{start}>"
    inside = html.escape(element.text, quote=False) + "".join(_serialize(child) for child in element.children)
    return f"<{start}>{inside}</{element.tag}>"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parent = self._open[-1].tag if self._open else ""
        if tag not in _INSIDE.get(parent, ()):
            raise self._error(f"<{tag}> is not allowed in {f'<{parent}>' if parent else 'the page'}")
        element = Element(tag)
        for name, value in attrs:
            self._attribute(element, name, value or "")
        (self._open[-1].children if self._open else self.elements).append(element)
        if tag not in _VOID:
            self._open.append(element)
        if len(self._open) > MAX_DEPTH:
            raise self._error(f"elements are nested deeper than {MAX_DEPTH} levels")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            expected = f"</{self._open[-1].tag}>" if self._open else "no end tag"
            raise self._error(f"</{tag}> where {expected} is expected")
        element = self._open.pop()
        if not element.text and not element.children:
            raise self._error(f"<{tag}> is empty")

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not text:
            return
        if not self._open or self._open[-1].tag not in _TEXT:
            raise self._error(f"text is not allowed here: {text[:20]!r}")
        self._open[-1].text = self._check_text(text)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise self._error(f"<{tag}/> must be written <{tag}>")

    def handle_comment(self, data: str) -> None:
        raise self._error("comments are not allowed")

    def handle_decl(self, decl: str) -> None:
        raise self._error("declarations are not allowed")

    def handle_pi(self, data: str) -> None:
        raise self._error("processing instructions are not allowed")

    def unknown_decl(self, data: str) -> None:
        raise self._error("declarations are not allowed")

    def finish(self) -> None:
        if self._open:
            raise PageError(f"at the end: <{self._open[-1].tag}> is not closed")
        if not self.elements:
            raise PageError("the page is empty")

    def _attribute(self, element: Element, name: str, value: str) -> None:
        if name == "placeholder" and element.tag == "input" and value and not element.text:
            element.text = self._check_text(value)
            return
        kind, _, color = value.partition(":")
        if name != "style" or _STYLE.get(element.tag) != kind or element.color:
            raise self._error(f'<{element.tag}> may not have {name}="{value[:30]}"')
        if color not in COLORS:
            raise self._error(f"{color[:20]!r} is not one of the colors {', '.join(COLORS)}")
        element.color = color

    def _check_text(self, text: str) -> str:
        if not (text.isascii() and text.isprintable()):
            raise self._error("text must be printable ASCII")
        return text

    def _error(self, problem: str) -> PageError:
        line, column = self.getpos()
        return PageError(f"line {line}, column {column + 1}: {problem}")
