"""URLs of the project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from .shop import views

urlpatterns = [
    path("", views.home),
    path("favicon.ico", views.icon),
    path("admin/", admin.site.urls),
    path("orders/", views.orders),
    path("orders/<int:pk>/", views.order),
    path("receiver/", views.receiver),
]
