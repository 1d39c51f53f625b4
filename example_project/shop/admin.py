"""The shop in the admin."""

from __future__ import annotations

from django.contrib import admin

from .models import Order, Received


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Save an order here and watch its webhooks."""

    list_display = ["number", "status", "total", "created_at"]


@admin.register(Received)
class ReceivedAdmin(admin.ModelAdmin):
    """What this site's own receiver got."""

    list_display = ["message_id", "received_at"]
