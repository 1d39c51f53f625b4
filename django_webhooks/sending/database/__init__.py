"""The database, asked cheaply: its alias, its clock, its statements, its conflicts."""

from __future__ import annotations

from ...models.event import alias
from .clock import DatabaseClock, carried_on

__all__ = ["DatabaseClock", "alias", "carried_on"]
