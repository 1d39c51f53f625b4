"""What is printed of stored text: nothing that a terminal obeys, or that turns the line around."""

from __future__ import annotations


def plain(text: object) -> str:
    """Return the text with what is not printable written out: an escape as ``\\x1b``."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))
