"""Schemes whose signature covers the URL: as the sender wrote it, behind whatever proxies.

Where they change scheme, host or path, ``WEBHOOKS_SITE_URL`` says what senders use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from .. import signing
from ..exceptions import InvalidPayload, VerificationFailed
from . import parsing, signature_helpers
from .parsing import FORM, JSON
from .scheme_base import Offered, SchemeBase

#: What HubSpot signs decoded; the question mark before the query is none of it.
_DECODED = {f"%{ord(one):02X}": one for one in ":/?@!$'()*,;"}
_ENCODED = re.compile("|".join(_DECODED), re.IGNORECASE)
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Twilio(SchemeBase):
    """``X-Twilio-Signature``: HMAC-SHA1, in base64, of the URL and the sorted fields of the form.

    A body of JSON is proven by its SHA-256 in the parameter ``bodySHA256`` of the URL. Twilio signs
    no time. The id is a digest of URL and body.
    Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """

    name: str = "twilio"
    content_types: Sequence[str] = (FORM, JSON)
    signs_url: bool = True

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over URL and form."""
        signature = signature_helpers.from_base64(offered.header("X-Twilio-Signature"))
        fields = self._fields(offered.headers, offered.body, offered.url)
        urls = (one.encode("utf-8", "surrogatepass") for one in _with_and_without(offered.url))
        offered.check_hmac(signature, *(one + fields for one in urls), algorithm="sha1")
        return _id_of(offered), None

    def _fields(self, headers: Mapping[str, str], body: bytes, url: str) -> bytes:
        if parsing.media_type(headers.get("content-type", "")) == FORM:
            try:
                form = parsing.form(body)
            except InvalidPayload as error:
                raise VerificationFailed(str(error)) from None
            pairs = ((name, one) for name in sorted(form) for one in sorted({*form.getlist(name)}))
            return "".join(name + one for name, one in pairs).encode()
        if not body:
            return b""
        said = parse_qs(urlsplit(url).query).get("bodySHA256", [])
        signature_helpers.check_any(
            [one.encode() for one in said], [signature_helpers.digest(body).encode()]
        )
        return b""


def _with_and_without(url: str) -> list[str]:
    """Return a URL with its port and without it: Twilio signs either."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    except (ValueError, KeyError):
        raise VerificationFailed("The URL of the request is malformed.") from None
    bare = parts._replace(netloc=host).geturl()
    return list(dict.fromkeys([url, bare, parts._replace(netloc=f"{host}:{port}").geturl()]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Square(SchemeBase):
    """``X-Square-HmacSha256-Signature``: HMAC-SHA256, in base64, of the URL and the body.

    The URL is that of the subscription. The id is the ``event_id`` in the body; no time is signed.
    Source: https://developer.squareup.com/docs/webhooks/step3validate
    """

    name: str = "square"
    signs_url: bool = True

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over URL and body."""
        signature = signature_helpers.from_base64(offered.header("X-Square-HmacSha256-Signature"))
        url = offered.url.encode("utf-8", "surrogatepass")
        offered.check_hmac(signature, url + offered.body)
        return signature_helpers.named(offered.body, "event_id"), None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSpot(SchemeBase):
    """``X-HubSpot-Signature-v3``: HMAC-SHA256, in base64, of method, URL, body and timestamp.

    The timestamp is in milliseconds. The id is a digest of URL and body, since a body holds several
    events.
    Source:
    https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
    """

    name: str = "hubspot"
    signs_url: bool = True

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over method, URL, body and timestamp."""
        written = offered.header("X-HubSpot-Request-Timestamp")
        seconds, thousandths = written[:-3], written[-3:]
        if not (thousandths.isascii() and thousandths.isdigit()):
            raise VerificationFailed("The timestamp is not a number of milliseconds.")
        timestamp = signing.parse_timestamp(seconds)
        signature = signature_helpers.from_base64(offered.header("X-HubSpot-Signature-v3"))
        decoded = _ENCODED.sub(lambda found: _DECODED[found[0].upper()], offered.url)
        target = f"{offered.method}{decoded}".encode("utf-8", "surrogatepass")
        offered.check_hmac(signature, target + offered.body + written.encode())
        offered.check_time(timestamp)
        return _id_of(offered), timestamp


def _id_of(offered: Offered) -> str:
    """Return a digest of URL and body."""
    return signature_helpers.digest(
        offered.url.encode("utf-8", "surrogatepass") + b"\n" + offered.body
    )
