"""A few views: orders by HTTP, and a receiver of webhooks."""

from __future__ import annotations

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from django_webhooks import signing

from .models import Order, Received


def home(request: HttpRequest) -> HttpResponse:
    """Go to where there is something to see."""
    return redirect("/admin/")


def icon(request: HttpRequest) -> HttpResponse:
    """There is none; browsers ask for it with every page."""
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def orders(request: HttpRequest) -> HttpResponse:
    """Create an order."""
    order = Order.objects.create(**json.loads(request.body))
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
@require_http_methods(["PATCH", "DELETE"])
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """Change or delete an order."""
    order = get_object_or_404(Order, pk=pk)
    if request.method == "DELETE":
        order.delete()
        return HttpResponse(status=204)
    for name, value in json.loads(request.body).items():
        setattr(order, name, value)
    order.save()
    return JsonResponse({"id": order.pk})


@csrf_exempt
@require_POST
def receiver(request: HttpRequest) -> HttpResponse:
    """Take a webhook: verify it, then keep it once, however often it is sent."""
    if not settings.EXAMPLE_SIGNING_SECRET:
        return HttpResponseNotFound("Set EXAMPLE_SIGNING_SECRET to the subscription's secret.")
    secrets = [settings.EXAMPLE_SIGNING_SECRET]
    signing.verify(secrets=secrets, headers=request.headers, body=request.body)
    Received.objects.get_or_create(
        message_id=request.headers["webhook-id"], defaults={"body": json.loads(request.body)}
    )
    return HttpResponse(status=204)
