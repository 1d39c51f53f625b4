"""Tests: decisions in unit, rows and wire in integration, processes in acceptance."""
