"""Targets: the URL of a request as its sender wrote it, which some schemes sign.

Path and query are those of the request line, as servers hand them on; scheme and host are those
that Django sees (``SECURE_PROXY_SSL_HEADER``, ``USE_X_FORWARDED_HOST``), or those of
``WEBHOOKS_SITE_URL`` where proxies change more than that.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from ..conf import settings
from ..exceptions import Rejected
from ..policies.reasons import RejectionReason

#: Where WSGI servers keep the request line's target: gunicorn; uWSGI, mod_wsgi and Werkzeug.
RAW_TARGETS = ("RAW_URI", "REQUEST_URI")


def check_base(base: str) -> None:
    """Raise ValueError unless a base is scheme and host, and maybe a path, of a URL."""
    try:
        parts = urlsplit(base)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "?" in base or "#" in base or not base.isprintable() or " " in base:
        raise ValueError(f"A base URL is like https://hooks.example.com, not {base!r}.")


def url(request: HttpRequest, *, base: str | None = None) -> str:
    """Return the full URL of a request; raise Rejected where its host is none of this site.

    ``base`` takes the place of scheme and host, and stands before the path; None takes the setting.
    """
    base = settings.WEBHOOKS_SITE_URL if base is None else base
    if not base:
        try:
            base = f"{request.scheme}://{request.get_host()}"
        except SuspiciousOperation:
            raise Rejected(
                RejectionReason.HOST, 400, "The Host header names none of ALLOWED_HOSTS."
            ) from None
    return base.rstrip("/") + _target(request)


def urls(request: HttpRequest, *, base: str | None = None) -> list[str]:
    """Return the URLs that a sender may have written: servers of ASGI do not tell of a bare ``?``.

    https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
    """
    found = url(request, base=base)
    is_open = isinstance(request, ASGIRequest) and "?" not in found
    return [found, f"{found}?"] if is_open else [found]


def _target(request: HttpRequest) -> str:
    if isinstance(request, ASGIRequest):
        raw: bytes = request.scope.get("raw_path") or b""
        query = request.META.get("QUERY_STRING", "")
        if raw:
            return raw.decode("latin-1") + (f"?{query}" if query else "")
        return request.get_full_path()
    for name in RAW_TARGETS:
        target = str(request.META.get(name, ""))
        if target.startswith("/"):
            return target
        if target.startswith(("http://", "https://")):
            # The absolute form (RFC 9112 section 3.2.2).
            _, _, rest = target.partition("://")
            _, slash, path = rest.partition("/")
            return slash + path
    return request.get_full_path()
