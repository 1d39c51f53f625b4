"""The soak: steady traffic under faults drawn from a seed, and an account of every event.

It uses the harness, the proxies and the receivers of ``tests/acceptance``, and its site.
"""
