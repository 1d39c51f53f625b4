"""Rows of figures: roll-ups of deliveries and attempts, and heartbeats of tasks."""

from __future__ import annotations
