/*
 * test_route.c - hosts that are none; names of next hops, to and fro
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "mta/config.h"
#include "tls/tls_server.h"

static struct config *config_of(const char *text)
{
    static struct config_report report;
    struct config *config;
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return config;
}

#define LISTENER "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"

Test(route, refuses_hosts)
{
    static const char *const bad[] = {
        "",
        ":",
        ":25",
        "a b",
        "a:",
        "a:0",
        "a:65536",
        "a:25x",
        "a:2:5",
        "a..b",
        "-a.d",
        "mx:",
        "mx:a b",
        "mx:[192.0.2.1]",
        "[",
        "[]",
        "[192.0.2.1",
        "192.0.2.1]",
        "[192.0.2.1]x",
        "[192.0.2.1]:",
        "[192.0.2.1]:0",
        "[[192.0.2.1]]",
        "[a.d]:25",
        "[192.0.2.1]:25:26",
        "2001:db8::1",
        "2001:db8::1:25",
        "smtp://a.d",
        "a.d/24",
        "192.0.2.1:70000",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
        char name[ROUTE_HOST_TEXT_MAX];
        struct route_host host;
        const char *why = NULL;
        cr_assert_eq(route_host_parse(slice_of_string(bad[i]), name, &host, &why), -EINVAL, "`%s`",
                     bad[i]);
        cr_assert_not_null(why);
    }
}

Test(route, takes_hosts)
{
    static const struct {
        const char *text;
        enum route_host_kind kind;
        const char *name; /* or the address as text */
        uint16_t port;
    } good[] = {
        { "mx", ROUTE_HOST_MX, "", 0 },
        { "mx:D.Example.", ROUTE_HOST_MX_OF, "d.example", 0 },
        { "Mail.example", ROUTE_HOST_NAME, "mail.example", 0 },
        { "mail.example:2525", ROUTE_HOST_NAME, "mail.example", 2525 },
        { "mx1", ROUTE_HOST_NAME, "mx1", 0 },
        { "mx.example", ROUTE_HOST_NAME, "mx.example", 0 },
        { "192.0.2.1", ROUTE_HOST_ADDRESS, "192.0.2.1", 0 },
        { "192.0.2.1:26", ROUTE_HOST_ADDRESS, "192.0.2.1", 26 },
        { "[192.0.2.1]", ROUTE_HOST_ADDRESS, "192.0.2.1", 0 },
        { "[192.0.2.1]:26", ROUTE_HOST_ADDRESS, "192.0.2.1", 26 },
        { "[2001:db8::1]", ROUTE_HOST_ADDRESS, "2001:db8::1", 0 },
        { "[2001:db8::1]:26", ROUTE_HOST_ADDRESS, "2001:db8::1", 26 },
        { "b\xc3\xbc"
          "cher.example:25",
          ROUTE_HOST_NAME, "xn--bcher-kva.example", 25 },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(good); i++) {
        char name[ROUTE_HOST_TEXT_MAX], text[NET_TEXT_MAX];
        struct route_host host;
        const char *why = "";
        cr_assert_eq(route_host_parse(slice_of_string(good[i].text), name, &host, &why), 0,
                     "`%s`: %s", good[i].text, why);
        cr_assert_eq(host.kind, good[i].kind, "%s", good[i].text);
        cr_assert_eq(host.port, good[i].port, "%s", good[i].text);
        net_text(&host.address, false, text);
        cr_assert_str_eq(host.kind == ROUTE_HOST_ADDRESS ? text : host.name, good[i].name);
    }
}

/* The key of the destination that a domain has, with this floor. */
static const char *key_of(const struct config *config, const char *domain, enum tls_level floor)
{
    static char key[ROUTE_KEY_BYTES];
    struct slice d = slice_of_string(domain);
    const struct outbound_facts facts = { .recipient_domain = d };
    struct outbound_choice choice;
    outbound_select(&config->outbound, &facts, &choice);
    size_t size =
        route_key(outbound_route(&config->outbound, &choice), d, floor, ROUTE_WISH_NONE, key);
    cr_assert_eq(size, strlen(key));
    return key;
}

#define OUTBOUND(name) "outbound " name " { type = partner state = enforce "

Test(route, keys_name_the_next_hop)
{
    struct config *config =
        config_of(LISTENER OUTBOUND("a") "domains = { a.d } hosts = { h } }\n" OUTBOUND(
            "m") "domains = { *.m.d } hosts = { mx } }\n" OUTBOUND("e") "domains = { e.d } hosts = "
                                                                        "{ h } tls = encrypt "
                                                                        "}\n" OUTBOUND("n") "domain"
                                                                                            "s = { "
                                                                                            "n.d } "
                                                                                            "hosts "
                                                                                            "= { h "
                                                                                            "} "
                                                                                            "cleart"
                                                                                            "ext = "
                                                                                            "never "
                                                                                            "}\n");
    cr_assert_str_eq(key_of(config, "a.d", TLS_LEVEL_NONE), "outbound:a");
    cr_assert_str_eq(key_of(config, "b.m.d", TLS_LEVEL_MAY), "outbound:m:b.m.d");
    cr_assert_str_eq(key_of(config, "other.example", TLS_LEVEL_MAY), "mx:other.example");
    /* a floor stands in it where it is more than the route demands by itself */
    cr_assert_str_eq(key_of(config, "other.example", TLS_LEVEL_NAME), "mx:other.example!name");
    cr_assert_str_eq(key_of(config, "b.m.d", TLS_LEVEL_ENCRYPT), "outbound:m:b.m.d!encrypt");
    cr_assert_str_eq(key_of(config, "e.d", TLS_LEVEL_ENCRYPT), "outbound:e");
    cr_assert_str_eq(key_of(config, "e.d", TLS_LEVEL_CHAIN), "outbound:e!chain");
    cr_assert_str_eq(key_of(config, "n.d", TLS_LEVEL_ENCRYPT), "outbound:n");
    char longest[255], out[ROUTE_KEY_BYTES];
    memset(longest, 'a', sizeof(longest));
    struct route route = config->default_route;
    cr_assert_eq(route_key(&route, slice_of(longest, 255), TLS_LEVEL_MAY, ROUTE_WISH_NONE, out),
                 258);
    route.name = "sixty-three-octets-of-a-title-sixty-three-octets-of-a-title-63-";
    cr_assert_eq(route_key(&route, slice_of(longest, 255), TLS_LEVEL_INTERNAL,
                           ROUTE_WISH_REQUIRETLS_NULL, out),
                 ROUTE_KEY_BYTES - 1);
    config_free(config);
}

Test(route, keys_are_read_back)
{
    static const struct {
        const char *key, *name, *domain;
        enum tls_level floor;
        enum route_wish wish;
    } cases[] = {
        { "mx:d.example", "", "d.example", TLS_LEVEL_NONE, ROUTE_WISH_NONE },
        { "mx:d.example!name", "", "d.example", TLS_LEVEL_NAME, ROUTE_WISH_NONE },
        { "mx:[ipv6:::1]", "", "[ipv6:::1]", TLS_LEVEL_NONE, ROUTE_WISH_NONE },
        { "outbound:a", "a", "", TLS_LEVEL_NONE, ROUTE_WISH_NONE },
        { "outbound:a!internal", "a", "", TLS_LEVEL_INTERNAL, ROUTE_WISH_NONE },
        { "outbound:a:d.example", "a", "d.example", TLS_LEVEL_NONE, ROUTE_WISH_NONE },
        { "outbound:a:d.example!encrypt", "a", "d.example", TLS_LEVEL_ENCRYPT, ROUTE_WISH_NONE },
        { "mx:d.example+requiretls", "", "d.example", TLS_LEVEL_NONE, ROUTE_WISH_REQUIRETLS },
        { "outbound:a!chain+requiretls-null", "a", "", TLS_LEVEL_CHAIN,
          ROUTE_WISH_REQUIRETLS_NULL },
        { "outbound:a:d+tls-optional", "a", "d", TLS_LEVEL_NONE, ROUTE_WISH_TLS_OPTIONAL },
        { "outbound:a+of-a-later-version", "a", "", TLS_LEVEL_NONE, ROUTE_WISH_REQUIRETLS },
    };
    struct route_key_parts parts;
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        cr_assert(route_key_read(cases[i].key, &parts));
        cr_assert(slice_equal(parts.name, slice_of_string(cases[i].name)), "%s", cases[i].key);
        cr_assert_str_eq(parts.domain, cases[i].domain);
        cr_assert_eq(parts.floor, cases[i].floor);
        cr_assert_eq(parts.wish, cases[i].wish);
    }
    cr_assert_not(route_key_read("parked:", &parts));
    cr_assert_not(route_key_read("", &parts));
}

Test(route, a_floor_raises_the_policy_and_never_lowers_it)
{
    struct config *config =
        config_of(LISTENER OUTBOUND("a") "domains = { a.d } hosts = { h } tls = none }\n" OUTBOUND(
            "e") "domains = { e.d } hosts = { h } tls = encrypt tls-min = 1.3 }\n");
    const struct outbound_set *set = &config->outbound;
    const struct route *a = &outbound_named(set, SLICE("a"))->route;
    const struct route *e = &outbound_named(set, SLICE("e"))->route;
    struct tls_client_policy policy;
    route_policy(e, TLS_LEVEL_MAY, &policy);
    cr_assert_eq(policy.level, TLS_LEVEL_ENCRYPT);
    cr_assert_eq(memcmp(policy.digest, e->tls.digest, sizeof(policy.digest)), 0);
    route_policy(a, TLS_LEVEL_ENCRYPT, &policy);
    cr_assert_eq(policy.level, TLS_LEVEL_ENCRYPT);
    cr_assert_neq(memcmp(policy.digest, a->tls.digest, sizeof(policy.digest)), 0,
                  "a session of less is not resumed");
    route_policy(e, TLS_LEVEL_INTERNAL, &policy);
    cr_assert_eq(policy.level, TLS_LEVEL_INTERNAL);
    cr_assert_eq(policy.version_min, TLS_VERSION_13);
    cr_assert_null(policy.roots, "no public authority vouches for our own hosts");
    config_free(config);
}
