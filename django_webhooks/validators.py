"""Validators of URLs, headers, certificates, patterns of event types, secrets."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from . import process_state, signing
from .conf import settings
from .exceptions import InvalidSecret
from .policies import addresses, matching, urls

# RFC 9110 section 5.6.2: the characters of a field name.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
#: Requests a second at the least: moments of many of them must stay within the calendar.
SLOWEST_RATE = 1e-6
#: Seconds of a time at the most: ten years.
LONGEST_SECONDS = 315_360_000.0
#: What frames a request, is meant for a proxy, or has a place of its own.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type",
                   "user-agent", "authorization", "cookie", "accept-encoding", "expect",
                   "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
                   "traceparent", "upgrade"})  # fmt: skip


def url_rules() -> urls.Rules:
    """Return the rules of URLs and addresses as the settings have them."""
    ports = settings.WEBHOOKS_ALLOWED_PORTS
    return urls.Rules(
        require_https=bool(settings.WEBHOOKS_REQUIRE_HTTPS),
        ports=None if ports is None else frozenset(ports),
        opened=_opened(
            tuple(settings.WEBHOOKS_ALLOWED_NETWORKS), tuple(settings.WEBHOOKS_DENIED_NETWORKS)
        ),
    )


@process_state.memo
@functools.lru_cache(maxsize=16)
def _opened(allowed: tuple[str, ...], denied: tuple[str, ...]) -> addresses.Networks:
    return addresses.Networks(
        allowed=addresses.networks(allowed), denied=addresses.networks(denied)
    )


def validate_endpoint_url(url: str) -> None:
    """Raise ValidationError unless webhooks may be sent to the URL, as far as it tells itself."""
    found = urls.parse(url, url_rules())
    if isinstance(found, addresses.Refusal):
        raise ValidationError(found.message, code=found.rule)


def normalise_url(url: str) -> str:
    """Return the URL in its normal form, or as it is where it is refused."""
    found = urls.parse(url, url_rules())
    return url if isinstance(found, addresses.Refusal) else found.text


def validate_headers(headers: Any) -> None:
    """Raise ValidationError unless every extra header may be sent as it is."""
    if not isinstance(headers, Mapping):
        raise ValidationError(_("Enter headers as a JSON object of names and values."))
    for name, value in headers.items():
        if not isinstance(name, str) or not HEADER_NAME.match(name):
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
    if not isinstance(value, str) or not HEADER_VALUE.match(value):
        raise ValidationError(
            _("Use Latin-1 text without line breaks as the value of a header."), code="value"
        )


def validate_rate(value: float) -> None:
    """Raise ValidationError unless the number can be a rate: finite, at least SLOWEST_RATE."""
    if not 0 < value < math.inf:
        raise ValidationError(_("Enter a number above 0."), code="not_positive")
    if value < SLOWEST_RATE:
        raise ValidationError(
            _(
                "Enter a number of at least 0.000001, which is one in 11 days; to send nothing, "
                "pause the subscription."
            ),
            code="too_small",
        )


def validate_seconds(value: float) -> None:
    """Raise ValidationError unless the number is above 0 and at most LONGEST_SECONDS."""
    if not 0 < value < math.inf:
        raise ValidationError(_("Enter a number above 0."), code="not_positive")
    if value > LONGEST_SECONDS:
        raise ValidationError(
            _("Enter a number of seconds of at most ten years (315360000)."), code="too_large"
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


def validate_client_certificate(pem: str) -> None:
    """Raise ValidationError unless the PEM holds certificates and the private key of the first."""
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        # The error's own text might quote the key.
        raise ValidationError(
            _("Enter a certificate and its private key without a password, both as PEM."),
            code="certificate",
        ) from None
    if certificates[0].public_key() != key.public_key():
        raise ValidationError(
            _("The private key is not that of the first certificate."), code="certificate"
        )


def validate_ca_bundle(pem: str) -> None:
    """Raise ValidationError unless the PEM holds certificates alone."""
    try:
        x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise ValidationError(_("Enter certificates as PEM."), code="certificate") from None
    if "PRIVATE KEY" in pem:
        # This field is kept in the clear.
        raise ValidationError(_("Enter certificates without a private key."), code="certificate")
