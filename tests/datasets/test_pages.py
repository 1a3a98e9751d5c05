"""The generated web pages: their language is strict, their pictures say what the text says, and they are seeded."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from polymodal.datasets.pages import layout, make_pages
from polymodal.metrics.code_eval.html_renderer import SCREEN, document, draw, height, render
from polymodal.metrics.code_eval.html_subset import MAX_CHARACTERS, MAX_DEPTH, PageError, parse, to_html

PAGE = '<h1>moon</h1>\n<div style="background:pink"><p style="color:red">one &amp; two</p><hr></div>\n<input>'


def test_seeded_and_of_the_asked_length() -> None:
    one, same, other = make_pages(40, seed=1), make_pages(40, seed=1), make_pages(40, seed=2)
    assert one["html"] == same["html"]
    assert one["html"] != other["html"]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one["image"], same["image"], strict=True))
    assert {len(cells) for cells in one.values()} == {40}


def test_pages_are_of_the_language_fit_the_screen_and_look_different() -> None:
    columns = make_pages(300, seed=0)
    seen: dict[bytes, str] = {}
    for image, page, structure in zip(columns["image"], columns["html"], columns["layout"], strict=True):
        assert image.size == (SCREEN, SCREEN)
        assert render(page).tobytes() == image.tobytes()
        elements = parse(page)
        assert to_html(elements) == page
        assert layout(elements) == structure
        assert height(elements) <= SCREEN
        assert seen.setdefault(image.tobytes(), page) == page  # otherwise nobody could to_html the HTML back
    assert 100 < len(set(columns["layout"])) < 300  # new combinations and known ones


def test_white_space_does_not_count() -> None:
    spaced = PAGE.replace("><", ">\n  <")
    assert render(spaced).tobytes() == render(PAGE).tobytes()
    assert parse("<p>\n a \n b </p>")[0].text == "a b"


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("", "empty"),
        ("words", "text is not allowed"),
        ("<p>one", "not closed"),
        ("<p>one</h1>", "is expected"),
        ("</p>", "is expected"),
        ("<p></p>", "is empty"),
        ("<div></div>", "is empty"),
        ("<div>one</div>", "text is not allowed"),
        ("<p><p>one</p></p>", "not allowed in <p>"),
        ("<li>one</li>", "not allowed in the page"),
        ("<ul><p>one</p></ul>", "not allowed in <ul>"),
        ("<script>one</script>", "not allowed"),
        ("<hr/>", "must be written <hr>"),
        ("<hr></hr>", "is expected"),
        ('<p style="color:mauve">one</p>', "not one of the colors"),
        ('<p style="background:red">one</p>', "may not have"),
        ('<p class="a">one</p>', "may not have"),
        ('<p style="color:red" style="color:red">one</p>', "may not have"),
        ("<input placeholder>", "may not have"),
        ("<!-- note --><hr>", "comments"),
        ("<!DOCTYPE html><hr>", "declarations"),
        ("<p>über</p>", "printable ASCII"),
        ("<p style='color:red'>one</p>", "strict form"),
        ("<P>one</P>", "strict form"),
        ("<p>a & b</p>", "strict form"),
        ("<hr><p", "not|strict"),
        ("<div>" * (MAX_DEPTH + 1), "nested deeper"),
        ("<hr>" * MAX_CHARACTERS, "maximum"),
    ],
)
def test_what_is_not_in_the_language_is_refused(page: str, problem: str) -> None:
    with pytest.raises(PageError, match=problem):
        render(page)


def test_a_problem_is_named_with_its_place() -> None:
    with pytest.raises(PageError, match="line 2, column 1: <table>"):
        parse("<hr>\n<table></table>")


@pytest.mark.parametrize(
    "change",
    [
        ("moon", "noon"),
        ("h1>", "p>"),
        ("pink", "plum"),
        ("color:red", "color:blue"),
        ("<hr>", "<hr><hr>"),
        ("<input>", '<input placeholder="a">'),
        ("<input>", "<button>a</button>"),
    ],
)
def test_each_change_of_the_page_changes_the_picture(change: tuple[str, str]) -> None:
    changed = PAGE.replace(*change)
    assert np.any(np.asarray(render(changed)) != np.asarray(render(PAGE)))


def test_colours_and_places_are_those_of_the_page() -> None:
    picture = np.asarray(render('<div style="background:pink"><hr></div>'))
    inside = np.all(picture == (255, 192, 203), axis=2)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 12, 4, 123)  # margin 4; padding 4, line 1, padding 4
    ink = np.asarray(render('<p style="color:red">a</p>'))
    assert {tuple(pixel) for pixel in ink.reshape(-1, 3).tolist()} == {(255, 255, 255), (255, 0, 0)}


def test_long_texts_break_between_words_and_high_pages_are_cut_off() -> None:
    one, two = (height(parse(f"<p>{text}</p>")) for text in ("a " * 10, "a " * 11))
    assert two - one == 11  # 20 letters fit
    many = parse("<h1>moon</h1>" * 50)
    assert draw(many).size == (SCREEN, SCREEN)
    assert height(many) > SCREEN


def test_the_document_for_a_browser_is_well_formed() -> None:
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    Reader().feed(document(PAGE))
    assert tags == ["html", "head", "title", "style", "body", "h1", "div", "p", "hr", "input"]
    with pytest.raises(PageError):
        document("<marquee>")
