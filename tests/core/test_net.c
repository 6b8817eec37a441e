/*
 * test_net.c - addresses as text, as kernel structures, and in networks
 */
#include "core/net.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct net_address address(const char *text)
{
    struct net_address a;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &a), 0, "%s", text);
    return a;
}

Test(net, what_is_not_an_address)
{
    static const char *const bad[] = {
        "",
        " ",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.04",
        "01.2.3.4",
        "0x1.2.3.4",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:25:25",
        "1.2.3.4:a",
        "[1.2.3.4]",
        "[1.2.3.4]:25",
        "[::1",
        "::1]",
        "[::1]25",
        "[::1]:",
        "[::1]:0",
        "[::1]:65536",
        "[]",
        "[]:25",
        ":25",
        "[::1]x",
        ":",
        ":::",
        "1::2::3",
        "fe80::1%eth0",
        "[fe80::1%1]:25",
        "12345::",
        "::1.2.3",
        "localhost",
        "1:2:3:4:5:6:7:8:9",
        "2001:db8::1/64",
        "192.0.2.1/24",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
    };
    struct net_address a = { .port = 7 };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(net_parse(slice_of_string(bad[i]), 25, &a), -EINVAL, "%s", bad[i]);
    cr_assert_eq(net_parse(slice_of("1.2.3.4\0", 8), 25, &a), -EINVAL);
    cr_assert_eq(net_parse(slice_of("1.2.3.4\0:25", 11), 25, &a), -EINVAL);
    cr_assert_eq(net_parse(slice_of(NULL, 0), 25, &a), -EINVAL);
    cr_assert_eq(a.port, 7);
}

Test(net, addresses_and_their_text)
{
    static const struct {
        const char *in, *text, *with_port;
    } cases[] = {
        { "192.0.2.1", "192.0.2.1", "192.0.2.1:25" },
        { "192.0.2.1:587", "192.0.2.1", "192.0.2.1:587" },
        { "0.0.0.0:1", "0.0.0.0", "0.0.0.0:1" },
        { "255.255.255.255:65535", "255.255.255.255", "255.255.255.255:65535" },
        { "::", "::", "[::]:25" },
        { "2001:DB8:0:0::1", "2001:db8::1", "[2001:db8::1]:25" },
        { "[2001:db8::1]", "2001:db8::1", "[2001:db8::1]:25" },
        { "[2001:db8::1]:465", "2001:db8::1", "[2001:db8::1]:465" },
        { "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1:25" }, /* one form */
        { "1:2222:3333:4444:5555:6666:7777:8888", "1:2222:3333:4444:5555:6666:7777:8888",
          "[1:2222:3333:4444:5555:6666:7777:8888]:25" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct net_address a;
        char text[NET_TEXT_MAX];
        cr_assert_eq(net_parse(slice_of_string(cases[i].in), 25, &a), 0, "%s", cases[i].in);
        cr_assert_eq(net_text(&a, false, text), strlen(cases[i].text));
        cr_assert_str_eq(text, cases[i].text);
        cr_assert_eq(net_text(&a, true, text), strlen(cases[i].with_port));
        cr_assert_str_eq(text, cases[i].with_port);
    }
}

Test(net, what_is_not_a_prefix)
{
    static const char *const bad[] = {
        "",
        "/",
        "/24",
        "192.0.2.0/",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "192.0.2.0/+8",
        "192.0.2.1/24",
        "192.0.2.0/24/24",
        "192.0.2.0/255.255.255.0",
        "192.0.2/24",
        "::/129",
        "2001:db8::1/32",
        "2001:db8::/ 32",
        "[2001:db8::]/32",
        "192.0.2.0:25",
        "128.0.0.0/0",
        "2001:db9::/31",
    };
    struct net_prefix prefix;
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(net_parse_prefix(slice_of_string(bad[i]), &prefix), -EINVAL, "%s", bad[i]);
}

Test(net, prefixes_hold_what_they_should)
{
    static const struct {
        const char *prefix, *address;
        bool in;
    } cases[] = {
        { "192.0.2.0/24", "192.0.1.255", false },
        { "192.0.2.0/24", "192.0.3.0", false },
        { "192.0.2.0/24", "::192.0.2.1", false },
        { "192.0.2.128/25", "192.0.2.127", false },
        { "0.0.0.0/0", "2001:db8::1", false },
        { "::1", "::2", false },
        { "2001:db8::/33", "2001:db8:8000::", false },
        { "192.0.2.0/24", "192.0.2.0", true },
        { "192.0.2.0/24", "192.0.2.255", true },
        { "192.0.2.128/25", "192.0.2.128", true },
        { "0.0.0.0/0", "203.0.113.1", true },
        { "::/0", "203.0.113.1", true },
        { "::/0", "2001:db8::1", true },
        { "192.0.2.7", "192.0.2.7", true },
        { "192.0.2.6/31", "192.0.2.7", true },
        { "2001:db8::/33", "2001:db8:7fff::", true },
        { "::1/128", "::1", true },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct net_prefix prefix;
        struct net_address a = address(cases[i].address);
        cr_assert_eq(net_parse_prefix(slice_of_string(cases[i].prefix), &prefix), 0);
        cr_assert_eq(net_in(&prefix, &a), cases[i].in, "%s %s", cases[i].prefix, cases[i].address);
    }
}

Test(net, special_addresses)
{
    static const char *const special[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.255.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.3.4",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2001:1ff::",
        "2002:7f00:1::",
        "2002:0a00:0001::1",
        "3fff::1",
        "3fff:fff::",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "febf::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
    };
    static const char *const ordinary[] = {
        "1.1.1.1",          "9.255.255.255", "11.0.0.1",     "100.63.255.255", "100.128.0.1",
        "126.255.255.255",  "128.0.0.1",     "169.253.1.1",  "172.15.255.255", "172.32.0.1",
        "192.0.1.1",        "192.0.3.1",     "192.88.98.1",  "192.167.1.1",    "192.169.0.1",
        "198.17.255.255",   "198.20.0.1",    "198.51.101.1", "203.0.112.1",    "223.255.255.255",
        "::ffff:8.8.8.8",   "2001:200::1",   "2001:db7::1",  "2001:db9::1",    "2002:808:808::1",
        "64:ff9b::8.8.8.8", "2400::1",       "3ffe::1",      "3fff:1000::",    "5eff::1",
        "5f01::1",          "101::1",        "100:0:0:1::",  "fbff::1",        "fe00::1",
        "64:ff9c::1",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(special); i++) {
        struct net_address a = address(special[i]);
        cr_assert(net_is_special(&a), "%s", special[i]);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(ordinary); i++) {
        struct net_address a = address(ordinary[i]);
        cr_assert_not(net_is_special(&a), "%s", ordinary[i]);
    }
}

Test(net, loopback_and_version)
{
    struct net_address v4 = address("127.1.2.3");
    struct net_address v6 = address("::1");
    struct net_address other = address("128.0.0.1");
    struct net_address other6 = address("::2");
    cr_assert_not(net_is_loopback(&other));
    cr_assert_not(net_is_loopback(&other6));
    cr_assert(net_is_loopback(&v4));
    cr_assert(net_is_loopback(&v6));
    cr_assert(net_is_v4(&v4));
    cr_assert_not(net_is_v4(&v6));
}

Test(net, equality)
{
    struct net_address a = address("192.0.2.1:25");
    struct net_address b = address("192.0.2.1:26");
    struct net_address c = address("192.0.2.2:25");
    cr_assert_not(net_equal(&a, &b));
    cr_assert_not(net_equal(&a, &c));
    cr_assert_not(net_equal_host(&a, &c));
    cr_assert(net_equal_host(&a, &b));
    b.port = 25;
    cr_assert(net_equal(&a, &b));
}

Test(net, kernel_structures_and_back)
{
    static const char *const all[] = { "192.0.2.1:25", "[2001:db8::1]:587", "0.0.0.0", "::" };
    struct sockaddr_storage s;
    struct net_address back;
    for (unsigned i = 0; i < ARRAY_COUNT(all); i++) {
        struct net_address a = address(all[i]);
        socklen_t size = net_to_sockaddr(&a, &s);
        cr_assert_eq(s.ss_family, net_is_v4(&a) ? AF_INET : AF_INET6);
        cr_assert_eq(size,
                     net_is_v4(&a) ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        net_from_sockaddr(&s, &back);
        cr_assert(net_equal(&a, &back), "%s", all[i]);
    }
    memset(&s, 0, sizeof(s));
    s.ss_family = AF_UNIX;
    net_from_sockaddr(&s, &back);
    cr_assert(net_is_special(&back));
    cr_assert_eq(back.port, 0);
}

Test(net, masks)
{
    struct net_address a = address("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:25");
    struct net_address v4 = address("192.0.2.255:25");
    char text[NET_TEXT_MAX];
    struct net_address cut = net_masked(&a, 49);
    net_text(&cut, true, text);
    cr_assert_str_eq(text, "[2001:db8:ffff:8000::]:0");
    cut = net_masked(&v4, 96 + 25);
    net_text(&cut, false, text);
    cr_assert_str_eq(text, "192.0.2.128");
    cut = net_masked(&v4, 128);
    cr_assert(net_equal_host(&cut, &v4));
    cut = net_masked(&v4, 0);
    net_text(&cut, false, text);
    cr_assert_str_eq(text, "::");
}
