"""A project of django-tenants: a schema for each tenant."""
