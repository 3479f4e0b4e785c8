"""A Tornado application that every worker serves on a port of its own, bound after the fork, beside a WSGI callable."""
import tornado.web
import uwsgi
from uwsgidecorators import postfork


class MainHandler(tornado.web.RequestHandler):
    """The Tornado-managed side."""

    def get(self):
        self.write("Hello, world")


t_application = tornado.web.Application([(r"/", MainHandler)])


@postfork
def start_the_tornado_servers():
    t_application.listen(8000 + uwsgi.worker_id(), "127.0.0.1", reuse_port=True)


def application(e, sr):
    """The WSGI side, served on the public address."""
    sr("200 OK", [("Content-Type", "text/plain")])
    return [b"worker %d also listens on port %d\n" % (uwsgi.worker_id(), 8000 + uwsgi.worker_id())]
