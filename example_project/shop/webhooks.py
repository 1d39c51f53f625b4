"""Which changes of the shop are told to subscribers."""

from __future__ import annotations

from django_webhooks.hooks import ModelWebhooks, register

from .models import Order


@register(Order)
class OrderWebhooks(ModelWebhooks):
    """order.created, order.updated and order.deleted."""

    prefix = "order"
    fields = ["id", "number", "status", "total"]
