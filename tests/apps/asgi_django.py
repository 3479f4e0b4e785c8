"""Django by its ASGI handler, all in one file: asynchronous and blocking views, a stream."""
import asyncio

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", DATA_UPLOAD_MAX_MEMORY_SIZE=None)


async def index(request):
    await asyncio.sleep(0.01)
    return HttpResponse("hello from Django")


def blocking(request):
    return HttpResponse("from a thread")


async def size(request):
    return JsonResponse({"bytes": len(request.body)})


async def stream(request):
    async def lines():
        for i in range(5):
            yield f"line {i}\n"
            await asyncio.sleep(0.01)
    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [path("", index), path("blocking", blocking), path("size", size), path("stream", stream)]
application = get_asgi_application()
assert django.VERSION
