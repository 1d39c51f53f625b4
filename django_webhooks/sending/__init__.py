"""Sending, stage by stage: outbox → dispatch → attempt → ledger."""
