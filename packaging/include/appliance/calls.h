/* The functions of the worker as a C application calls them, and what makes a library an application. Included by appliance.h,
 * which says what each of them does. */

#ifndef APPLIANCE_CALLS_H
#define APPLIANCE_CALLS_H

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the worker gave when it loaded the library; APPLIANCE_APP defines it. */
extern const ApplianceHost *appliance_host;

/* What the worker looks for in the library, an ApplianceEntry; APPLIANCE_APP defines it. */
const ApplianceApp *appliance_app(const ApplianceHost *host);

/* Exports a handler, a function of type int32_t (*)(void), as the application of this library. Once in a library. */
#define APPLIANCE_APP(handler) \
    const ApplianceHost *appliance_host; \
    __attribute__((visibility("default"))) const ApplianceApp *appliance_app(const ApplianceHost *host) \
    { \
        static const ApplianceApp app = {APPLIANCE_VERSION, sizeof(ApplianceApp), handler}; \
        appliance_host = host; \
        return host->version == APPLIANCE_VERSION ? &app : NULL; \
    }

/* Whether the worker has this function, such as `websocket_accept`: one that was added later is not there in an older worker. */
#define APPLIANCE_HAS(function) (appliance_host->size > offsetof(ApplianceHost, function))

static inline ApplianceText appliance_bytes(const char *data, size_t length)
{
    ApplianceText text = {data, length};
    return text;
}

static inline ApplianceText appliance_string(const char *string)
{
    return appliance_bytes(string, strlen(string));
}

static inline ApplianceText appliance_text(uint32_t what) { return appliance_host->text(what); }

static inline int32_t appliance_header(const char *name, ApplianceText *value)
{
    return appliance_host->header(appliance_string(name), value);
}

static inline ptrdiff_t appliance_read(char *into, size_t size) { return appliance_host->read(into, size); }

static inline int32_t appliance_set_status(uint16_t status) { return appliance_host->set_status(status); }

static inline int32_t appliance_add_header(const char *name, const char *value)
{
    return appliance_host->add_header(appliance_string(name), appliance_string(value));
}

static inline int32_t appliance_write(const char *data, size_t length)
{
    return appliance_host->write(appliance_bytes(data, length));
}

static inline int32_t appliance_flush(void) { return appliance_host->flush(); }

static inline int32_t appliance_send_file(int32_t fd, uint64_t offset, uint64_t count)
{
    return appliance_host->send_file(fd, offset, count);
}

/* For `return appliance_fail("why");`. */
static inline int32_t appliance_fail(const char *why)
{
    appliance_host->fail(appliance_string(why));
    return 1;
}

static inline int32_t appliance_sleep(uint64_t micros) { return appliance_host->sleep(micros); }

static inline int32_t appliance_ready(int32_t fd, uint32_t what, int64_t micros)
{
    return appliance_host->ready(fd, what, micros);
}

static inline int64_t appliance_spawn(ApplianceRun run, void *data) { return appliance_host->spawn(run, data); }

static inline int32_t appliance_join(int64_t number) { return appliance_host->join(number); }

static inline int32_t appliance_blocking(ApplianceRun run, void *data) { return appliance_host->blocking(run, data); }

static inline int32_t appliance_worker_id(void) { return appliance_host->worker_id(); }

static inline int32_t appliance_log(uint32_t level, const char *line)
{
    return appliance_host->log(level, appliance_string(line));
}

#ifdef __cplusplus
}
#endif

#endif /* APPLIANCE_CALLS_H */
