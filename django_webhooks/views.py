"""Views: the public keys by which receivers verify Ed25519 signatures."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import signing
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
        for key in (found.keys_at(timezone.now()) if found else ())
        if key.public_key
    ]
    if not keys:
        raise Http404("There are no public keys of this subscription.")
    answer = JsonResponse({"keys": keys}, content_type="application/jwk-set+json")
    answer["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return answer
