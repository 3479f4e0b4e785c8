"""The admin, static files through Django's own views, and the views of the shop."""
from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve as serve_static
from django.urls import path
from django.views.static import serve

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("static/<path:path>", serve_static, {"insecure": True}),
    path("media/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
    path("upload", views.upload),
    path("names", views.names),
    path("slow", views.slow),
    path("broken", views.broken),
]
