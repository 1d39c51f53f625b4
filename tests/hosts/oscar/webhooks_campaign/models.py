"""No models; the module makes Django send the app the signal after migrations."""

from __future__ import annotations
