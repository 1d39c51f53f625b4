"""What the models of the benchmarks tell."""

from __future__ import annotations

from benchmarks.models import Order, Parcel
from django_webhooks.hooks import ModelWebhooks, register


@register(Order, Parcel)
class RowWebhooks(ModelWebhooks):
    """Tell the whole row."""

    fields = ["id", "number", "text"]
