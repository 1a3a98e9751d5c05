"""The language of the generated web pages: a small, strict part of HTML, read and written.

A page is a sequence of elements, and an element is what the table below allows; anything else is an error. The same
text is true HTML: in a browser it needs only the style sheet of `document`, because browsers differ in the fonts and
distances they start from. A browser itself is not needed here: a language this small is drawn with Pillow alone
(`synthetic_page_renderer`), equally on every machine, thousands of pages a minute.

    element   holds            attributes
    h1 p li   text             style="color:COLOUR"
    button    text             style="background:COLOUR"
    div       elements, no li  style="background:COLOUR"
    ul        li
    hr        nothing
    input     nothing          placeholder="TEXT"

Attributes may be left out. Text is printable ASCII in which `&`, `<` and `>` are written `&amp;`, `&lt;`, `&gt;`. End
tags must be there (except of `hr` and `input`, which have none), tags and attributes are in lower case and quotes are
double, so that each page has one spelling, up to white space.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from polymodal.core.errors import PolymodalError

#: The colors that a page may name, as CSS defines them (CSS Color Module Level 4, section 6.1).
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
#: How many elements may lie in one another, and how long a page may be: what is deeper or longer is an error.
MAX_DEPTH, MAX_CHARACTERS = 8, 10_000


class PageError(PolymodalError):
    """A page is not in the small language, or not well formed; the message says where."""


@dataclass
class Element:
    """One element. `color`: of the text, or of the ground of `button` and `div`; `text` of an `input` is its
    placeholder. Either is "" where it is not given."""

    tag: str
    text: str = ""
    color: str = ""
    children: list[Element] = field(default_factory=list)


def parse(page: str) -> list[Element]:
    """The elements of a page.

    Raises:
        PageError: it holds what the language does not have, is empty, or is not well formed.
    """
    if len(page) > MAX_CHARACTERS:
        raise PageError(f"the page has {len(page)} characters; {MAX_CHARACTERS} are allowed")
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.finish()
    if "".join(page.split()) != "".join(to_html(reader.elements).split()):
        raise PageError("the page is not written strictly: end tags, double quotes, lower case, one space in a tag")
    return reader.elements


def to_html(elements: list[Element]) -> str:
    """The page of these elements, one a line; children stand in the line of their parent."""
    return "\n".join(_written(element) for element in elements)


def walk(elements: list[Element], path: str = "") -> Iterator[tuple[str, Element]]:
    """Every element in order, each with the tags from the page down to it, as in `div/p`."""
    for element in elements:
        here = f"{path}/{element.tag}" if path else element.tag
        yield here, element
        yield from walk(element.children, here)


def _written(element: Element) -> str:
    start = element.tag
    if element.color:
        start += f' style="{_STYLE[element.tag]}:{element.color}"'
    if element.tag == "input" and element.text:
        start += f' placeholder="{html.escape(element.text)}"'
    if element.tag in _VOID:
        return f"<{start}>"
    inside = html.escape(element.text, quote=False) + "".join(_written(child) for child in element.children)
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
            raise self._error(f"more than {MAX_DEPTH} elements lie in one another")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            wanted = f"</{self._open[-1].tag}>" if self._open else "no end tag"
            raise self._error(f"</{tag}> where {wanted} is due")
        element = self._open.pop()
        if not element.text and not element.children:
            raise self._error(f"<{tag}> is empty")

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not text:
            return
        if not self._open or self._open[-1].tag not in _TEXT:
            raise self._error(f"text is not allowed here: {text[:20]!r}")
        self._open[-1].text = self._legible(text)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise self._error(f"<{tag}/> must be written <{tag}>")

    def handle_comment(self, data: str) -> None:
        raise self._error("comments are not part of the language")

    def handle_decl(self, decl: str) -> None:
        raise self._error("declarations are not part of the language")

    def handle_pi(self, data: str) -> None:
        raise self._error("processing instructions are not part of the language")

    def unknown_decl(self, data: str) -> None:
        raise self._error("declarations are not part of the language")

    def finish(self) -> None:
        if self._open:
            raise PageError(f"at the end: <{self._open[-1].tag}> is not closed")
        if not self.elements:
            raise PageError("the page is empty")

    def _attribute(self, element: Element, name: str, value: str) -> None:
        if name == "placeholder" and element.tag == "input" and value and not element.text:
            element.text = self._legible(value)
            return
        kind, _, color = value.partition(":")
        if name != "style" or _STYLE.get(element.tag) != kind or element.color:
            raise self._error(f'<{element.tag}> may not have {name}="{value[:30]}"')
        if color not in COLORS:
            raise self._error(f"{color[:20]!r} is not one of the colors {', '.join(COLORS)}")
        element.color = color

    def _legible(self, text: str) -> str:
        if not (text.isascii() and text.isprintable()):
            raise self._error("text must be printable ASCII")
        return text

    def _error(self, problem: str) -> PageError:
        line, column = self.getpos()
        return PageError(f"line {line}, column {column + 1}: {problem}")
