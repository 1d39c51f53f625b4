"""A few views: orders by HTTP, and a receiver of webhooks."""

from __future__ import annotations

import json

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from django_webhooks.receiving import Message, webhook

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


def own_secret(request: HttpRequest) -> str:
    """Return the secret of the subscription that sends to this site."""
    if not settings.EXAMPLE_SIGNING_SECRET:
        raise Http404("Set EXAMPLE_SIGNING_SECRET to the subscription's secret.")
    return str(settings.EXAMPLE_SIGNING_SECRET)


@webhook(secrets=own_secret, require_https=False, name="example")
def receiver(request: HttpRequest, message: Message) -> None:
    """Keep a verified webhook; it comes here once, however often it is sent."""
    Received.objects.create(message_id=message.id, body=message.payload)
