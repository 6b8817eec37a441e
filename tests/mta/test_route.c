/*
 * test_route.c - hosts that are none; which route a domain takes; names of next hops
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "mta/config.h"

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

Test(route, a_domain_takes_the_most_specific_route_or_mx)
{
    struct config *config = config_of(
        LISTENER "route star { domains = { \"*.d.example\" } hosts = { h:2500 } }\n"
                 "route exact { domains = { d.example, a.d.example } hosts = { [2001:db8::1] } "
                 "protocol = lmtp port = 2424 }\n"
                 "route own { domains = { m.example } hosts = { mx } ehlo = other.example }\n");
    static const struct {
        const char *domain, *route;
    } cases[] = {
        { "d.example", "exact" },  { "a.d.example", "exact" },
        { "b.d.example", "star" }, { "c.b.d.example", "star" },
        { "m.example", "own" },    { "x.m.example", "" },
        { "example", "" },         { "", "" },
        { "[192.0.2.1]", "" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_str_eq(route_select(config, slice_of_string(cases[i].domain))->name,
                         cases[i].route, "%s", cases[i].domain);
    const struct route *exact = route_select(config, SLICE("d.example"));
    cr_assert_eq(exact->protocol, ROUTE_LMTP);
    cr_assert_eq(exact->hosts[0].port, 2424);
    cr_assert_eq(exact->hosts[0].address.port, 2424);
    cr_assert_str_eq(exact->ehlo, "mx.example.org");
    cr_assert_eq(route_select(config, SLICE("b.d.example"))->hosts[0].port, 2500);
    cr_assert_str_eq(route_select(config, SLICE("m.example"))->ehlo, "other.example");
    const struct route *mx = route_select(config, SLICE("example"));
    cr_assert_eq(mx, &config->default_route);
    cr_assert_eq(mx->hosts[0].kind, ROUTE_HOST_MX);
    cr_assert_eq(mx->hosts[0].port, 25);
    config_free(config);
}

Test(route, keys_name_the_next_hop)
{
    struct config *config =
        config_of(LISTENER "route a { domains = { a.d } hosts = { h } }\n"
                           "route m { domains = { \"*.m.d\" } hosts = { mx } }\n");
    char out[ROUTE_KEY_BYTES];
    struct slice d = SLICE("a.d");
    cr_assert_eq(route_key(route_select(config, d), d, out), strlen("route:a"));
    cr_assert_str_eq(out, "route:a");
    d = SLICE("b.m.d");
    route_key(route_select(config, d), d, out);
    cr_assert_str_eq(out, "route:m:b.m.d");
    d = SLICE("other.example");
    route_key(route_select(config, d), d, out);
    cr_assert_str_eq(out, "mx:other.example");
    char longest[255];
    memset(longest, 'a', sizeof(longest));
    cr_assert_eq(route_key(&config->default_route, slice_of(longest, 255), out), 258);
    struct route route = config->default_route;
    route.name = "sixty-three-octets-of-a-title-sixty-three-octets-of-a-title-63-";
    cr_assert_eq(route_key(&route, slice_of(longest, 255), out), ROUTE_KEY_BYTES - 1);
    config_free(config);
}
