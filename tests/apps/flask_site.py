"""A Flask application with the things that Flask applications do. The blueprint serves the files of the folder `FILES`."""
import asyncio
import os
import shutil

import appliance
from appliance import websocket
from flask import Blueprint, Flask, abort, jsonify, request, send_from_directory, session, stream_with_context

app = Flask(__name__)
app.secret_key = "only for this test"
files = Blueprint("files", __name__, url_prefix="/files")


@files.get("/<name>")
def file(name):
    return send_from_directory(os.environ["FILES"], name)


app.register_blueprint(files)


@app.get("/")
def index():
    appliance.sleep(float(request.args.get("s", 0)))
    return f"hello {request.remote_addr} {request.host_url}"


@app.route("/echo", websocket=True)
def echo():
    with websocket.accept() as ws:
        for message in ws:
            ws.send(message)
    return ""


@app.post("/json")
def json():
    return jsonify(received=request.get_json()), 201


@app.post("/form")
def form():
    file = request.files["file"]
    return jsonify(name=request.form["name"], file=file.filename, size=len(file.read()))


@app.put("/upload")
def upload():
    with open(os.path.join(os.environ["FILES"], request.args["name"]), "wb") as saved:
        shutil.copyfileobj(request.stream, saved)
    return "", 204


@app.get("/stream")
def stream():
    @stream_with_context
    def lines():
        for number in range(3):
            appliance.sleep(0.01)
            yield f"{number} {request.path}\n"

    return app.response_class(lines(), mimetype="text/plain")


@app.get("/wait")
def wait():
    async def work(number):
        await asyncio.sleep(0.05)
        return number

    async def all_of_it():
        return await asyncio.gather(work(1), work(2))

    return jsonify(appliance.wait(all_of_it()))


@app.get("/session")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.get("/missing")
def missing():
    abort(404, "not here")


@app.get("/broken")
def broken():
    raise ValueError("a bug in a view")
