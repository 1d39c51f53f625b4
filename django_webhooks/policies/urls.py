"""Which URLs webhooks may be sent to, read strictly.

A URL that two parsers read differently is refused: one might check what the other does not call.
The rules about addresses apply to literal ones here, and to names when they are connected to.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field

from .. import process_state
from ..hiding import hiding
from .addresses import Networks, Refusal, judge, networks
from .cleaning import clean_line

MAX_LENGTH = 2048
#: Characters of a host that are shown and kept: a name has 253, and a port follows it.
MAX_SHOWN = 300
DEFAULT_PORTS = {"http": 80, "https": 443}

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_WHOLE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#?).*", re.S)
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]*))?")
_NAMED = re.compile(r"([^:]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
#: A last label that some parsers take for a number.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: Letters that the two versions of IDNA read differently.
_DEVIATIONS = frozenset("ßς\u200c\u200d")
#: Letters and marks that UTS 46 drops: Unicode's property ``Default_Ignorable_Code_Point``.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: RFC 6761, RFC 6762, RFC 8375, and names that only private networks give.
_SPECIAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of the project."""

    require_https: bool = True
    ports: frozenset[int] | None = None
    opened: Networks = field(default_factory=Networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A URL in its normal form, and what it names."""

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int


@hiding
def parse(text: str, rules: Rules) -> Url | Refusal:
    """Return the URL in its normal form, or why webhooks are not sent there."""
    # Before the cache, which keeps what it is asked.
    if len(text) > MAX_LENGTH:
        return _no("length", "Use a URL of at most 2,048 characters.")
    return _parse(text, rules)


@process_state.memo
@functools.lru_cache(maxsize=4096)
def _parse(text: str, rules: Rules) -> Url | Refusal:
    if _FORBIDDEN.search(text):
        return _no("characters", "Remove spaces, control characters and backslashes from the URL.")
    found = _WHOLE.fullmatch(text)
    if found is None or found[1].lower() not in DEFAULT_PORTS or not found[2]:
        return _no("form", "Enter a full URL, such as https://example.com/webhooks.")
    scheme, authority, target = found[1].lower(), found[2], found[3]
    if found[4]:
        return _no("fragment", "Remove the part after # from the URL.")
    if "@" in authority:
        return _no("userinfo", "Put credentials into the authorization field, not into the URL.")
    if scheme == "http" and rules.require_https:
        return _no("https", "Use an https URL, or set WEBHOOKS_REQUIRE_HTTPS to False.")
    place = _place(authority, default=DEFAULT_PORTS[scheme])
    if isinstance(place, Refusal):
        return place
    host, port = place
    if rules.ports is not None and port not in rules.ports:
        return _no("port", f"Port {port} is not in WEBHOOKS_ALLOWED_PORTS; use one that is.")
    refusal = _judge(host, rules)
    if refusal is not None:
        return refusal
    written = f"[{host}]" if ":" in host else host
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    target = target if target.startswith("/") else f"/{target}"
    return Url(text=f"{scheme}://{written}{suffix}{target}", scheme=scheme, host=host, port=port)


def _place(authority: str, *, default: int) -> tuple[str, int] | Refusal:
    if "%" in authority:
        return _no("percent", "Write the host of the URL without % signs.")
    found = _IPV6.fullmatch(authority) if "[" in authority else _NAMED.fullmatch(authority)
    if found is None:
        return _no("host", "Write host and port of the URL as example.com:8443 or [2001:…]:8443.")
    digits = found[2] or str(default)
    if len(digits) > 5 or not 0 < int(digits) < 65_536:
        return _no("port", "Use a port from 1 to 65535.")
    if "[" in authority:
        try:
            return str(ipaddress.IPv6Address(found[1])), int(digits)
        except ValueError:
            return _no("host", "The address in brackets is no IPv6 address; correct it.")
    host = _name(found[1])
    return host if isinstance(host, Refusal) else (host, int(digits))


def _name(text: str) -> str | Refusal:
    host = text.lower()
    if not host.isascii() or "xn--" in host:
        encoded = _encoded(host)
        if encoded is None:
            return _no(
                "idna", "Write the name of the host in its xn-- form; this one is ambiguous."
            )
        host = encoded
    if _NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        if not _QUAD.fullmatch(host) or any(int(part) > 255 for part in host.split(".")):
            return _no("address", "Write the IPv4 address as four decimal numbers: 192.0.2.7.")
        return host
    if host.endswith("."):
        return _no("name", "Remove the dot at the end of the host.")
    if len(host) > 253 or not all(
        len(label) <= 63 and _LABEL.fullmatch(label) for label in host.split(".")
    ):
        return _no("name", "The host is no valid name: check its dots, hyphens and length.")
    return host


def _encoded(host: str) -> str | None:
    """Return a host in ASCII; None where browsers (UTS 46) might read another one, or none."""
    labels = host.split(".")
    if _DEVIATIONS.intersection(host) or not all(
        _is_folded(one) and _is_alabel(one) for one in labels
    ):
        return None
    try:
        encoded = host.encode("idna")
        # Characters that nameprep (RFC 3491) drops or maps are read differently by somebody.
        if not host.isascii() and encoded.decode("idna") != host:
            return None
        return encoded.decode("ascii")
    except UnicodeError:
        return None


def _is_folded(label: str) -> bool:
    """Say whether UTS 46 maps a label to itself: it folds case, where IDNA 2003 makes it lower.

    Most letters come to the same; Cherokee's go the other way.
    """
    kinds = [unicodedata.category(one)[0] for one in label if not one.isascii()]
    begins_well = not label or not unicodedata.category(label[0]).startswith("M")
    is_plain = begins_well and set(kinds) <= {"L", "M"} and not _IGNORED.search(label)
    return is_plain and label.casefold() == label == unicodedata.normalize("NFKC", label)


def _is_alabel(label: str) -> bool:
    """Say whether what calls itself a label in its xn-- form is one (RFC 5890 section 2.3.2.1)."""
    if not label.startswith("xn--"):
        return True
    try:
        text = label[4:].encode("ascii").decode("punycode")
        again = text.encode("punycode").decode("ascii")
    except UnicodeError:
        return False
    folded = "".join(one for one in text if one not in _DEVIATIONS)
    return again == label[4:] and not text.isascii() and _is_folded(folded)


def _judge(host: str, rules: Rules) -> Refusal | None:
    try:
        return judge(host, rules.opened)
    except ValueError:
        pass  # A name; its addresses are judged when it is connected to.
    is_special = "." not in host or any(
        host == name or host.endswith(f".{name}") for name in _SPECIAL_NAMES
    )
    # A project that opened a private network names its hosts as that network does.
    if is_special and not rules.opened.allowed:
        return _no(
            "name",
            f"{host} is a name of private networks; use a public one, or open its network in "
            "WEBHOOKS_ALLOWED_NETWORKS.",
        )
    return None


@hiding
def host_of(text: str | None) -> str:
    """Return host and port of a URL as they are shown, whatever the text is; never raises.

    A URL that :func:`parse` takes under any rules is shown as that reads it; of another text as
    much is shown as may be its host, cleaned, without credentials, path and query.
    """
    found = parse(str(text), _SHOWN)
    if isinstance(found, Url):
        return found.text.partition("://")[2].partition("/")[0]
    _, sign, rest = str(text).partition("://")
    place = re.split(r"[/?#\\]", rest if sign else "", maxsplit=1)[0].rpartition("@")[2]
    return clean_line(place, limit=MAX_SHOWN)


#: Rules that refuse no host that can be read.
_SHOWN = Rules(
    require_https=False,
    opened=Networks(allowed=networks(["0.0.0.0/0", "::/0"])),
)


def _no(rule: str, message: str) -> Refusal:
    return Refusal(rule=rule, message=message)
