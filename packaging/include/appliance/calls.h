/* The functions of the worker as a C application calls them, and what makes a library an application. Included by appliance.h,
 * which says what each of them does. */

#ifndef APPLIANCE_CALLS_H
#define APPLIANCE_CALLS_H

#include <errno.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the worker gave when it loaded the library; APPLIANCE_APP defines it. */
extern const ApplianceHost *appliance_host;

/* What the worker looks for in the library, an ApplianceEntry; APPLIANCE_APP defines it. */
const ApplianceApp *appliance_app(const ApplianceHost *host);

/* Exports a handler, a function of type int32_t (*)(void), as the application of this library. Once in a library. */
#define APPLIANCE_APP(handler) APPLIANCE_APP_WITH(handler, NULL)

/* The same with a function of that type that is called once when the library has been loaded, before the workers are forked. */
#define APPLIANCE_APP_WITH(handler, load) \
    const ApplianceHost *appliance_host; \
    __attribute__((visibility("default"))) const ApplianceApp *appliance_app(const ApplianceHost *host) \
    { \
        static const ApplianceApp app = {APPLIANCE_VERSION, sizeof(ApplianceApp), handler, load}; \
        appliance_host = host; \
        return host->version == APPLIANCE_VERSION ? &app : NULL; \
    }

/* Whether the worker has a function that older ones lack: `reason` and those below it. Without it a call answers -ENOSYS. */
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

/* Why the last call of a cache or a metric that failed on this thread did so: a sentence that ends with a zero, empty if there is
 * no room for it; 512 bytes will do. */
static inline void appliance_reason(char *into, size_t size)
{
    ptrdiff_t length = APPLIANCE_HAS(reason) ? appliance_host->reason(into, size) : 0;
    if (size > 0) {
        into[length >= 0 && (size_t)length < size ? length : 0] = '\0';
    }
}

/* Caches, which all workers share, and Python beside. The name of the first one may be left empty: "". Calls take microseconds,
 * wait for no other request, and work on every thread. `micros` is how long an item lives: APPLIANCE_FOREVER,
 * APPLIANCE_CONFIGURED, or so many microseconds. */
#define APPLIANCE_FOREVER 0
#define APPLIANCE_CONFIGURED (-1)

/* The length of the value, which is in `into` if there is room; -ENODATA if there is none. */
static inline ptrdiff_t appliance_cache_get(const char *cache, const char *key, char *into, size_t size)
{
    return APPLIANCE_HAS(cache_get)
        ? appliance_host->cache_get(appliance_string(cache), appliance_string(key), into, size)
        : -ENOSYS;
}

static inline int32_t appliance_cache_put(const char *cache, const char *key, ApplianceText value, int64_t micros, uint32_t add)
{
    return APPLIANCE_HAS(cache_set)
        ? appliance_host->cache_set(appliance_string(cache), appliance_string(key), value, micros, add)
        : -ENOSYS;
}

/* Stores a value. */
static inline int32_t appliance_cache_set(const char *cache, const char *key, const char *data, size_t length, int64_t micros)
{
    return appliance_cache_put(cache, key, appliance_bytes(data, length), micros, 0);
}

/* Stores a value if the key has none; 1 if it has. */
static inline int32_t appliance_cache_add(const char *cache, const char *key, const char *data, size_t length, int64_t micros)
{
    return appliance_cache_put(cache, key, appliance_bytes(data, length), micros, 1);
}

/* Removes a key; 1 if it was not there. */
static inline int32_t appliance_cache_delete(const char *cache, const char *key)
{
    return APPLIANCE_HAS(cache_delete)
        ? appliance_host->cache_delete(appliance_string(cache), appliance_string(key))
        : -ENOSYS;
}

/* Adds to the number of a key, which begins at 0 and has that life from then on, and gives it. */
static inline int32_t appliance_cache_increment(const char *cache, const char *key, int64_t by, int64_t micros, int64_t *number)
{
    return APPLIANCE_HAS(cache_count)
        ? appliance_host->cache_count(appliance_string(cache), appliance_string(key), by, micros, number)
        : -ENOSYS;
}

/* How many microseconds a key has left, less than 0 if it does not expire; 1 if it is not there. */
static inline int32_t appliance_cache_life(const char *cache, const char *key, int64_t *micros)
{
    return APPLIANCE_HAS(cache_life)
        ? appliance_host->cache_life(appliance_string(cache), appliance_string(key), micros)
        : -ENOSYS;
}

/* Shows every key to a function. */
static inline int32_t appliance_cache_keys(const char *cache, ApplianceShow show, void *data)
{
    return APPLIANCE_HAS(cache_keys) ? appliance_host->cache_keys(appliance_string(cache), show, data) : -ENOSYS;
}

/* Removes everything. */
static inline int32_t appliance_cache_clear(const char *cache)
{
    return APPLIANCE_HAS(cache_clear) ? appliance_host->cache_clear(appliance_string(cache)) : -ENOSYS;
}

/* The length of a JSON text that says how full it is; it is in `into` if there is room. */
static inline ptrdiff_t appliance_cache_stats(const char *cache, char *into, size_t size)
{
    return APPLIANCE_HAS(cache_stats) ? appliance_host->cache_stats(appliance_string(cache), into, size) : -ENOSYS;
}

/* Metrics, which all workers count together. These give the number of a series, made if there is none, which stays the same;
 * with a label, that of the series with its value: appliance_metric_counter("orders_total", "Orders.", "kind", "book"). NULL, NULL:
 * the metric has no labels. With more than one, call `metric` and `metric_series` of the host. */
static inline int64_t appliance_metric_series(
    uint32_t kind, const char *name, const char *help, const double *bounds, size_t count, const char *label, const char *value)
{
    ApplianceLabel only = {appliance_string(label ? label : ""), appliance_string(label ? value : "")};
    size_t labels = label ? 1 : 0;
    ApplianceMetric wanted = {kind, appliance_string(name), appliance_string(help), &only.name, labels, bounds, count};
    int64_t metric = APPLIANCE_HAS(metric_series) ? appliance_host->metric(&wanted) : -ENOSYS;
    return metric < 0 ? metric : appliance_host->metric_series(metric, &only, labels);
}

static inline int64_t appliance_metric_counter(const char *name, const char *help, const char *label, const char *value)
{
    return appliance_metric_series(APPLIANCE_COUNTER, name, help, NULL, 0, label, value);
}

static inline int64_t appliance_metric_gauge(const char *name, const char *help, const char *label, const char *value)
{
    return appliance_metric_series(APPLIANCE_GAUGE, name, help, NULL, 0, label, value);
}

/* `bounds` are the upper ones of its ranges, ascending, at most 24. */
static inline int64_t appliance_metric_histogram(
    const char *name, const char *help, const double *bounds, size_t count, const char *label, const char *value)
{
    return appliance_metric_series(APPLIANCE_HISTOGRAM, name, help, bounds, count, label, value);
}

static inline int32_t appliance_metric_change(int64_t series, uint32_t how, double value)
{
    return APPLIANCE_HAS(metric_change) ? appliance_host->metric_change(series, how, value) : -ENOSYS;
}

/* Adds to a counter or a gauge. */
static inline int32_t appliance_metric_add(int64_t series, double amount)
{
    return appliance_metric_change(series, APPLIANCE_ADD, amount);
}

/* Replaces the value of a gauge. */
static inline int32_t appliance_metric_set(int64_t series, double value)
{
    return appliance_metric_change(series, APPLIANCE_SET, value);
}

/* The same, unless it is more already. */
static inline int32_t appliance_metric_set_max(int64_t series, double value)
{
    return appliance_metric_change(series, APPLIANCE_MAX, value);
}

/* The same, unless it is less already. */
static inline int32_t appliance_metric_set_min(int64_t series, double value)
{
    return appliance_metric_change(series, APPLIANCE_MIN, value);
}

/* Counts an observation of a histogram. */
static inline int32_t appliance_metric_observe(int64_t series, double value)
{
    return appliance_metric_change(series, APPLIANCE_OBSERVE, value);
}

/* What all workers have made of a series; of a histogram the sum of its observations, and how many there were. */
static inline int32_t appliance_metric_value(int64_t series, double *value, uint64_t *observations)
{
    return APPLIANCE_HAS(metric_value) ? appliance_host->metric_value(series, value, observations) : -ENOSYS;
}

#ifdef __cplusplus
}
#endif

#endif /* APPLIANCE_CALLS_H */
