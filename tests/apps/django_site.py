"""A minimal Django project in one file."""
import appliance
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["test"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
)


def index(request):
    appliance.sleep(float(request.GET.get("s", 0)))
    return HttpResponse(f"hello {request.META['REMOTE_ADDR']} {request.build_absolute_uri()}")


def upload(request):
    return JsonResponse({"size": len(request.body), "method": request.method})


def stream(request):
    return StreamingHttpResponse((f"{number}\n" for number in range(3)), content_type="text/plain")


def broken(request):
    raise ValueError("a bug in a view")


urlpatterns = [path("", index), path("upload", upload), path("stream", stream), path("broken", broken)]
application = get_wsgi_application()
