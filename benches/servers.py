"""The servers that are compared, each with one worker and the same application: how to start them and where they answer.
Used by compare.py and fronts.py; a new server is one more function in their list of contenders.
"""
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from cpu import tree

HERE = Path(__file__).resolve().parent
BIN = HERE / ".venv" / "bin"
START_SECONDS = 30
STOP_SECONDS = 10
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

ALONE, FRONTED = "application servers alone", "behind a front"


@dataclass(frozen=True)
class Route:
    """One way to reach a server, and a row of the table."""

    name: str
    group: str  # ALONE or FRONTED
    address: str  # 127.0.0.1:PORT or unix:/PATH
    reuse: bool = True  # False: one request for each connection is all the server can do


@dataclass
class Contender:
    """The processes of one server (two for a front and what is behind it) and the routes through them."""

    commands: list
    routes: list
    processes: list = field(default_factory=list)
    says: bytes = b"Hello, world!\n"  # to a plain request, by which it is seen that it is up

    def start(self, log):
        environment = dict(os.environ, PYTHONPATH=str(HERE))
        for command in self.commands:
            words = [str(word) for word in command]
            process = subprocess.Popen(words, cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.processes.append(process)
        for route in self.routes:
            self.wait_until_it_answers(route)

    def wait_until_it_answers(self, route):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if ask(route.address).endswith(b"\r\n\r\n" + self.says):
                    return
            except OSError:
                pass
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{route.name}: {process.args[0]} ended with status {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{route.name}: no answer from {route.address} within {START_SECONDS} s")
            time.sleep(0.05)

    def roots(self):
        return [process.pid for process in self.processes]

    def stop(self):
        """Ends all processes, those that do not obey by force."""
        members = tree(self.roots())
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in set(tree([process.pid])) & set(members):
                    os.kill(pid, 9)
                process.wait()


def ask(address, request=GET):
    """The whole answer to one request, after which the server closes."""
    if address.startswith("unix:"):
        client, target = socket.socket(socket.AF_UNIX), address[5:]
    else:
        host, port = address.split(":")
        client, target = socket.socket(), (host, int(port))
    with client:
        client.settimeout(5)
        client.connect(target)
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


class Place:
    """Hands out free ports and paths in a temporary folder; knows where our binary is, and the module of the application."""

    def __init__(self, folder, binary, module):
        self.folder, self.binary = folder, binary
        self.module, self.application = module, f"{module}:application"
        self.held = []

    def port(self):
        """A free TCP port, never the same twice."""
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        self.held.append(probe)  # stays bound until all ports have been given out
        return probe.getsockname()[1]

    def release(self):
        while self.held:
            self.held.pop().close()

    def tcp(self):
        return f"127.0.0.1:{self.port()}"

    def unix(self, name):
        return f"unix:{self.folder / name}.sock"


def appliance_with(place, name, suspend):
    front, native_port, run_dir = place.tcp(), place.port(), place.folder / suspend
    command = [
        place.binary, "run", place.application, "--listen", front, "--workers", 1, "--cores", 100,
        "--native-base-port", native_port - 1, "--venv", HERE / ".venv", "--log-level", "warn",
        "--set", f"app.chdir={HERE}", "--set", f"admin.run_dir={run_dir}", "--set", "log.access=false",
        "--set", f"app.suspend={suspend}",
    ]  # fmt: skip
    return Contender(
        [command],
        [
            Route(f"{name}, native listener", ALONE, f"127.0.0.1:{native_port}"),
            Route(f"{name}, worker's unix socket", ALONE, f"unix:{run_dir}/worker-1.sock"),
            Route(f"{name}, through its proxy", FRONTED, front),
        ],
    )


def appliance(place):
    return appliance_with(place, "appliance", "greenlet")


def appliance_threads(place):
    return appliance_with(place, "appliance with threads", "thread")


def bjoern(place):
    address = place.tcp()
    host, port = address.split(":")
    code = f"import bjoern, {place.module} as app; bjoern.run(app.application, {host!r}, {port})"
    return Contender([[BIN / "python", "-c", code]], [Route("bjoern", ALONE, address)])


def bjoern_unix(place):
    address = place.unix("bjoern")
    code = f"import bjoern, {place.module} as app; bjoern.run(app.application, {address!r})"
    return Contender([[BIN / "python", "-c", code]], [Route("bjoern, unix socket", ALONE, address)])


def granian_command(place, *where):
    return [BIN / "granian", "--interface", "wsgi", "--workers", 1, "--blocking-threads", 1, "--http", "1", "--no-ws",
            "--log-level", "warning", *where, place.application]  # fmt: skip


def granian(place):
    address = place.tcp()
    host, port = address.split(":")
    return Contender([granian_command(place, "--host", host, "--port", port)], [Route("granian", ALONE, address)])


def gunicorn_sync(place):
    address = place.tcp()
    command = [BIN / "gunicorn", "--workers", 1, "--bind", address, "--log-level", "warning", place.application]
    return Contender([command], [Route("gunicorn sync", ALONE, address, reuse=False)])


def gunicorn_gthread(place):
    address = place.tcp()
    command = [BIN / "gunicorn", "--workers", 1, "--worker-class", "gthread", "--threads", 4, "--bind", address,
               "--log-level", "warning", place.application]  # fmt: skip
    return Contender([command], [Route("gunicorn gthread (4 threads)", ALONE, address)])


def uwsgi_command(place, *options):
    return [BIN / "uwsgi", "--master", "--processes", 1, "--die-on-term", "--need-app", "--disable-logging",
            "--listen", 1024, "--virtualenv", HERE / ".venv", "--module", place.application, *options]  # fmt: skip


TORNADO = ("--tornado", 100, "--greenlet")


def uwsgi(place):
    address = place.tcp()
    return Contender(
        [uwsgi_command(place, "--http-socket", address)], [Route("uWSGI (http-socket)", ALONE, address, reuse=False)]
    )


def uwsgi_tornado(place):
    address = place.tcp()
    return Contender(
        [uwsgi_command(place, "--http-socket", address, *TORNADO)],
        [Route("uWSGI tornado + greenlet", ALONE, address, reuse=False)],
    )


NGINX = """{user}
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/{name}.body;
    proxy_temp_path {folder}/{name}.proxy;
    uwsgi_temp_path {folder}/{name}.uwsgi;
    fastcgi_temp_path {folder}/{name}.fastcgi;
    scgi_temp_path {folder}/{name}.scgi;
    # Everything that is measured fits into memory, and no connection is given up because it has served enough.
    client_body_buffer_size 64k;
    proxy_buffers 8 32k;
    uwsgi_buffers 8 32k;
    keepalive_requests 100000000;
    upstream app {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen {listen};
        location / {{ {location} }}
    }}
}}
"""
# Forwards what our proxy forwards too.
OVER_HTTP = (
    'proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; '
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; "
    "proxy_set_header X-Request-ID $request_id;"
)
OVER_UWSGI = "include /etc/nginx/uwsgi_params; uwsgi_pass app;"


def behind_nginx(place, name, upstream, location, command):
    """nginx with one worker process in front of `command`, which answers on the unix socket `upstream`."""
    listen = place.tcp()
    file = place.folder / f"{name}.conf"
    # Its workers change to another user when started as root, and could not reach the socket then.
    user = "user root;" if os.getuid() == 0 else ""
    file.write_text(NGINX.format(user=user, folder=place.folder, name=name, upstream=upstream, listen=listen,
                                 location=location))  # fmt: skip
    nginx = ["nginx", "-e", "stderr", "-p", place.folder, "-c", file]
    return Contender([command, nginx], [Route(name.replace("-", " "), FRONTED, listen)])


def nginx_uwsgi(place):
    upstream = place.unix("nginx-uwsgi")
    command = uwsgi_command(place, "--socket", upstream[5:])
    return behind_nginx(place, "nginx-→-uWSGI", upstream, OVER_UWSGI, command)


def nginx_granian(place):
    upstream = place.unix("nginx-granian")
    return behind_nginx(place, "nginx-→-granian", upstream, OVER_HTTP, granian_command(place, "--uds", upstream[5:]))


# Forwards what our proxy forwards too; the last line of the backend is the server.
HAPROXY = """global
    nbthread 1
    maxconn 2048
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
    option forwardfor
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
frontend clients
    bind {listen}
    http-request set-header X-Forwarded-Proto http
    default_backend app
backend app
    server app unix@{upstream}
"""


def haproxy_granian(place):
    listen, upstream = place.tcp(), place.unix("haproxy-granian")[5:]
    file = place.folder / "haproxy.conf"
    file.write_text(HAPROXY.format(listen=listen, upstream=upstream))
    return Contender(
        [granian_command(place, "--uds", upstream), ["haproxy", "-db", "-q", "-f", file]],
        [Route("haproxy → granian", FRONTED, listen)],
    )


def nginx_uwsgi_tornado(place):
    upstream = place.unix("nginx-tornado")
    command = uwsgi_command(place, "--socket", upstream[5:], *TORNADO)
    return behind_nginx(place, "nginx-→-uWSGI-tornado-+-greenlet", upstream, OVER_UWSGI, command)


# Of compare.py, in the order of its table; the first of each group is what the others are compared with.
CONTENDERS = [
    appliance, appliance_threads, bjoern, bjoern_unix, granian, gunicorn_sync, gunicorn_gthread, uwsgi, uwsgi_tornado,
    nginx_uwsgi, nginx_granian, nginx_uwsgi_tornado,
]  # fmt: skip
