"""Tornado's HTTP server on a worker's own listener."""
import time

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import bind_sockets

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

    def _is_idle(self, connection):
        request = self._requests.get(connection)
        # The next one is made before any of it has come.
        return request is None or request._request_start_line is None or request._write_finished


def listen(app, address, port, backlog):
    """Serves an application, or what a function makes."""
    if not isinstance(app, HTTPServerConnectionDelegate):
        app = app()
    server = Server(app)
    server.add_sockets(bind_sockets(port, address, backlog=backlog, reuse_port=True))
    return server
