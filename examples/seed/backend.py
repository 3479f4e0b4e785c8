"""The service that `fetch` and `sleeper` ask: `python backend.py` answers on http://localhost:9191/services.

`?delay=2` answers after two seconds. Needs nothing but Python.
"""
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY = b"hello from services\n"


class Services(BaseHTTPRequestHandler):
    def do_GET(self):
        delay = parse_qs(urlsplit(self.path).query).get("delay", ["0"])
        time.sleep(float(delay[0]))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


if __name__ == "__main__":
    ThreadingHTTPServer(("localhost", 9191), Services).serve_forever()
