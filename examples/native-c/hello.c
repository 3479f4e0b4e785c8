/* A native application in C: greets whoever asks, and waits without keeping the others. */
#include <appliance.h>

static int32_t hello(void)
{
    ApplianceText query = appliance_text(APPLIANCE_QUERY);
    if (query.length == 4 && memcmp(query.data, "wait", 4) == 0 && appliance_sleep(100000) < 0) {
        return 1;
    }
    appliance_add_header("Content-Type", "text/plain");
    return appliance_write("Hello from C!\n", 14);
}

APPLIANCE_APP(hello)
