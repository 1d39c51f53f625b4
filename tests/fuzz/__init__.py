"""Fuzzing with atheris, which is no dependency of the tests: docs/contributing/architecture.md."""
