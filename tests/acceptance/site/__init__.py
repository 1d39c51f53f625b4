"""The site that acceptance tests run as processes of their own: web, worker and beat."""
