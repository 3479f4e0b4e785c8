"""Views that move large bodies, one that waits, and one that fails."""
from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from shop.models import Article


@csrf_exempt
def upload(request):
    """Saves a file under its name; `?to=disk` passes over the handler that keeps what arrives in memory."""
    if request.GET.get("to") == "disk":
        request.upload_handlers = [TemporaryFileUploadHandler(request)]
    file = request.FILES["file"]
    with (settings.FOLDER / file.name).open("wb") as saved:
        saved.writelines(file.chunks())
    return JsonResponse({"kept": type(file).__name__, "size": file.size, "title": request.POST["title"]})


def names(request):
    """A line for each article, straight from the database."""
    return StreamingHttpResponse((f"{name}\n" for name in Article.objects.values_list("name", flat=True).iterator()))


def slow(request):
    """Waits between two looks at the database."""
    import appliance  # only there where the server runs: `manage.py` imports this module too

    before = Article.objects.count()
    appliance.sleep(0.2)
    return JsonResponse({"same": Article.objects.count() == before})


def broken(request):
    raise ValueError("a bug in a view")
