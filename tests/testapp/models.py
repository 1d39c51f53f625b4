"""Models that tests register for webhooks."""

from __future__ import annotations

import uuid

from django.db import models

from django_webhooks.hooks import WebhookQuerySetMixin


class Shop(models.Model):
    """An owner."""

    name = models.CharField(max_length=50)


class ShopProxy(Shop):
    """The same owner by another name."""

    class Meta:
        proxy = True


class Tag(models.Model):
    """What orders are marked with."""

    name = models.CharField(max_length=50)


class OrderQuerySet(WebhookQuerySetMixin["Order"], models.QuerySet["Order"]):
    """Tells what it does in bulk."""


class Order(models.Model):
    """What somebody bought."""

    shop = models.ForeignKey(Shop, null=True, on_delete=models.CASCADE)
    number = models.CharField(max_length=20)
    status = models.CharField(
        max_length=10, default="new", choices=[("new", "New"), ("paid", "Paid")]
    )
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    notes = models.JSONField(default=dict)
    stock = models.IntegerField(default=10)
    tags = models.ManyToManyField(Tag, related_name="orders")

    objects = OrderQuerySet.as_manager()

    @property
    def label(self) -> str:
        """An attribute that is no field."""
        return f"#{self.number}"


class OrderProxy(Order):
    """The same order by another name."""

    class Meta:
        proxy = True


class SpecialOrder(Order):
    """An order with a table of its own for the rest."""

    wish = models.CharField(max_length=50, default="")


class Country(models.Model):
    """Has a key given by hand, and one that parcels refer to."""

    code = models.CharField(max_length=2, primary_key=True)
    number = models.IntegerField(unique=True)


class Parcel(models.Model):
    """Has fields of many kinds, and some that the database computes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    weight = models.IntegerField(default=1)
    double_weight = models.GeneratedField(
        expression=models.F("weight") * 2, output_field=models.IntegerField(), db_persist=True
    )
    country = models.ForeignKey(Country, null=True, on_delete=models.CASCADE, to_field="number")
    sent_at = models.DateTimeField(null=True)
    label = models.FileField(blank=True)
    size = models.CharField(max_length=1, blank=True, choices=[("", "-"), ("s", "S"), ("l", "L")])
    grade = models.IntegerField(null=True, choices=[(1, "First"), (2, "Second")])
    is_fragile = models.BooleanField(default=False)
    changed = models.DateField(null=True)


class Person(models.Model):
    """Is related to others of its kind."""

    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")
    heroes = models.ManyToManyField("self", symmetrical=False, related_name="fans")


class Club(models.Model):
    """Has members by a table of its own."""

    members = models.ManyToManyField(Person, through="Membership", related_name="clubs")


class Membership(models.Model):
    """Who belongs to what."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    club = models.ForeignKey(Club, on_delete=models.CASCADE)


class Lease(models.Model):
    """Has a key of two columns."""

    pk = models.CompositePrimaryKey("shop_id", "flat")
    shop = models.ForeignKey(Shop, on_delete=models.CASCADE)
    flat = models.CharField(max_length=10)


class Named(models.Model):
    """Has no table."""

    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
