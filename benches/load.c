/* Load client: keeps some connections busy with the same request until a number of responses has come, and counts.
 *
 *     load ADDRESS CONNECTIONS REQUESTS reuse|close [TARGET [BODY_BYTES]]
 *
 * ADDRESS is 127.0.0.1:PORT or unix:/PATH. Each connection has one request under way at a time: GET, or, with BODY_BYTES, a
 * POST of that many bytes that must come back unchanged. With "close" every request says Connection: close and gets a
 * connection of its own, for servers that know no other way. measure.py reads the one line of JSON on standard output;
 * "p50" and "p99" in it are the microseconds from the beginning of a request to the last byte of its answer.
 * Anything but complete answers with status 200 and a Content-Length ends the program with status 1 and a sentence: a
 * measurement with failed requests is worthless.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_HEAD 8192             /* of an answer; a hello's has 200 bytes */
#define MAX_REQUEST (1 << 20)     /* head and body */
#define READ_SIZE (256 * 1024)    /* more than one answer, so that one read and an EAGAIN are not needed for each 16 KiB */
#define SILENCE_MS 15000          /* no event for so long: the server hangs */

struct connection {
    int fd;
    bool used;                    /* it has answered before, so the server may close it without being at fault */
    bool keep;                    /* the answer under way leaves the connection open */
    double began;                 /* when the request under way was begun */
    size_t sent;                  /* bytes of the request that have left */
    size_t head_length;           /* bytes of the answer's head so far; all of it has come when `in_body` */
    bool in_body;
    size_t body_length, body_got;
    char head[MAX_HEAD + 1];
};

static struct sockaddr_storage address;
static socklen_t address_length;
static char request[MAX_REQUEST];
static size_t request_length, request_body;   /* the body begins at request + request_length - request_body */
static bool reuse;
static long wanted, started, responses, connects;
static unsigned *latencies;       /* of each response, in microseconds */
static int poller;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
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

static void make_request(const char *target, size_t body) {
    char length[64] = "";
    if (body) snprintf(length, sizeof length, "Content-Length: %zu\r\n", body);
    int head = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n%s%s\r\n",
                        body ? "POST" : "GET", target, length, reuse ? "" : "Connection: close\r\n");
    if (head < 0 || head + body > sizeof request) fail("a request may have %d bytes", MAX_REQUEST);
    /* A period that divides no power of two, so that a piece that is lost or moved shows. */
    for (size_t i = 0; i < body; i++) request[head + i] = 'A' + i % 23;
    request_length = head + body;
    request_body = body;
}

static void watch(struct connection *c, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

/* Sends what is left of the request. An error says that the peer has gone, which the next read will tell. */
static void send_rest(struct connection *c) {
    bool had_to_wait = c->sent > 0;
    ssize_t sent = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) sent = request_length - c->sent;
    if (sent > 0) c->sent += sent;
    bool must_wait = c->sent < request_length;
    if (must_wait || had_to_wait) watch(c, EPOLL_CTL_MOD, must_wait ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void begin_request(struct connection *c) {
    c->sent = c->head_length = c->body_length = c->body_got = 0;
    c->in_body = false;
    c->began = now();
    send_rest(c);
}

/* Connects in blocking mode, as that is quick on one machine and waits when a unix socket's backlog is full. */
static void open_connection(struct connection *c) {
    c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, address_length) != 0)
        fail("cannot connect: %s", strerror(errno));
    int one = 1;
    if (address.ss_family == AF_INET) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->used = false;
    connects++;
    begin_request(c);
}

static void reopen(struct connection *c) {
    close(c->fd);
    open_connection(c);
}

/* Starts the next request of a connection, or closes it when enough have been started. */
static void next_request(struct connection *c) {
    if (started == wanted) {
        close(c->fd);
        return;
    }
    started++;
    if (c->keep) {
        c->used = true;
        begin_request(c);
    } else {
        reopen(c);
    }
}

/* Takes the head out of `count` bytes that have come; how many belong to it. */
static size_t on_head(struct connection *c, const char *bytes, size_t count) {
    size_t before = c->head_length, room = MAX_HEAD - before, taken = count < room ? count : room;
    memcpy(c->head + before, bytes, taken);
    c->head_length += taken;
    c->head[c->head_length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->head_length == MAX_HEAD) fail("an answer's head is longer than %d bytes", MAX_HEAD);
        return taken;
    }
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) fail("got %.40s", c->head);
    char *field = strcasestr(c->head, "\r\ncontent-length:");
    if (!field || field > end) fail("an answer has no Content-Length");
    char *close_field = strcasestr(c->head, "\r\nconnection: close");
    c->keep = reuse && !(close_field && close_field < end);
    c->body_length = strtoul(field + 17, NULL, 10);
    c->in_body = true;
    if (request_body && c->body_length != request_body) fail("%zu bytes came back of %zu", c->body_length, request_body);
    return end + 4 - c->head - before;
}

static void on_body(struct connection *c, const char *bytes, size_t count) {
    if (count > c->body_length - c->body_got) fail("bytes too many after an answer");
    if (request_body && memcmp(bytes, request + request_length - request_body + c->body_got, count) != 0)
        fail("a body did not come back as it was sent");
    c->body_got += count;
}

static void on_readable(struct connection *c) {
    static char bytes[READ_SIZE];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        if (c->head_length || !c->used) fail("the server closed a connection before it had answered");
        reopen(c); /* it closed an idle connection while our request was on its way: ask again */
        return;
    }
    size_t head = c->in_body ? 0 : on_head(c, bytes, got);
    if (!c->in_body) return;
    on_body(c, bytes + head, got - head);
    if (c->body_got < c->body_length) return;
    if (c->sent < request_length) fail("an answer was complete before its request");
    latencies[responses++] = (now() - c->began) * 1e6;
    next_request(c);
}

/* CPU seconds of this process, to show that it was not what limited the server. */
static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int by_size(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 7) fail("usage: load ADDRESS CONNECTIONS REQUESTS reuse|close [TARGET [BODY_BYTES]]");
    parse_address(argv[1]);
    long connections = atol(argv[2]);
    wanted = atol(argv[3]);
    reuse = strcmp(argv[4], "reuse") == 0;
    if (connections < 1 || connections > MAX_CONNECTIONS || wanted < connections)
        fail("1 to %d connections, and at least one request for each", MAX_CONNECTIONS);
    make_request(argc > 5 ? argv[5] : "/", argc > 6 ? strtoul(argv[6], NULL, 10) : 0);

    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(connections, sizeof *all);
    latencies = calloc(wanted, sizeof *latencies);
    if (poller < 0 || !all || !latencies) fail("out of resources: %s", strerror(errno));
    double began = now();
    for (long i = 0; i < connections; i++) {
        started++;
        open_connection(&all[i]);
    }
    while (responses < wanted) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, SILENCE_MS);
        if (count == 0) fail("no answer for %d s", SILENCE_MS / 1000);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) send_rest(c);
            if (events[i].events & ~EPOLLOUT) on_readable(c);
        }
    }
    double seconds = now() - began, used = cpu();
    qsort(latencies, responses, sizeof *latencies, by_size);
    printf("{\"responses\": %ld, \"connects\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, \"p50\": %u, \"p99\": %u}\n",
           responses, connects, seconds, used, latencies[responses / 2], latencies[responses * 99 / 100]);
    return 0;
}
