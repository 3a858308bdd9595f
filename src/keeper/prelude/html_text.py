"""HTML as text, for readers who see no HTML. Loaded by the first cell that shows some."""

import re
from html.parser import HTMLParser

_SKIPPED = frozenset(("script", "style", "head", "title", "template"))
_LINES = frozenset(("address", "article", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "figure",
                    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main",
                    "ol", "p", "pre", "section", "table", "tr", "ul"))
_CELLS = frozenset(("td", "th"))


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts = []
        self.skipped = 0

    def handle_starttag(self, tag, attrs):
        if tag in _SKIPPED:
            self.skipped += 1
        elif tag in _LINES:
            self.parts.append("\n")
        elif tag in _CELLS:
            self.parts.append("\t")

    def handle_endtag(self, tag):
        if tag in _SKIPPED:
            self.skipped = max(self.skipped - 1, 0)
        elif tag in _LINES:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.skipped:
            self.parts.append(re.sub(r"\s+", " ", data))


def of(html):
    """Returns the text, a line for each block, cells apart by tabs."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (re.sub(r" *\t[ \t]*", "\t", line).strip() for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)
