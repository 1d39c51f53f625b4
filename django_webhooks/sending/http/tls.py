"""TLS: who we say we are to a receiver, and who we believe it is."""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import certifi

from ...conf import settings
from ...policies.reasons import Reason
from .channels import Failed, short

#: Endpoints with certificates of their own whose contexts are kept: making one takes milliseconds.
MAX_CONTEXTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Our identity in TLS, and whom we believe: PEM, empty for nobody and for the public."""

    client_certificate: str = field(default="", repr=False)
    ca_bundle: str = field(default="", repr=False)


PUBLIC = Trust()


class Contexts:
    """The contexts of this process, the one that was used last at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Trust, ssl.SSLContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, trust: Trust) -> ssl.SSLContext:
        """Return the context of a trust. Raise Failed where a certificate cannot be loaded."""
        with self._lock:
            found = self._kept.get(trust)
            if found is None:
                found = self._kept[trust] = _make(trust)
            self._kept.move_to_end(trust)
            if len(self._kept) > MAX_CONTEXTS:
                self._kept.pop(next(one for one in self._kept if one != PUBLIC))
            return found


def _make(trust: Trust) -> ssl.SSLContext:
    context = _believing(trust)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9525 section 2: a common name is no name of a server.
    context.hostname_checks_common_name = False
    if trust.client_certificate:
        # A server of TLS 1.3 may ask for it after the handshake, once it has seen the path.
        context.post_handshake_auth = True
        try:
            _show(trust.client_certificate, context)
        except (OSError, ValueError) as error:
            raise Failed(
                Reason.TLS, f"The client certificate cannot be loaded ({short(error)})."
            ) from None
    return context


def _believing(trust: Trust) -> ssl.SSLContext:
    if trust.ca_bundle:
        try:
            return ssl.create_default_context(cadata=trust.ca_bundle)
        except (OSError, ValueError) as error:
            raise Failed(
                Reason.TLS, f"The endpoint's authorities cannot be loaded ({short(error)})."
            ) from None
    try:
        return ssl.create_default_context(cafile=settings.WEBHOOKS_CA_BUNDLE or certifi.where())
    except (OSError, ValueError, TypeError) as error:
        # Our setting says nothing of any receiver.
        raise Failed(
            Reason.INTERNAL,
            f"WEBHOOKS_CA_BUNDLE cannot be loaded ({short(error)}); set it to a file of "
            "certificates as PEM.",
        ) from None


def _show(certificate: str, context: ssl.SSLContext) -> None:
    # OpenSSL reads keys from files alone; this one is for our eyes, and gone at once.
    with tempfile.NamedTemporaryFile() as held:
        held.write(certificate.encode())
        held.flush()
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(held.name, password="")  # nosec B106


def context(trust: Trust) -> ssl.SSLContext:
    """Return the context of this process for a trust."""
    return _contexts.of(trust)


def start_afresh() -> None:
    """Forget the contexts."""
    global _contexts
    _contexts = Contexts()


_contexts: Contexts
start_afresh()
