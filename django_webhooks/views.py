"""Views: the public keys by which receivers verify Ed25519 signatures, and the metrics."""

from __future__ import annotations

import secrets
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from . import metrics as collected
from . import signing, times
from .conf import settings
from .models import Subscription

#: Seconds for which receivers may remember the keys.
MAX_AGE = 300


@require_safe
def public_keys(request: HttpRequest, subscription: UUID) -> JsonResponse:
    """Answer with the public keys of a subscription as a JSON Web Key Set (RFC 7517 section 5).

    Each key has its ``whpk`` form beside the standard members. 404 where there is no such
    subscription, or none of its keys is public.
    """
    found = Subscription.objects.filter(pk=subscription).prefetch_related("signing_keys").first()
    keys = [
        {**signing.jwk(key.secret), "whpk": key.public_key}
        for key in (found.keys_at(times.now()) if found else ())
        if key.public_key
    ]
    if not keys:
        raise Http404("There are no public keys of this subscription.")
    answer = JsonResponse({"keys": keys}, content_type="application/jwk-set+json")
    answer["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return answer


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape by Prometheus.

    404 unless WEBHOOKS_METRICS is on, 401 to whoever is neither staff that may see deliveries nor
    has the token.
    """
    if not collected.is_on():
        raise Http404("WEBHOOKS_METRICS is off.")
    if not (_has_token(request) or _is_staff(request)):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    from .metrics import exposition

    body, content_type = exposition.answer(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def _has_token(request: HttpRequest) -> bool:
    wanted = settings.WEBHOOKS_METRICS_TOKEN
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if not wanted or scheme.lower() != "bearer":
        return False
    return secrets.compare_digest(token.strip().encode(), wanted.encode())


def _is_staff(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    if user is None or not (user.is_active and user.is_staff):
        return False
    # The figures are those of all owners together.
    sees_all = settings.WEBHOOKS_ADMIN_SCOPE is None or user.is_superuser
    return bool(sees_all and user.has_perm("django_webhooks.view_delivery"))
