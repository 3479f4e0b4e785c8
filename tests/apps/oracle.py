"""Reads the request's body in ways drawn by lot (`?SEED`), and does the same with an `io.BytesIO` of what came out: every
result must be the same one. Answers the body.
"""
import io
import random


def script(seed):
    """Names of methods with their arguments."""
    lot = random.Random(seed)
    sizes = [0, 1, 2, 7, 100, 4095, 4096, 4097, -1, None]
    # Whatever reads to the end is rare, so that there is something left for the others.
    weights = [6, 6, 6, 9, 9, 3, 3, 3, 0.1, 0.1]
    for _ in range(lot.randrange(60)):
        yield lot.choices(["read", "readline"], [2, 3])[0], lot.choices(sizes, weights)
        if lot.random() < 0.3:
            yield "readlines", [lot.choice([1, 5, 200, 3000])]
        if lot.random() < 0.3:
            yield "next", []
    yield lot.choice(["read", "readlines"]), []
    for name in ("read", "readline", "readlines", "next"):
        yield name, []
    yield "read", [10]
    yield "readline", [10]


def run(stream, steps):
    results = []
    for name, arguments in steps:
        results.append(next(stream, b"") if name == "next" else getattr(stream, name)(*arguments))
    return results


def flat(results):
    return b"".join(b"".join(result) if isinstance(result, list) else result for result in results)


def application(environ, start_response):
    steps = list(script(environ["QUERY_STRING"]))
    results = run(environ["wsgi.input"], steps)
    body = flat(results)
    for step, result, expected in zip(steps, results, run(io.BytesIO(body), steps)):
        assert result == expected, f"{step}: {result!r} instead of {expected!r}"
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]
