"""Text from outside, made fit to be stored and shown: the one cleaner of the app.

Answers of receivers, requests of senders, certificates and error texts pass through it before they
reach a row, a log or a terminal. A database takes neither NUL (PostgreSQL) nor lone surrogates
(all of them); a terminal obeys control characters; marks of direction turn a line around
(CVE-2021-42574).
"""

from __future__ import annotations

import re

#: Stands for a character that is not kept: U+FFFD REPLACEMENT CHARACTER.
REPLACEMENT = "\ufffd"
#: C0 but tab and line feed, DEL, C1, the marks of direction (Unicode's property ``Bidi_Control``),
#: separators of lines and paragraphs, lone surrogates, noncharacters, and invisible tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)
_BREAK = re.compile(r"[\t\n]")


def clean(text: str, *, limit: int | None = None) -> str:
    """Return a text in which each unsafe character is U+FFFD, cut to ``limit`` characters.

    Tabs and ends of lines stay; CRLF becomes LF. The result can be stored by every database.
    """
    found = _UNSAFE.sub(REPLACEMENT, text.replace("\r\n", "\n"))
    return found if limit is None else found[:limit]


def clean_line(text: str, *, limit: int | None = None) -> str:
    """Return a text as :func:`clean` does, in one line: tabs and ends of lines are U+FFFD too."""
    found = _BREAK.sub(REPLACEMENT, _UNSAFE.sub(REPLACEMENT, text))
    return found if limit is None else found[:limit]


def written_out(text: object) -> str:
    r"""Return a text for a terminal or a log: what is not printable is written as ``\x1b``.

    Python calls more characters not printable than :func:`clean` replaces.
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))
