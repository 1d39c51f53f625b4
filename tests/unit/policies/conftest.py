"""Two measures of searching: little while one works at a policy, all of it in a full run."""

from __future__ import annotations

from hypothesis import settings

#: For the folder alone, which its pytest.ini asks for; a full run keeps hypothesis's own profile.
settings.register_profile("quick", max_examples=10, deadline=None)
