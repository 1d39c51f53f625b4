"""Figures of a stretch of time, and the report on the health of the site."""

from __future__ import annotations
