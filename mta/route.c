/*
 * route.c - what a route demands, the name of its next hop, reading a host
 *
 * Pure.
 */
#include "mta/route.h"

#include <errno.h>

#include "core/check.h"
#include "mta/pattern.h"
#include "tls/tls_server.h"

enum tls_level route_floor(const struct route *route)
{
    bool never_clear = route->tls.level == TLS_LEVEL_MAY && route->clear == ROUTE_CLEAR_NEVER;
    return never_clear ? TLS_LEVEL_ENCRYPT : route->tls.level;
}

bool route_by_domain(const struct route *route)
{
    CHECK(route->hosts_count > 0);
    return route->hosts[0].kind == ROUTE_HOST_MX;
}

enum tls_level route_level(const struct route *route, enum tls_level floor)
{
    return floor <= route_floor(route) ? route->tls.level : floor;
}

void route_policy(const struct route *route, enum tls_level floor, struct tls_client_policy *policy)
{
    *policy = route->tls;
    policy->level = route_level(route, floor);
    if (floor <= route_floor(route))
        return;
    policy->version_min = MAX(policy->version_min, (unsigned)TLS_VERSION_12);
    if (floor == TLS_LEVEL_INTERNAL) { /* this route has no private roots: nobody satisfies it */
        policy->version_min = TLS_VERSION_13;
        policy->roots = NULL;
    }
    tls_client_policy_seal(policy, route->tls_names, route->tls_names_count);
}

static size_t append(char out[ROUTE_KEY_BYTES], size_t at, struct slice text)
{
    CHECK(at + text.size < ROUTE_KEY_BYTES);
    memcpy(out + at, text.data, text.size);
    return at + text.size;
}

static const struct slice wishes[ROUTE_WISHES] = {
    [ROUTE_WISH_NONE] = SLICE(""),
    [ROUTE_WISH_REQUIRETLS] = SLICE("+requiretls"),
    [ROUTE_WISH_REQUIRETLS_NULL] = SLICE("+requiretls-null"),
    [ROUTE_WISH_TLS_OPTIONAL] = SLICE("+tls-optional"),
};

size_t route_key(const struct route *route, struct slice domain, enum tls_level floor,
                 enum route_wish wish, char out[ROUTE_KEY_BYTES])
{
    size_t size = 0;
    CHECK(domain.size < PATTERN_TEXT_MAX);
    if (*route->name == '\0') {
        size = append(out, 0, SLICE("mx:"));
        size = append(out, size, domain);
    } else {
        size = append(out, 0, SLICE("outbound:"));
        size = append(out, size, slice_of_string(route->name));
        if (route_by_domain(route)) {
            size = append(out, size, SLICE(":"));
            size = append(out, size, domain);
        }
    }
    if (floor > route_floor(route)) {
        size = append(out, size, SLICE("!"));
        size = append(out, size, slice_of_string(tls_level_name(floor)));
    }
    size = append(out, size, wishes[wish]);
    out[size] = '\0';
    return size;
}

static enum tls_level level_named(struct slice name)
{
    enum tls_level level = TLS_LEVEL_INTERNAL;
    while (level > TLS_LEVEL_NONE && !slice_equal(slice_of_string(tls_level_name(level)), name))
        level--;
    return level;
}

/* One that this version does not know was written by a later one: none is stricter. */
static enum route_wish wish_named(struct slice name)
{
    for (unsigned wish = ROUTE_WISH_REQUIRETLS; wish < ROUTE_WISHES; wish++)
        if (slice_equal(wishes[wish], name))
            return (enum route_wish)wish;
    return ROUTE_WISH_REQUIRETLS;
}

bool route_key_read(const char *key, struct route_key_parts *parts)
{
    struct slice rest = slice_of_string(key);
    *parts = (struct route_key_parts) { .floor = TLS_LEVEL_NONE };
    ptrdiff_t mark = slice_find(rest, '+'); /* in no name, and in no domain in normal form */
    if (mark >= 0) {
        parts->wish = wish_named(slice_from(rest, (size_t)mark));
        rest = slice_part(rest, 0, (size_t)mark);
    }
    mark = slice_find(rest, '!'); /* nor is this */
    if (mark >= 0) {
        parts->floor = level_named(slice_from(rest, (size_t)mark + 1));
        rest = slice_part(rest, 0, (size_t)mark);
    }
    struct slice domain = slice_of(NULL, 0);
    if (slice_starts_nocase(rest, SLICE("mx:"))) {
        domain = slice_from(rest, 3);
    } else if (slice_starts_nocase(rest, SLICE("outbound:"))) {
        parts->name = slice_from(rest, 9);
        ptrdiff_t colon = slice_find(parts->name, ':');
        if (colon >= 0) {
            domain = slice_from(parts->name, (size_t)colon + 1);
            parts->name = slice_part(parts->name, 0, (size_t)colon);
        }
    } else {
        return false;
    }
    slice_to_string(domain, parts->domain, sizeof(parts->domain));
    return true;
}

static int port_parse(struct slice text, uint16_t *port, const char **why)
{
    uint64_t number;
    if (slice_to_u64(text, 65'535, &number) < 0 || number == 0) {
        *why = "behind the colon stands no port; write 1 to 65535 (and IPv6 addresses in [ ])";
        return -EINVAL;
    }
    *port = (uint16_t)number;
    return 0;
}

static int address_parse_host(struct slice text, struct route_host *host, const char **why)
{
    ptrdiff_t bracket = slice_find(text, ']');
    *why = "no address inside [ ]; write [192.0.2.1]:25 or [2001:db8::1]:25";
    if (bracket < 0)
        return -EINVAL;
    struct slice inner = slice_part(text, 1, (size_t)bracket - 1);
    struct slice rest = slice_from(text, (size_t)bracket + 1);
    if (slice_find(inner, '[') >= 0)
        return -EINVAL;
    /* net_parse takes v6 with a port only in brackets, and v4 only without */
    struct slice bare =
        slice_find(inner, ':') >= 0 ? slice_part(text, 0, (size_t)bracket + 1) : inner;
    if (net_parse(bare, 0, &host->address) < 0)
        return -EINVAL;
    host->kind = ROUTE_HOST_ADDRESS;
    if (rest.size == 0)
        return 0;
    *why = "only :port may follow the ]";
    if (rest.data[0] != ':')
        return -EINVAL;
    return port_parse(slice_from(rest, 1), &host->port, why);
}

static int name_parse(struct slice text, char name_out[ROUTE_HOST_TEXT_MAX],
                      struct route_host *host, const char **why)
{
    *why = "no host name; write name, name:port, [address]:port, mx or mx:domain";
    if (text.size == 0 || text.data[0] == '[')
        return -EINVAL;
    int size = pattern_normalise(text, name_out);
    if (size < 0)
        return size;
    host->name = name_out;
    return 0;
}

int route_host_parse(struct slice text, char name_out[ROUTE_HOST_TEXT_MAX], struct route_host *host,
                     const char **why)
{
    static_assert((int)ROUTE_HOST_TEXT_MAX == (int)PATTERN_TEXT_MAX);
    *host = (struct route_host) { .kind = ROUTE_HOST_NAME, .name = "" };
    if (text.size > 0 && text.data[0] == '[')
        return address_parse_host(text, host, why);
    if (slice_equal(text, SLICE("mx"))) {
        host->kind = ROUTE_HOST_MX;
        return 0;
    }
    if (slice_starts_nocase(text, SLICE("mx:"))) {
        host->kind = ROUTE_HOST_MX_OF;
        return name_parse(slice_from(text, 3), name_out, host, why);
    }
    ptrdiff_t colon = slice_find(text, ':');
    if (colon >= 0) { /* not an IPv6 address: is 2001:db8::1:25 one, or a port behind one? */
        int r = port_parse(slice_from(text, (size_t)colon + 1), &host->port, why);
        if (r < 0)
            return r;
        text = slice_part(text, 0, (size_t)colon);
    }
    if (net_parse(text, 0, &host->address) == 0) {
        host->kind = ROUTE_HOST_ADDRESS;
        return 0;
    }
    host->address = (struct net_address) { .port = 0 };
    return name_parse(text, name_out, host, why);
}
