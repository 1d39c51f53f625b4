"""django-webhook2: a fork of django-webhook that is set up the same way."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import django_webhook

SETUP = replace(django_webhook.SETUP, distribution="django-webhook2")
