/*
 * test_address.c - what is no mailbox, then what is one, and its canonical and ASCII forms
 */
#include <criterion/criterion.h>

#include <errno.h>

#include "mta/address.h"

enum {
    ALLOW_ALL = ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_POSTMASTER,
};

Test(address, paths_refused_whatever_is_allowed)
{
    static const struct slice bad[] = {
        SLICE(""),
        SLICE("<"),
        SLICE(">"),
        SLICE("a@b"),
        SLICE("<a@b"),
        SLICE("< a@b>"),
        SLICE("<a@b >"),
        SLICE("<a>"),
        SLICE("<@b>"),
        SLICE("<a@>"),
        SLICE("<a@@b>"),
        SLICE("<a@b@c>"),
        SLICE("<.a@b>"),
        SLICE("<a.@b>"),
        SLICE("<a..b@c>"),
        SLICE("<a b@c>"),
        SLICE("<a\0b@c>"),
        SLICE("<a@b\0c>"),
        SLICE("<a\r@b>"),
        SLICE("<a\n@b>"),
        SLICE("<a@b\n>"),
        SLICE("<\"a@b>"),
        SLICE("<\"a\"b@c>"),
        SLICE("<a\"b\"@c>"),
        SLICE("<\"a\\\"@b>"),
        SLICE("<\"a\nb\"@c>"),
        SLICE("<\"a\0b\"@c>"),
        SLICE("<\"a\\\r\"@c>"),
        SLICE("<\"a\x7f\"@c>"),
        SLICE("<\"\\\xc3\xa9\"@b>"),
        SLICE("<a(c)@b>"),
        SLICE("<a,b@c>"),
        SLICE("<a@b,c>"),
        SLICE("<a@.b>"),
        SLICE("<a@b.>"),
        SLICE("<a@b..c>"),
        SLICE("<a@-b>"),
        SLICE("<a@b->"),
        SLICE("<a@b.-c>"),
        SLICE("<a@b!c>"),
        SLICE("<a@b%c>"),
        SLICE("<a@1.2.3.4>"),
        SLICE("<a@[]>"),
        SLICE("<a@[1.2.3]>"),
        SLICE("<a@[1.2.3.256]>"),
        SLICE("<a@[01.2.3.4]>"),
        SLICE("<a@[1.2.3.4>"),
        SLICE("<a@[1.2.3.4]b>"),
        SLICE("<a@[1.2.3.4\0]>"),
        SLICE("<a@[::1]>"),
        SLICE("<a@[IPv6:]>"),
        SLICE("<a@[IPv6:1.2.3.4]>"),
        SLICE("<a@[IPv6:::1%lo]>"),
        SLICE("<a@[IPv6:1:2:3:4:5:6:7:8:9]>"),
        SLICE("<a@[tag:x]>"),
        SLICE("<@:a@b>"),
        SLICE("<@a>"),
        SLICE("<@a:>"),
        SLICE("<@a,b:c@d>"),
        SLICE("<@a,:c@d>"),
        SLICE("<@a;c@d>"),
        SLICE("<@a:postmaster>"),
        SLICE("<@[1.2.3.4]:a@b>"),
        SLICE("<\xff@b>"),
        SLICE("<\xc0\x80@b>"),
        SLICE("<\xed\xa0\x80@b>"),
        SLICE("<\xc2\x85@b>"),
        SLICE("<\xf4\x90\x80\x80@b>"),
        SLICE("<\xc3@b>"),
        SLICE("<a@\xe2\x82>"),
        SLICE("<\"\xe0\x80\xaf\"@b>"),
        SLICE("<a@\xc2\x80>"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct address address;
        size_t used;
        cr_assert_neq(address_parse_path(bad[i], ALLOW_ALL, &address, &used), ADDRESS_OK,
                      "sample %zu: %.*s", i, (int)bad[i].size, (const char *)bad[i].data);
    }
}

static enum address_result parse_sizes(size_t local, size_t domain)
{
    static char text[1'024];
    size_t size = 0;
    struct address address;
    size_t used;
    text[size++] = '<';
    memset(text + size, 'l', local);
    size += local;
    text[size++] = '@';
    for (size_t i = 0; i < domain; i++)
        text[size++] = i % 32 == 31 && i + 1 < domain ? '.' : 'd';
    text[size++] = '>';
    return address_parse_path(slice_of(text, size), 0, &address, &used);
}

Test(address, limits)
{
    cr_assert_eq(parse_sizes(65, 10), ADDRESS_TOO_LONG);
    cr_assert_eq(parse_sizes(64, 190), ADDRESS_TOO_LONG);
    cr_assert_eq(parse_sizes(1, 253), ADDRESS_TOO_LONG);
    cr_assert_eq(parse_sizes(64, 189), ADDRESS_OK);
    cr_assert_eq(parse_sizes(1, 252), ADDRESS_OK);

    char label[ADDRESS_LABEL_MAX + 1];
    memset(label, 'a', sizeof(label));
    cr_assert_not(address_domain_valid(slice_of(label, 64), false));
    cr_assert(address_domain_valid(slice_of(label, 63), false));
}

Test(address, a_route_has_a_limit)
{
    static char text[2'048];
    struct address address;
    size_t used, size = 0;
    text[size++] = '<';
    while (size < 1'100) {
        memcpy(text + size, "@abcdefg,", 9);
        size += 9;
    }
    memcpy(text + size - 1, ":a@b>", 5);
    cr_assert_eq(address_parse_path(slice_of(text, size + 4), 0, &address, &used),
                 ADDRESS_TOO_LONG);
}

Test(address, what_was_not_allowed)
{
    struct address address;
    size_t used;
    cr_assert_eq(address_parse_path(SLICE("<>"), 0, &address, &used), ADDRESS_SYNTAX);
    cr_assert_eq(address_parse_path(SLICE("<postmaster>"), 0, &address, &used), ADDRESS_SYNTAX);
    cr_assert_eq(address_parse_path(SLICE("<root>"), ALLOW_ALL, &address, &used), ADDRESS_SYNTAX);
    cr_assert_eq(address_parse_path(SLICE("<\xc3\xa9@b>"), 0, &address, &used), ADDRESS_NEEDS_UTF8);
    cr_assert_eq(address_parse_path(SLICE("<a@\xc3\xa9>"), 0, &address, &used), ADDRESS_NEEDS_UTF8);
    cr_assert_eq(address_parse_path(SLICE("<@\xc3\xa9:a@b>"), 0, &address, &used),
                 ADDRESS_NEEDS_UTF8);
    cr_assert_eq(address_parse_path(SLICE("<\xc3\xa9@b..c>"), 0, &address, &used),
                 ADDRESS_DOMAIN_SYNTAX);
}

Test(address, paths_and_their_parts)
{
    static const struct {
        struct slice in, local, domain;
        size_t used;
        bool quoted, literal, utf8;
    } good[] = {
        { SLICE("<a@b>"), SLICE("a"), SLICE("b"), 5, false, false, false },
        { SLICE("<a@b> SIZE=1"), SLICE("a"), SLICE("b"), 5, false, false, false },
        { SLICE("<!#$%&'*+-/=?^_`{|}~.x@b.c>"), SLICE("!#$%&'*+-/=?^_`{|}~.x"), SLICE("b.c"), 27,
          false, false, false },
        { SLICE("<a%b@c.d>"), SLICE("a%b"), SLICE("c.d"), 9, false, false, false },
        { SLICE("<x!y!a@c.d>"), SLICE("x!y!a"), SLICE("c.d"), 11, false, false, false },
        { SLICE("<\"a@b>\\\"c\"@d>"), SLICE("\"a@b>\\\"c\""), SLICE("d"), 13, true, false, false },
        { SLICE("<\"\"@d>"), SLICE("\"\""), SLICE("d"), 6, true, false, false },
        { SLICE("<a@[192.0.2.1]>"), SLICE("a"), SLICE("[192.0.2.1]"), 15, false, true, false },
        { SLICE("<a@[IPv6:::1]>"), SLICE("a"), SLICE("[IPv6:::1]"), 14, false, true, false },
        { SLICE("<@a,@b.c:d@e>"), SLICE("d"), SLICE("e"), 13, false, false, false },
        { SLICE("<a@_x.b-c.4d>"), SLICE("a"), SLICE("_x.b-c.4d"), 13, false, false, false },
        { SLICE("<\xc3\xa9@\xc3\xbc.b>"), SLICE("\xc3\xa9"), SLICE("\xc3\xbc.b"), 9, false, false,
          true },
        { SLICE("<postmaster@x>"), SLICE("postmaster"), SLICE("x"), 14, false, false, false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        struct address address;
        size_t used = 0;
        cr_assert_eq(address_parse_path(good[i].in, ALLOW_ALL, &address, &used), ADDRESS_OK,
                     "sample %zu", i);
        cr_assert_eq(used, good[i].used, "sample %zu: %zu", i, used);
        cr_assert(slice_equal(address.local, good[i].local), "sample %zu", i);
        cr_assert(slice_equal(address.domain, good[i].domain), "sample %zu", i);
        cr_assert_eq(address.quoted, good[i].quoted, "sample %zu", i);
        cr_assert_eq(address.literal, good[i].literal, "sample %zu", i);
        cr_assert_eq(address.utf8, good[i].utf8, "sample %zu", i);
        cr_assert_not(address.null || address.postmaster);
        cr_assert_eq(address_text(&address).size, address.local.size + 1 + address.domain.size);
    }
}

Test(address, null_and_postmaster)
{
    struct address address;
    size_t used;
    cr_assert_eq(address_parse_path(SLICE("<>"), ADDRESS_ALLOW_NULL, &address, &used), ADDRESS_OK);
    cr_assert(address.null);
    cr_assert_eq(used, 2);
    cr_assert_eq(address_text(&address).size, 0);
    cr_assert_eq(
        address_parse_path(SLICE("<PostMaster>"), ADDRESS_ALLOW_POSTMASTER, &address, &used),
        ADDRESS_OK);
    cr_assert(address.postmaster);
    cr_assert(slice_equal(address_text(&address), SLICE("PostMaster")));
}

Test(address, a_mailbox_fills_its_slice)
{
    struct address address;
    cr_assert_neq(address_parse(SLICE("a@b "), ALLOW_ALL, &address), ADDRESS_OK);
    cr_assert_neq(address_parse(SLICE("<a@b>"), ALLOW_ALL, &address), ADDRESS_OK);
    cr_assert_neq(address_parse(SLICE(""), ALLOW_ALL, &address), ADDRESS_OK);
    cr_assert_eq(address_parse(SLICE("a@b"), 0, &address), ADDRESS_OK);
}

Test(address, canonical)
{
    static const struct {
        struct slice in, canonical;
    } samples[] = {
        { SLICE("Joe@Example.ORG"), SLICE("joe@example.org") },
        { SLICE("\"Joe\"@Example.ORG"), SLICE("joe@example.org") },
        { SLICE("\"J\\oe\"@x"), SLICE("joe@x") },
        { SLICE("\"a b\"@x"), SLICE("\"a b\"@x") },
        { SLICE("\"a\\ \\\"\\\\b\"@x"), SLICE("\"a \\\"\\\\b\"@x") },
        { SLICE("\".a\"@x"), SLICE("\".a\"@x") },
        { SLICE("\"\"@x"), SLICE("\"\"@x") },
        { SLICE("A@[IPv6:2001:DB8::1]"), SLICE("a@[ipv6:2001:db8::1]") },
    };
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct address address;
        uint8_t out[ADDRESS_MAX];
        cr_assert_eq(address_parse(samples[i].in, 0, &address), ADDRESS_OK, "sample %zu", i);
        const size_t size = address_canonical(&address, out);
        cr_assert(slice_equal(slice_of(out, size), samples[i].canonical), "sample %zu: %.*s", i,
                  (int)size, (const char *)out);
    }
}

Test(address, domain_to_ascii)
{
    char out[ADDRESS_ASCII_DOMAIN_BYTES];
    cr_assert_eq(address_domain_to_ascii(SLICE(""), out), -EINVAL);
    cr_assert_eq(address_domain_to_ascii(SLICE("a..b"), out), -EINVAL);
    cr_assert_eq(address_domain_to_ascii(SLICE("a\xe3\x80\x82\x62"), out), -EINVAL, "U+3002");
    cr_assert_eq(address_domain_to_ascii(SLICE("a\xef\xbc\x8e\x62"), out), -EINVAL, "U+FF0E");
    cr_assert_eq(address_domain_to_ascii(SLICE("\xff"), out), -EINVAL);

    cr_assert_eq(address_domain_to_ascii(SLICE("Example.ORG"), out), 11);
    cr_assert_str_eq(out, "example.org");
    cr_assert_eq(address_domain_to_ascii(SLICE("b\xc3\xbc\x63her.example"), out), 21);
    cr_assert_str_eq(out, "xn--bcher-kva.example");
    cr_assert_eq(address_domain_to_ascii(SLICE("B\xc3\x9c\x43HER.example"), out), 21);
    cr_assert_str_eq(out, "xn--bcher-kva.example");
    cr_assert_eq(address_domain_to_ascii(SLICE("[IPv6:::A]"), out), 10);
    cr_assert_str_eq(out, "[ipv6:::a]");
}
