"""A generator: after each `yield` the worker's other requests have their turn, then it goes on by itself."""


def application(e, sr):
    sr("200 OK", [("Content-Type", "text/html")])
    yield b"one"
    yield b"two"
    yield b"three"
