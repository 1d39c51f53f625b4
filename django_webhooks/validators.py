"""What people may enter: endpoint URLs, extra headers, patterns of event types, secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from . import signing
from .conf import settings
from .exceptions import InvalidSecret
from .policies import matching

MAX_URL_LENGTH = 2048

# RFC 9110 section 5.6.2: the characters of a field name.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type",
                   "user-agent", "authorization", "cookie"})  # fmt: skip
_FORBIDDEN_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")


def validate_endpoint_url(url: str) -> None:
    """Raise ValidationError unless webhooks may be sent to the URL."""
    if len(url) > MAX_URL_LENGTH:
        raise ValidationError(_("Use a URL of at most 2,048 characters."), code="too_long")
    if _FORBIDDEN_IN_URL.search(url):
        raise ValidationError(
            _("Remove spaces, control characters and backslashes from the URL."), code="characters"
        )
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValidationError(_("Enter a valid URL."), code="invalid") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid:
        raise ValidationError(
            _("Enter a full URL, such as https://example.com/webhooks."), code="invalid"
        )
    if parts.scheme == "http" and settings.WEBHOOKS_REQUIRE_HTTPS:
        raise ValidationError(
            _("Use an https URL, or set WEBHOOKS_REQUIRE_HTTPS to False."), code="https"
        )
    if "@" in parts.netloc:
        raise ValidationError(
            _("Put credentials into the authorization field, not into the URL."), code="userinfo"
        )
    if "#" in url:
        raise ValidationError(_("Remove the part after # from the URL."), code="fragment")


def validate_headers(headers: Any) -> None:
    """Raise ValidationError unless every extra header may be sent as it is."""
    if not isinstance(headers, Mapping):
        raise ValidationError(_("Enter headers as a JSON object of names and values."))
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise ValidationError(
                _("%(name)r is not the name of a header."), params={"name": name}, code="name"
            )
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise ValidationError(
                _("The header %(name)s is set by the sender; remove it."),
                params={"name": name},
                code="reserved",
            )
        validate_header_value(value)


def validate_header_value(value: Any) -> None:
    """Raise ValidationError unless the text can be the value of a header."""
    if not isinstance(value, str) or not _HEADER_VALUE.match(value):
        raise ValidationError(
            _("Use Latin-1 text without line breaks as the value of a header."), code="value"
        )


def validate_pattern(pattern: str) -> None:
    """Raise ValidationError unless the text is an event type, ``prefix.*`` or ``*``."""
    if not matching.is_pattern(pattern):
        raise ValidationError(
            _("%(pattern)r matches no event type: use a name, 'order.*' or '*'."),
            params={"pattern": pattern},
            code="pattern",
        )


def validate_secret(secret: str) -> None:
    """Raise ValidationError unless requests can be signed with the secret."""
    try:
        signing.check_secret(secret)
    except InvalidSecret as error:
        raise ValidationError(str(error), code="secret") from error
