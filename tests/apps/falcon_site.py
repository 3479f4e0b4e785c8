"""A Falcon application: JSON, an upload read as a stream, a file that is served, a stream of pieces, an error."""
import os
import shutil

import falcon

FOLDER = os.environ["FILES"]


class Json:
    def on_post(self, request, response):
        response.status = falcon.HTTP_201
        response.media = {"received": request.get_media()}


class Upload:
    def on_put(self, request, response):
        with open(os.path.join(FOLDER, request.get_param("name")), "wb") as saved:
            shutil.copyfileobj(request.stream, saved)

    def on_post(self, request, response):
        for part in request.get_media():
            if part.name == "title":
                response.media = {"title": part.text}
            else:
                with open(os.path.join(FOLDER, part.secure_filename), "wb") as saved:
                    shutil.copyfileobj(part.stream, saved)


class Stream:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.stream = (f"{number} {request.path}\n".encode() for number in range(3))


class Broken:
    def on_get(self, request, response):
        raise ValueError("a bug in a view")


application = falcon.App()
application.add_route("/json", Json())
application.add_route("/upload", Upload())
application.add_route("/stream", Stream())
application.add_route("/broken", Broken())
application.add_static_route("/files", FOLDER)
