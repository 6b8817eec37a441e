/*
 * admin_wire.c - what an operator asks of a wire trace, read from the query and checked
 */
#include "mta/admin_wire.h"

#include <stdio.h>
#include <string.h>

#include "mta/control.h"

enum { SECONDS_DEFAULT = 60 };

static const char *argument_of(struct MHD_Connection *connection, const char *key)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, key);
}

static json_t *refused(unsigned *status, unsigned code, const char *why)
{
    *status = code;
    return json_pack("{s:s}", "error", why);
}

/* False: it is there, and no number from 1 to max. */
static bool number_of(struct MHD_Connection *connection, const char *key, uint64_t max,
                      uint64_t *number)
{
    const char *text = argument_of(connection, key);
    return text == NULL || (slice_to_u64(slice_of_string(text), max, number) == 0 && *number > 0);
}

/* False: too long. */
static bool name_of(struct MHD_Connection *connection, const char *key,
                    char out[static WIRE_NAME_MAX])
{
    const char *text = argument_of(connection, key);
    int size = snprintf(out, WIRE_NAME_MAX, "%s", text == NULL ? "" : text);
    return size < WIRE_NAME_MAX;
}

static json_t *begin(struct control *control, struct MHD_Connection *connection, unsigned *status)
{
    struct wire_wish wish = { .headers = argument_of(connection, "headers") != NULL };
    const char *peer = argument_of(connection, "peer");
    uint64_t count = 1;
    uint64_t seconds = SECONDS_DEFAULT;
    const char *why;
    if (!name_of(connection, "destination", wish.destination) ||
        !name_of(connection, "listener", wish.listener))
        return refused(status, MHD_HTTP_BAD_REQUEST, "too long a name");
    wish.by_peer = peer != NULL;
    if (peer != NULL && net_parse_prefix(slice_of_string(peer), &wish.peer) < 0)
        return refused(status, MHD_HTTP_BAD_REQUEST, "peer: an address, or address/bits");
    if (!wish.by_peer && wish.destination[0] == '\0' && wish.listener[0] == '\0')
        return refused(status, MHD_HTTP_BAD_REQUEST, "say whose: peer, destination or listener");
    if (wish.destination[0] != '\0' && wish.listener[0] != '\0')
        return refused(status, MHD_HTTP_BAD_REQUEST,
                       "destination and listener: no session is both out and in");
    if (!number_of(connection, "count", WIRE_COUNT_MAX, &count))
        return refused(status, MHD_HTTP_BAD_REQUEST, "count: 1 to 1000 sessions");
    if (!number_of(connection, "seconds", WIRE_SECONDS_MAX, &seconds))
        return refused(status, MHD_HTTP_BAD_REQUEST, "seconds: 1 to 3600");
    json_t *begun = control_wire_begin(control, &wish, (uint32_t)count, (uint32_t)seconds, &why);
    return begun != NULL ? begun : refused(status, MHD_HTTP_CONFLICT, why);
}

json_t *admin_wire(struct control *control, struct MHD_Connection *connection, bool post,
                   const char *rest, unsigned *status)
{
    uint64_t number = 0;
    *status = MHD_HTTP_OK;
    if (post && *rest == '\0')
        return begin(control, connection, status);
    if (!number_of(connection, "trace", UINT32_MAX, &number) || number == 0)
        return refused(status, MHD_HTTP_BAD_REQUEST, "trace: its number");
    if (post && strcmp(rest, "/end") == 0 && control_wire_end(control, number))
        return json_object();
    json_t *page = !post && *rest == '\0' ? control_wire_page(control, number) : NULL;
    return page != NULL ? page : refused(status, MHD_HTTP_NOT_FOUND, "no such trace");
}
