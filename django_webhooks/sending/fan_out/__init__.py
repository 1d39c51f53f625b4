"""The deliveries of an event: one for each subscription that hears it."""

from __future__ import annotations
