/* WebSockets: the functions of the worker as a C application calls them. Included by appliance.h, which says what each of them
 * does; a worker that is older than them answers -ENOSYS. A handler that echoes:
 *
 *     static int32_t echo(void)
 *     {
 *         ApplianceText message;
 *         int32_t kind;
 *         int64_t socket = appliance_websocket_accept("");
 *         if (socket < 0)
 *             return 1;
 *         while ((kind = appliance_websocket_receive(&message, -1)) > 0)
 *             appliance_websocket_send(socket, kind, message.data, message.length);
 *         return 0;
 *     } */

#ifndef APPLIANCE_WEBSOCKET_H
#define APPLIANCE_WEBSOCKET_H

#include <errno.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline int32_t appliance_websocket_offer(size_t index, ApplianceText *protocol)
{
    return APPLIANCE_HAS(websocket_offer) ? appliance_host->websocket_offer(index, protocol) : -ENOSYS;
}

/* Whether the client wants a WebSocket, and asks for it as one must. */
static inline int appliance_wants_websocket(void)
{
    ApplianceText protocol;
    return appliance_websocket_offer(0, &protocol) >= 0;
}

/* Whether the client speaks this subprotocol. */
static inline int appliance_websocket_speaks(const char *protocol)
{
    ApplianceText offered;
    size_t index, length = strlen(protocol);
    for (index = 0; appliance_websocket_offer(index, &offered) == 0; index++)
        if (offered.length == length && memcmp(offered.data, protocol, length) == 0)
            return 1;
    return 0;
}

static inline int64_t appliance_websocket_accept(const char *protocol)
{
    return APPLIANCE_HAS(websocket_accept) ? appliance_host->websocket_accept(appliance_string(protocol)) : -ENOSYS;
}

static inline int32_t appliance_websocket_receive(ApplianceText *message, int64_t micros)
{
    return APPLIANCE_HAS(websocket_receive) ? appliance_host->websocket_receive(message, micros) : -ENOSYS;
}

static inline int32_t appliance_websocket_send(int64_t socket, int32_t kind, const char *data, size_t length)
{
    return APPLIANCE_HAS(websocket_send)
        ? appliance_host->websocket_send(socket, (uint32_t)kind, appliance_bytes(data, length))
        : -ENOSYS;
}

static inline int32_t appliance_websocket_close(int64_t socket, uint16_t code, const char *reason)
{
    return APPLIANCE_HAS(websocket_close)
        ? appliance_host->websocket_close(socket, code, appliance_string(reason))
        : -ENOSYS;
}

static inline int32_t appliance_websocket_closed(ApplianceText *reason)
{
    return APPLIANCE_HAS(websocket_closed) ? appliance_host->websocket_closed(reason) : -ENOSYS;
}

#ifdef __cplusplus
}
#endif

#endif /* APPLIANCE_WEBSOCKET_H */
