"""Auditing: what is wrong with settings, rows and logs, and what to do about it."""
