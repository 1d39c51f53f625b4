"""The inbox, an optional app: what was received, processed once, at once or by a worker."""
