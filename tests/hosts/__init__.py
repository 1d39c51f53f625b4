"""Projects of others: packages that real projects have, and a whole one with its own tests."""
