"""What every page promises: well formed, small, readable without its figures, and asking for nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from vltk.reporting.report import LARGEST

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Every element of a page with its attributes, its text, and what is wrong with how they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check(path: Path) -> Page:
    """Hold a page to what every page promises; return it."""
    text = path.read_text("utf-8")
    page = Page(text)
    assert (page.wrong, page.open) == ([], [])
    assert len(text.encode()) < LARGEST
    kinds = {tag for tag, _ in page.elements}
    assert not kinds & {"script", "link", "iframe", "base", "form"}
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), f"{tag} asks for {address}"
        assert not any(name.startswith("on") for name in attributes), tag
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or len(attributes.get("aria-label") or "") > 10
        if tag == "img":
            assert attributes.get("alt")
    assert "url(" not in text
    assert "http://" not in text
    assert "https://" not in text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    return page
