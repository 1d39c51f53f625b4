"""What the shop sells, and what its receiver got."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What somebody bought."""

    class Status(models.TextChoices):
        """How far an order is."""

        NEW = "new", "New"
        PAID = "paid", "Paid"
        SHIPPED = "shipped", "Shipped"

    number = models.CharField(max_length=20, unique=True)
    email = models.EmailField(blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.NEW)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.number


class Received(models.Model):
    """A webhook that this site's own receiver verified."""

    message_id = models.CharField(max_length=64, unique=True)
    body = models.JSONField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name = "received webhook"

    def __str__(self) -> str:
        return self.message_id
