"""A plain Flask application. Nothing in it knows the server; it runs the same under any WSGI server."""
import time

from flask import Flask, abort, jsonify, request

app = Flask(__name__)
notes = []


@app.get("/")
def index():
    return "<h1>Hello from Flask</h1><p>POST JSON to <code>/notes</code>, or watch <code>/count</code>.</p>"


@app.post("/notes")
def add_note():
    """Keeps the note in this worker's memory: with two workers, two lists."""
    note = request.get_json()
    if not isinstance(note, dict) or not isinstance(note.get("text"), str):
        abort(400, 'send a JSON object such as {"text": "buy milk"}')
    notes.append(note["text"])
    return jsonify(number=len(notes)), 201


@app.get("/notes")
def list_notes():
    return jsonify(notes)


@app.get("/count")
def count():
    """A streamed answer: after each line the worker's other requests have their turn."""

    def lines():
        for number in range(1, 6):
            yield f"{number} at {time.time():.3f}\n"

    return app.response_class(lines(), mimetype="text/plain")
