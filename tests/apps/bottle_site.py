"""A Bottle application: JSON, a file that is uploaded, a file that is served, a stream, an error."""
import os

from bottle import Bottle, request, response, static_file

application = Bottle()
FOLDER = os.environ["FILES"]


@application.post("/json")
def json():
    response.status = 201
    return {"received": request.json}


@application.post("/upload")
def upload():
    request.files["file"].save(FOLDER)
    return {"title": request.forms["title"]}


@application.get("/files/<name>")
def files(name):
    return static_file(name, root=FOLDER)


@application.get("/stream")
def stream():
    for number in range(3):
        yield f"{number} {request.path}\n"


@application.get("/broken")
def broken():
    raise ValueError("a bug in a view")
