"""The demo: real processes, a receiver that fails for a while, and an account of every event."""
