"""A whole Django project in one file: settings, a form with CSRF protection, URLs, the WSGI application.

Nothing in it knows the server. `python project.py check` and the other management commands work as in any project.
"""
import os
import sys

from django import forms
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.html import format_html

settings.configure(
    # A real project takes its key from the environment only; this one must start without any preparation.
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)

PAGE = """<!doctype html><title>Hello from Django</title><h1>Hello, {}</h1>
<form method="post"><input type="hidden" name="csrfmiddlewaretoken" value="{}">
<label>Your name <input name="name" maxlength="40" required></label> <button>Greet me</button></form>{}"""


class Greeting(forms.Form):
    name = forms.CharField(max_length=40)


def greet(request):
    form = Greeting(request.POST or None)
    name = form.cleaned_data["name"] if form.is_valid() else "world"
    errors = form["name"].errors if form.is_bound else ""
    return HttpResponse(format_html(PAGE, name, get_token(request), errors))


def lines(request):
    """A streamed answer: after each line the worker's other requests have their turn."""
    return StreamingHttpResponse((f"line {number}\n" for number in range(1, 6)), content_type="text/plain")


urlpatterns = [path("", greet), path("lines", lines)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
