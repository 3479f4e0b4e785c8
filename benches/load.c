/* Load client: keeps some connections busy with the same GET until a number of responses has come, and counts.
 *
 *     load ADDRESS CONNECTIONS REQUESTS reuse|close
 *
 * ADDRESS is 127.0.0.1:PORT or unix:/PATH. Each connection has one request under way at a time. With "close" every request
 * says Connection: close and gets a connection of its own, for servers that know no other way. compare.py reads the one line
 * of JSON on standard output. Anything but complete answers with status 200 and a Content-Length ends the program with
 * status 1 and a sentence: a measurement with failed requests is worthless.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_RESPONSE 16384   /* head and body of one answer; a hello has 200 bytes */
#define SILENCE_MS 15000     /* no event for so long: the server hangs */

struct connection {
    int fd;
    bool used;               /* it has answered before, so the server may close it without being at fault */
    size_t length;           /* bytes of the answer so far */
    char answer[MAX_RESPONSE + 1];
};

static struct sockaddr_storage address;
static socklen_t address_length;
static const char *request;
static bool reuse;
static long wanted, started, responses, connects;
static int poller;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void parse_address(const char *text) {
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *sun = (struct sockaddr_un *)&address;
        if (strlen(text + 5) >= sizeof sun->sun_path) fail("%s: longer than a socket's path may be", text);
        sun->sun_family = AF_UNIX;
        strcpy(sun->sun_path, text + 5);
        address_length = sizeof *sun;
        return;
    }
    struct sockaddr_in *sin = (struct sockaddr_in *)&address;
    char host[64];
    unsigned port;
    if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &sin->sin_addr) != 1)
        fail("%s: write 127.0.0.1:PORT or unix:/PATH", text);
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    address_length = sizeof *sin;
}

static void send_request(struct connection *c) {
    size_t size = strlen(request);
    c->length = 0;
    /* A hundred bytes into an empty socket buffer: taken whole, or the peer has gone, which the next read will tell. */
    ssize_t sent = send(c->fd, request, size, MSG_NOSIGNAL);
    if (sent >= 0 && (size_t)sent != size) fail("a request was sent in part");
}

/* Connects in blocking mode, as that is quick on one machine and waits when a unix socket's backlog is full. */
static void open_connection(struct connection *c) {
    c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, address_length) != 0)
        fail("cannot connect: %s", strerror(errno));
    int one = 1;
    if (address.ss_family == AF_INET) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
    c->used = false;
    connects++;
    send_request(c);
}

static void reopen(struct connection *c) {
    close(c->fd);
    open_connection(c);
}

/* Starts the next request of a connection, or closes it when enough have been started. */
static void next_request(struct connection *c, bool keep) {
    if (started == wanted) {
        close(c->fd);
        return;
    }
    started++;
    if (keep) {
        c->used = true;
        send_request(c);
    } else {
        reopen(c);
    }
}

/* The whole length of the answer, head and body, or 0 while its head is incomplete. */
static size_t answer_length(struct connection *c, bool *keep) {
    c->answer[c->length] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0) fail("got %.40s", c->answer);
    char *field = strcasestr(c->answer, "\r\ncontent-length:");
    if (!field || field > end) fail("an answer has no Content-Length");
    char *close_field = strcasestr(c->answer, "\r\nconnection: close");
    *keep = reuse && !(close_field && close_field < end);
    return (size_t)(end + 4 - c->answer) + strtoul(field + 17, NULL, 10);
}

static void on_readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->answer + c->length, MAX_RESPONSE - c->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        if (c->length || !c->used) fail("the server closed a connection before it had answered");
        reopen(c); /* it closed an idle connection while our request was on its way: ask again */
        return;
    }
    c->length += got;
    bool keep;
    size_t length = answer_length(c, &keep);
    if (length > MAX_RESPONSE || (!length && c->length == MAX_RESPONSE))
        fail("an answer is longer than %d bytes", MAX_RESPONSE);
    if (!length || c->length < length) return;
    if (c->length > length) fail("%zu bytes too many after an answer", c->length - length);
    responses++;
    next_request(c, keep);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 5) fail("usage: load ADDRESS CONNECTIONS REQUESTS reuse|close");
    parse_address(argv[1]);
    long connections = atol(argv[2]);
    wanted = atol(argv[3]);
    reuse = strcmp(argv[4], "reuse") == 0;
    if (connections < 1 || connections > MAX_CONNECTIONS || wanted < connections)
        fail("1 to %d connections, and at least one request for each", MAX_CONNECTIONS);
    request = reuse ? "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n"
                    : "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nConnection: close\r\n\r\n";

    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(connections, sizeof *all);
    if (poller < 0 || !all) fail("out of resources: %s", strerror(errno));
    double began = now();
    for (long i = 0; i < connections; i++) {
        started++;
        open_connection(&all[i]);
    }
    while (responses < wanted) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, SILENCE_MS);
        if (count == 0) fail("no answer for %d s", SILENCE_MS / 1000);
        for (int i = 0; i < count; i++) on_readable(events[i].data.ptr);
    }
    printf("{\"responses\": %ld, \"connects\": %ld, \"seconds\": %.6f}\n", responses, connects, now() - began);
    return 0;
}
