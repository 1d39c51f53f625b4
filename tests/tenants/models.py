"""Who has a schema."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    """A customer."""

    name = models.CharField(max_length=50)
    auto_create_schema = True


class Domain(DomainMixin):
    """Where a customer's site is."""
