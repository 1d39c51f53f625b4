"""The campaign of django-oscar: its own tests, with hooks on every model."""
