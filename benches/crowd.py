"""Many clients that want little: idle ones that keep the connection on which they were served, and slow ones that send or read
a few bytes a second. Used by idle.py; one thread moves all of them, so that the crowd itself costs next to nothing.
"""
import socket
import threading
import time
from contextlib import contextmanager

import pages

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER_SECONDS = 15
TICK_SECONDS = 0.1
TICKS = 10  # in a second; each slow client has its turn in one of them
UPLOAD_BYTES = 1024 * 1024
BODY_BYTES = 1024  # of an upload or a download that move in a second: more than limits.body_rate
SETTLE_SECONDS = 2


def connect(address):
    host, port = address.split(":")
    client = socket.create_connection((host, int(port)), ANSWER_SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def idle_clients(address, count):
    """That many connections, each of which has been answered and is open. One after the other: what the server needs for many
    requests at once is not what it needs for idle connections, and its allocator takes seconds to give it back."""
    clients = []
    for _ in range(count):
        client = connect(address)
        client.sendall(GET)
        answer = b""
        while not answer.endswith(pages.HELLO):
            piece = client.recv(4096)
            if not piece:
                raise RuntimeError(f"an idle client got {answer[:40]!r} and no more; is limits.connections too small?")
            answer += piece
        clients.append(client)
    return clients


class Slow:
    """A client that has a turn a second; what a kind of it sends and reads is in the subclasses. One that the server sends
    away connects again, since that is what an attacker does."""

    receive_buffer = None

    def __init__(self, address):
        self.address = address
        self.sent_away = 0
        self.connect()

    def connect(self):
        self.socket = connect(self.address)
        if self.receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.socket.sendall(self.beginning)
        self.socket.setblocking(False)

    def turn(self):
        try:
            self.move()
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            self.sent_away += 1
            self.connect()

    def expect_nothing(self):
        """Raises an OSError if the server has closed or answered, BlockingIOError if all is quiet."""
        raise ConnectionResetError(self.socket.recv(4096))


class SlowHead(Slow):
    """Slowloris: a byte of a head a second."""

    beginning = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "

    def move(self):
        self.socket.send(b"x")
        self.expect_nothing()


class SlowBody(Slow):
    """A body, BODY_BYTES a second."""

    beginning = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % UPLOAD_BYTES

    def move(self):
        self.socket.send(bytes(BODY_BYTES))
        self.expect_nothing()


class SlowReader(Slow):
    """A large answer, BODY_BYTES a second; another one when it is over."""

    beginning = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    receive_buffer = 4096

    def move(self):
        if not self.socket.recv(BODY_BYTES):
            raise ConnectionResetError("closed")


class Mover(threading.Thread):
    """Gives every slow client its turn, a tenth of them at a time."""

    def __init__(self, clients):
        super().__init__(daemon=True)
        self.clients = clients
        self.stopped = threading.Event()
        self.problem = None

    def run(self):
        tick = 0
        try:
            while not self.stopped.wait(TICK_SECONDS):
                for client in self.clients[tick % TICKS :: TICKS]:
                    client.turn()
                tick += 1
        except OSError as problem:  # the server takes no more connections
            self.problem = problem


@contextmanager
def crowd(address, idle, slow):
    """So many idle clients and so many of each kind of slow ones (`{kind: count}`) are there inside of the `with`."""
    kept = idle_clients(address, idle)
    movers = Mover([kind(address) for kind, count in slow.items() for _ in range(count)])
    movers.start()
    try:
        time.sleep(SETTLE_SECONDS)
        gone = sum(client.sent_away > 0 for client in movers.clients)
        if gone:
            raise RuntimeError(f"{gone} slow clients were sent away within {SETTLE_SECONDS} s")
        yield
        if movers.problem:
            raise RuntimeError(f"the slow clients: {movers.problem}")
        gone = sum(is_closed(client) for client in kept)
        if gone:
            raise RuntimeError(f"{gone} of {idle} idle connections were closed: those that are away disturb nobody")
    finally:
        movers.stopped.set()
        movers.join()
        for client in [*kept, *(client.socket for client in movers.clients)]:
            client.close()


def is_closed(client):
    client.setblocking(False)
    try:
        client.recv(1)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
