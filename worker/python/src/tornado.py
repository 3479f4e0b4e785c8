"""Tornado's HTTP server on a worker's own listener."""
import logging
import time

import _appliance
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.log import access_log
from tornado.netutil import bind_sockets
from tornado.web import Application, OutputTransform

# A request may be on its way on an idle connection for so long, in seconds.
GRACE = 0.25


class Server(HTTPServer):
    """One that knows which of its connections have a request, so that it can end when there is none."""

    def initialize(self, *args, **kwargs):
        super().initialize(*args, **kwargs)
        self._requests = {}
        self._draining_since = None

    def start_request(self, server_conn, request_conn):
        self._requests[server_conn] = request_conn
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn):
        self._requests.pop(server_conn, None)
        super().on_close(server_conn)

    def is_drained(self):
        if self._draining_since is None:
            self._draining_since = time.monotonic()
            self.stop()
            # The connections share this object: each ends with the request that comes next on it, if one comes.
            self.conn_params.no_keep_alive = True
        if time.monotonic() - self._draining_since >= GRACE:
            for connection in [one for one in self._connections if self._is_idle(one)]:
                connection.stream.close()
        return not self._connections

    def farewell(self):
        """Closes all connections; how many had a request. Their handlers are cancelled with whatever else runs on the loop."""
        connections = list(self._connections)
        busy = sum(not self._is_idle(one) for one in connections)
        for connection in connections:
            connection.stream.close()
        return busy

    def _is_idle(self, connection):
        request = self._requests.get(connection)
        # The next one is made before any of it has come.
        return request is None or request._request_start_line is None or request._write_finished


class Meter(OutputTransform):
    """Sees an answer leave: counts the bytes of its body, as long as the client is there."""

    def __init__(self, request):
        self._request = request
        self.bytes, self.has_left, self.has_head = 0, False, True
        request.meter = self

    def transform_first_chunk(self, status_code, headers, chunk, finishing):
        self._look()
        self.has_head = not self.has_left
        return status_code, headers, self.transform_chunk(chunk, finishing)

    def transform_chunk(self, chunk, finishing):
        self._look()
        if self._request.method != "HEAD" and not self.has_left:
            self.bytes += len(chunk)
        return chunk

    def _look(self):
        self.has_left = self.has_left or self._request.connection.stream.closed()


def log_line(handler):
    request = handler.request
    meter = request.meter
    _appliance.log_request(
        (request.remote_ip, request.method, request.uri, request.version, request.headers.get("X-Request-ID", "")),
        (handler.get_status() if meter.has_head else None, meter.has_left, meter.bytes, request.request_time()))


def log_to_access_log(app):
    """Unless the application has lines of its own: by a function, or because its logging shows those of Tornado's."""
    if isinstance(app, Application) and "log_function" not in app.settings and not access_log.isEnabledFor(logging.INFO):
        app.settings["log_function"] = log_line
        app.transforms = [*app.transforms, Meter]


def listen(app, address, port, backlog, has_log):
    """Serves an application, or what a function makes; `has_log`: its requests are to have lines in the access log."""
    if not isinstance(app, HTTPServerConnectionDelegate):
        app = app()
    if has_log:
        log_to_access_log(app)
    server = Server(app)
    server.add_sockets(bind_sockets(port, address, backlog=backlog, reuse_port=True))
    return server
