"""Forms of a page, filled in as a browser sends them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import requests

from .harness import PATIENCE


class _Fields(HTMLParser):
    """Collects what a browser would send of the last form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._area = self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        name, value = known.get("name") or "", known.get("value") or ""
        if tag == "form":
            self.values = {}
        elif tag == "input" and name:
            kind = known.get("type", "text")
            if kind in ("checkbox", "radio"):
                if "checked" in known:
                    self.values[name] = value or "on"
            elif kind not in ("submit", "button", "file"):
                self.values[name] = value
        elif tag == "textarea":
            self._area = name
            self.values[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in known:
            self.values[self._select] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.values[self._area] += data


class Staff:
    """A member of staff with a session of the admin, without a browser."""

    def __init__(self, site: str, *, username: str, password: str) -> None:
        self.site, self.session = site, requests.Session()
        page = "admin/login/?next=/webhooks/"
        self.send(page, {"username": username, "password": password})

    def fields(self, page: str) -> dict[str, str]:
        """Return the fields of the last form of a page, as they are filled in."""
        answer = self.session.get(self.site + page, timeout=PATIENCE)
        answer.raise_for_status()
        found = _Fields()
        found.feed(answer.text)
        return found.values

    def send(self, page: str, values: dict[str, Any]) -> requests.Response:
        """Fill in the last form of a page and send it; return the answer, without following it."""
        filled = self.fields(page) | values
        return self.session.post(self.site + page, filled, timeout=PATIENCE, allow_redirects=False)
