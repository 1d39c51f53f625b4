"""Auditing, an optional app: who changed what, and what is wrong with settings, rows and logs."""
