"""What the project of the comparison sells."""

from __future__ import annotations
