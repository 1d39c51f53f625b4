"""Deliveries per second beside the alternatives: ``python -m benchmarks.peers``.

A module for each of them says how its documentation has it set up. The runner is ``__main__``; what
runs in the environment of one of them is ``work``, ``project``, ``settings`` and ``shop``.
"""

from __future__ import annotations
