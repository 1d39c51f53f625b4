"""The inbox: what was received, processed once, at once or by a worker."""
