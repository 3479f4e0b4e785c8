/* A native application in C: greets whoever asks and counts that for /metrics, waits without keeping the others, and counts
 * visits in a cache. */
#include <appliance.h>
#include <stdio.h>

static int32_t greet(void)
{
    appliance_metric_add(appliance_metric_counter("greetings_total", "How often somebody was greeted.", NULL, NULL), 1);
    return appliance_write("Hello from C!\n", 14);
}

static int32_t count_visit(void)
{
    char text[512];
    int64_t count;
    if (appliance_cache_increment("visits", "count", 1, APPLIANCE_CONFIGURED, &count) < 0) {
        appliance_reason(text, sizeof text);
        return appliance_fail(text);
    }
    return appliance_write(text, (size_t)sprintf(text, "visit %lld\n", (long long)count));
}

static int32_t hello(void)
{
    ApplianceText query = appliance_text(APPLIANCE_QUERY);
    if (query.length == 4 && memcmp(query.data, "wait", 4) == 0 && appliance_sleep(100000) < 0) {
        return 1;
    }
    appliance_add_header("Content-Type", "text/plain");
    return query.length == 5 && memcmp(query.data, "visit", 5) == 0 ? count_visit() : greet();
}

APPLIANCE_APP(hello)
