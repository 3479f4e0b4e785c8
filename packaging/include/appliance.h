/* Native applications for appliance in C, or in any language that can call C. One function serves a request, in blocking
 * style; it is called in a coroutine, many times at once:
 *
 *     #include <appliance.h>
 *
 *     static int32_t hello(void)
 *     {
 *         appliance_add_header("Content-Type", "text/plain");
 *         return appliance_write("Hello, world!\n", 14);
 *     }
 *
 *     APPLIANCE_APP(hello)
 *
 *     cc -shared -fPIC -O2 -o libhello.so hello.c && appliance run ./libhello.so
 *
 * This file says what crosses the boundary; it is generated from the crate appliance-app. The functions that are there to be
 * called are in appliance/calls.h and appliance/websocket.h, which it includes. */

#ifndef APPLIANCE_H
#define APPLIANCE_H

#include <stddef.h>
#include <stdint.h>

// Version of this interface. It changes when anything in this file does that an older application would misunderstand;
// functions that are added at the end of `ApplianceHost` do not change it.
#define APPLIANCE_VERSION 1

// What `ApplianceHost::ready` waits for: something to read, or an end.
#define APPLIANCE_READ 1

// What `ApplianceHost::ready` waits for: room to write.
#define APPLIANCE_WRITE 2

// `ApplianceHost::text`: the method, such as `GET`.
#define APPLIANCE_METHOD 0

// `ApplianceHost::text`: the request target as it was sent, such as `/a%20b?c`.
#define APPLIANCE_TARGET 1

// `ApplianceHost::text`: the path, still percent-encoded.
#define APPLIANCE_PATH 2

// `ApplianceHost::text`: what stands after the first `?`; empty if there is none.
#define APPLIANCE_QUERY 3

// `ApplianceHost::text`: the client's address without a port; empty on a unix socket without a proxy.
#define APPLIANCE_CLIENT 4

// `ApplianceHost::text`: `http` or `https`, as the client sees it.
#define APPLIANCE_SCHEME 5

// `ApplianceHost::text`: by what the logs know the request (`X-Request-ID`); may be empty.
#define APPLIANCE_REQUEST_ID 6

// `ApplianceMetric::kind`: it only grows.
#define APPLIANCE_COUNTER 1

// `ApplianceMetric::kind`: it goes up and down.
#define APPLIANCE_GAUGE 2

// `ApplianceMetric::kind`: how many observations there were, in ranges of their size, and their sum.
#define APPLIANCE_HISTOGRAM 3

// `ApplianceHost::metric_change`: adds to it; a counter takes nothing that is less than 0.
#define APPLIANCE_ADD 1

// `ApplianceHost::metric_change`: replaces the value of a gauge.
#define APPLIANCE_SET 2

// `ApplianceHost::metric_change`: replaces the value of a gauge, unless it is more already.
#define APPLIANCE_MAX 3

// `ApplianceHost::metric_change`: replaces the value of a gauge, unless it is less already.
#define APPLIANCE_MIN 4

// `ApplianceHost::metric_change`: counts an observation of a histogram.
#define APPLIANCE_OBSERVE 5

// What `ApplianceHost::websocket_receive` has received, or `ApplianceHost::websocket_send` sends: text, which is UTF-8.
#define APPLIANCE_MESSAGE_TEXT 1

// What `ApplianceHost::websocket_receive` has received, or `ApplianceHost::websocket_send` sends: bytes.
#define APPLIANCE_MESSAGE_BINARY 2

// Bytes that belong to somebody else, not terminated. What describes a request is valid until the application returns.
typedef struct {
    // The first of them; may be null if there are none.
    const char *data;
    // How many.
    size_t length;
} ApplianceText;

// A function that runs in a coroutine or on a thread of its own, with what was handed over for it.
typedef void (*ApplianceRun)(void *data);

// A function that is shown bytes, which are valid until it returns, with what was handed over for it.
typedef void (*ApplianceShow)(void *data, ApplianceText text);

// What a metric is to be. Its texts are UTF-8.
typedef struct {
    // `APPLIANCE_COUNTER`, `APPLIANCE_GAUGE` or `APPLIANCE_HISTOGRAM`.
    uint32_t kind;
    // Its name, such as `shop_orders_total`.
    ApplianceText name;
    // What it counts or measures.
    ApplianceText help;
    // Names of its labels; may be null if there are none.
    const ApplianceText *labels;
    // How many.
    size_t label_count;
    // Upper bounds of a histogram's ranges, ascending, at most 24; may be null if there are none.
    const double *bounds;
    // How many.
    size_t bound_count;
} ApplianceMetric;

// A label of a series. Both are UTF-8.
typedef struct {
    // Its name.
    ApplianceText name;
    // Its value.
    ApplianceText value;
} ApplianceLabel;

// The functions that a worker offers. Those that answer a number answer a negative `errno` when they fail.
typedef struct {
    // `APPLIANCE_VERSION` of the worker.
    uint32_t version;
    // Size of this structure in bytes: what lies beyond is not there.
    uint32_t size;
    // One of the texts of the request.
    ApplianceText (*text)(uint32_t what);
    // The value of the first header field of that name, in any case of letters; 0, or 1 if there is none.
    int32_t (*header)(ApplianceText name, ApplianceText *value);
    // The header field at a place, from 0; 0, or 1 if there are no more.
    int32_t (*header_at)(size_t index, ApplianceText *name, ApplianceText *value);
    // Reads on in the body of the request: how many bytes, 0 at its end. Waits for them.
    ptrdiff_t (*read)(char *into, size_t size);
    // Sets the status of the answer, from 200 to 599; it is 200 if nobody does. Only before the first byte is sent.
    int32_t (*set_status)(uint16_t status);
    // Adds a header field to the answer. Only before the first byte is sent.
    int32_t (*add_header)(ApplianceText name, ApplianceText value);
    // Adds to the body of the answer. The first 16 KiB are kept until the application returns, so that a small answer leaves
    // in one piece and with its length. Waits while the client is slower, and while another coroutine of the request writes.
    int32_t (*write)(ApplianceText data);
    // Sends what has been kept.
    int32_t (*flush)(void);
    // Adds so many bytes of a regular file to the body, from `offset` on, without reading them where the kernel can do that.
    // The descriptor stays the caller's. `-ENODATA`: the file ends before that. If it fails when something of the answer has
    // left, the answer is cut.
    int32_t (*send_file)(int32_t fd, uint64_t offset, uint64_t count);
    // Says why the request failed, or why the application cannot be loaded; it then returns something other than 0.
    int32_t (*fail)(ApplianceText why);
    // Waits so many microseconds; 0 lets the others have one turn.
    int32_t (*sleep)(uint64_t micros);
    // Waits until a descriptor is ready (`APPLIANCE_READ`, `APPLIANCE_WRITE`, or both), at most so many microseconds
    // (negative: for ever): 1, or 0 if that time has passed. It may be wrong about readiness, so the caller tries and
    // waits again.
    int32_t (*ready)(int32_t fd, uint32_t what, int64_t micros);
    // Runs a function in a coroutine of the same request, at once, until it first waits: its number, at least 0. Those that
    // still run when the application returns are ended. `-EAGAIN`: the request has 4096 already.
    int64_t (*spawn)(ApplianceRun run, void *data);
    // Waits until that coroutine has returned. `-EDEADLK`: it would never, because it waits for the one that calls this, or is
    // that one.
    int32_t (*join)(int64_t number);
    // Runs a function on a thread of a pool, where it may block, and waits until it has returned. After `-ECANCELED` it may
    // still run, after any other failure it will not.
    int32_t (*blocking)(ApplianceRun run, void *data);
    // Which worker this is, from 1.
    int32_t (*worker_id)(void);
    // Writes a line to the log, on any thread: 0 an error, 1 a warning, 2 news, 3 for whoever debugs.
    int32_t (*log)(uint32_t level, ApplianceText line);
    // What the worker publishes of itself, as JSON: into `into`, if there is room, and how long it is.
    ptrdiff_t (*status)(char *into, size_t size);
    // Why the last function of a cache or a metric, `set_status` or `add_header` that failed on this thread did so, as a sentence:
    // into `into`, if there is room, and how long it is. This function and those below are not there in an older worker, as `size` says.
    ptrdiff_t (*reason)(char *into, size_t size);
    // The value of a key: into `into`, if there is room, and how long it is; `-ENODATA` if there is none. Of this and of all
    // functions of caches: an empty name of a cache means the first one, and `-ENOENT` says that it is not configured.
    ptrdiff_t (*cache_get)(ApplianceText cache, ApplianceText key, char *into, size_t size);
    // Stores a value, for so many microseconds (0: for ever; negative: as long as the cache's `expires` says). With `add` other
    // than 0 only if the key has none. 0, or 1 if it was there already.
    int32_t (*cache_set)(ApplianceText cache, ApplianceText key, ApplianceText value, int64_t micros, uint32_t add);
    // Removes a key; 0, or 1 if it was not there.
    int32_t (*cache_delete)(ApplianceText cache, ApplianceText key);
    // Adds to the number of a key, which begins at 0 and lives for so many microseconds from then on (as in `cache_set`), and
    // gives it. As a value it has 8 bytes, in the order of the machine.
    int32_t (*cache_count)(ApplianceText cache, ApplianceText key, int64_t by, int64_t micros, int64_t *number);
    // How many microseconds a key has left, negative if it does not expire; 0, or 1 if it is not there.
    int32_t (*cache_life)(ApplianceText cache, ApplianceText key, int64_t *micros);
    // Shows every key to a function, in no order that means anything.
    int32_t (*cache_keys)(ApplianceText cache, ApplianceShow show, void *data);
    // Removes everything.
    int32_t (*cache_clear)(ApplianceText cache);
    // How full it is and what has happened in it, as JSON: into `into`, if there is room, and how long it is.
    ptrdiff_t (*cache_stats)(ApplianceText cache, char *into, size_t size);
    // The number of the metric with that name, made if there is none; `-EINVAL` if it cannot be had. It stays the same for as
    // long as the appliance runs.
    int64_t (*metric)(const ApplianceMetric *metric);
    // The number of a metric's series with these labels, made if there is none; without labels, of its only one. What is counted
    // in a series that found no room is lost. `-EINVAL`: one of the labels cannot have that name.
    int64_t (*metric_series)(int64_t metric, const ApplianceLabel *labels, size_t count);
    // Changes a series, in one atomic operation: `APPLIANCE_ADD` and those after it say how.
    int32_t (*metric_change)(int64_t series, uint32_t how, double value);
    // What all workers have made of a series: its value, and of a histogram the sum of its observations and how many there were.
    int32_t (*metric_value)(int64_t series, double *value, uint64_t *observations);
    // What a client that wants a WebSocket offers: the subprotocol at a place, from 0, the one that it likes best first; 0, or
    // 1 if there are no more. `-EPROTO`: the request is no WebSocket handshake.
    int32_t (*websocket_offer)(size_t index, ApplianceText *protocol);
    // Makes the connection of the request a WebSocket, with the header fields that were added and this subprotocol (empty:
    // none): its number, at least 0. `-EPROTO`: the request is no WebSocket handshake; an application that then returns
    // something other than 0 and does not say why has its client told so. `-EPIPE`: the client has left.
    int64_t (*websocket_accept)(ApplianceText protocol);
    // Waits for the next message of the request's own WebSocket, at most so many microseconds (negative: for ever):
    // `APPLIANCE_MESSAGE_TEXT` or `APPLIANCE_MESSAGE_BINARY`, 0 if it is closed, `-ETIMEDOUT` if none has come in time. The
    // bytes are valid until this is called again in the same request, or the application returns.
    int32_t (*websocket_receive)(ApplianceText *data, int64_t micros);
    // Sends a message, `APPLIANCE_MESSAGE_TEXT` or `APPLIANCE_MESSAGE_BINARY`, on any native WebSocket of this worker.
    // Waits while its client is slower. `-EPIPE`: it is closed; `-EILSEQ`: the text is not UTF-8.
    int32_t (*websocket_send)(int64_t socket, uint32_t kind, ApplianceText data);
    // Closes a WebSocket of this worker with a code (1000, 1001, 1003, 1007 to 1014, or 3000 to 4999) and a reason of at most
    // 123 bytes. One that is not closed when its application returns is closed with 1000, or with 1011 if that has failed.
    int32_t (*websocket_close)(int64_t socket, uint16_t code, ApplianceText reason);
    // How the request's own WebSocket was closed, as far as that was noticed: the code (1005: without one, 1006: it has ended
    // without being closed) and the reason, if `reason` is not null; 0 if it is open.
    int32_t (*websocket_closed)(ApplianceText *reason);
} ApplianceHost;

// An application. What a library exports under the name `appliance_app` is a function of type `ApplianceEntry`.
typedef struct {
    // `APPLIANCE_VERSION` that it was built with.
    uint32_t version;
    // Size of this structure in bytes.
    uint32_t size;
    // Serves one request: 0, or anything else if it failed. Called in a coroutine, many times at once.
    int32_t (*handle)(void);
    // Gets ready, once, when the library has been loaded and no worker is forked yet; may be null, or not there, as `size`
    // says. 0, or anything else if the application cannot be served. Threads that it starts are not there in the workers.
    int32_t (*load)(void);
} ApplianceApp;

// Called once, in the process that loads the library, before it forks workers: gives the functions and takes the
// application. Both live as long as the process. Null: the application cannot work with such a host.
typedef const ApplianceApp *(*ApplianceEntry)(const ApplianceHost *host);

#endif  /* APPLIANCE_H */

#include "appliance/calls.h"
#include "appliance/websocket.h"
