/*
 * test_tls_name.c - names in certificates: every row of the tables, and what tries to look like one
 */
#include "tls/tls_name.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "mta/address.h"

Test(tls_name, unusable)
{
    static const struct slice names[] = {
        SLICE(""),
        SLICE("."),
        SLICE(".d.example"),
        SLICE("a..d.example"),
        SLICE("mx.d.example."),
        SLICE("*"),
        SLICE("*."),
        SLICE("*.example"),
        SLICE("*.example."),
        SLICE("*..example"),
        SLICE("**.d.example"),
        SLICE("*.*.d.example"),
        SLICE("a.*.d.example"),
        SLICE("m*.d.example"),
        SLICE("*m.d.example"),
        SLICE("xn--*.d.example"),
        SLICE("mx.d.example\0"),
        SLICE("mx.d.example\0.evil.example"),
        SLICE("mx d.example"),
        SLICE(" mx.d.example"),
        SLICE("mx.d.example\n"),
        SLICE("b\xc3\xbc"
              "cher.example"),
        SLICE("mx.d.example/x"),
        SLICE("mx@d.example"),
        SLICE("[192.0.2.1]"),
        SLICE("2001:db8::1"),
        SLICE("a234567890123456789012345678901234567890123456789012345678901234.example"),
    };
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        cr_assert_not(tls_name_usable(names[i]), "%u", i);
        cr_assert_not(tls_name_match(SLICE("mx.d.example"), names[i], true), "%u", i);
        cr_assert_not(tls_name_match(SLICE("*.d.example"), names[i], true), "%u", i);
        cr_assert_not(tls_name_match(names[i], names[i], true), "%u", i);
    }
}

Test(tls_name, lengths)
{
    uint8_t name[TLS_NAME_MAX + 1];
    memset(name, 'a', sizeof(name));
    for (unsigned i = 50; i < sizeof(name); i += 50)
        name[i] = '.';
    cr_assert(tls_name_usable(slice_of(name, TLS_NAME_MAX)));
    cr_assert_not(tls_name_usable(slice_of(name, TLS_NAME_MAX + 1)));
    cr_assert(tls_name_usable(
        SLICE("a23456789012345678901234567890123456789012345678901234567890123.example")));
}

struct row {
    const char *id;
    struct slice pattern;
    struct slice presented;
    bool cert_wildcard;
    bool match;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(tls_name_match(rows[i].pattern, rows[i].presented, rows[i].cert_wildcard),
                     rows[i].match, "%s", rows[i].id);
}

/* Section 4.3 of the specification of connectors. */
Test(tls_name, rules)
{
    static const struct row rows[] = {
        { "the same", SLICE("mx.d"), SLICE("mx.d"), false, true },
        { "wildcard, yes", SLICE("mx.d.example"), SLICE("*.d.example"), true, true },
        { "wildcard, no", SLICE("mx.d.example"), SLICE("*.d.example"), false, false },
        { "one label only", SLICE("a.mx.d.example"), SLICE("*.d.example"), true, false },
        { "not the domain", SLICE("d.example"), SLICE("*.d.example"), true, false },
        { "ours, one deep", SLICE("*.d.example"), SLICE("mx.d.example"), false, true },
        { "ours, two deep", SLICE("*.d.example"), SLICE("a.b.d.example"), false, true },
        { "ours, not d", SLICE("*.d.example"), SLICE("d.example"), true, false },
        { "both, the same", SLICE("*.d.example"), SLICE("*.d.example"), true, true },
        { "both, below", SLICE("*.d.example"), SLICE("*.x.d.example"), true, true },
        { "both, the same, no", SLICE("*.d.example"), SLICE("*.d.example"), false, false },
        { "both, below, no", SLICE("*.d.example"), SLICE("*.x.d.example"), false, false },
        { "both, above", SLICE("*.a.d.example"), SLICE("*.d.example"), true, false },
        { "one label left", SLICE("d.example"), SLICE("*.example"), true, false },
        { "one label left, ours", SLICE("*.example"), SLICE("*.example"), true, false },
        { "prefix", SLICE("mx.d.example"), SLICE("mx.d.example.evil"), true, false },
        { "suffix", SLICE("mx.d.example"), SLICE("evilmx.d.example"), true, false },
        { "suffix, ours", SLICE("*.d.example"), SLICE("a.evild.example"), true, false },
        { "NUL", SLICE("mx.d.example"), SLICE("mx.d.example\0.evil.example"), true, false },
        { "pattern with a dot", SLICE("mx.d.example."), SLICE("mx.d.example"), false, true },
        { "pattern with dots", SLICE("mx.d.example.."), SLICE("mx.d.example"), false, false },
        { "presented with a dot", SLICE("mx.d.example."), SLICE("mx.d.example."), false, false },
        { "anything", SLICE("*"), SLICE("mx.d.example"), true, false },
        { "nothing", SLICE(""), SLICE(""), true, false },
        { "only a dot", SLICE("."), SLICE("mx.d.example"), true, false },
        { "empty label", SLICE("*..example"), SLICE("a..example"), true, false },
        { "U-labels are for others",
          SLICE("b\xc3\xbc"
                "cher.example"),
          SLICE("xn--bcher-kva.example"), true, false },
        { "wildcard for an A-label", SLICE("xn--bcher-kva.d.example"), SLICE("*.d.example"), true,
          true },
    };
    check_rows(rows, ARRAY_COUNT(rows));
}

/* Section 16.1; N-10 and N-11, about the CN, are in test_tls_verify.c. */
Test(tls_name, vectors)
{
    static const struct row rows[] = {
        { "N-01", SLICE("mx.d.example"), SLICE("MX.D.example"), true, true },
        { "N-02", SLICE("mx.d.example"), SLICE("*.d.example"), true, true },
        { "N-03", SLICE("mx.d.example"), SLICE("*.d.example"), false, false },
        { "N-05", SLICE("*.d.example"), SLICE("a.b.d.example"), false, true },
        { "N-06", SLICE("*.d.example"), SLICE("d.example"), true, false },
        { "N-07", SLICE("*.d.example"), SLICE("*.d.example"), true, true },
        { "N-09", SLICE("mx.d.example"), SLICE("m*.d.example"), true, false },
        { "N-15", SLICE("*.d.example"), SLICE("xd.example"), true, false },
    };
    check_rows(rows, ARRAY_COUNT(rows));
    char ascii[ADDRESS_ASCII_DOMAIN_BYTES];
    cr_assert_gt(address_domain_to_ascii(SLICE("b\xc3\xbc"
                                               "cher.example"),
                                         ascii),
                 0);
    cr_assert(tls_name_match(slice_of_string(ascii), SLICE("xn--bcher-kva.example"), true), "N-13");
}

static struct tls_names names_of(const char *const *names, unsigned count)
{
    struct tls_names list = { 0 };
    for (unsigned i = 0; i < count; i++)
        tls_names_add(&list, slice_of_string(names[i]));
    return list;
}

static void check_best(const char *pattern, const char *second, bool cert_wildcard,
                       const char *expected)
{
    static const char *const presented[] = { "*.d.example",   "a.d.example", "m*.d.example",
                                             "B.a.d.example", "d.example",   "b.a.d.example" };
    struct tls_names names = names_of(presented, ARRAY_COUNT(presented));
    struct slice patterns[] = { slice_of_string(pattern), slice_of_string(second) }, best;
    cr_assert_eq(names.ignored, 1);
    cr_assert_eq(names.count, 5);
    bool found = tls_name_best(patterns, 2, &names, cert_wildcard, &best);
    cr_assert_eq(found, expected != NULL, "%s", pattern);
    if (expected != NULL)
        cr_assert(slice_equal(best, slice_of_string(expected)), "%s: %.*s", pattern, (int)best.size,
                  (const char *)best.data);
}

Test(tls_name, best)
{
    check_best("nobody.example", "x", true, NULL);
    check_best("c.d.example", "x", false, NULL);
    check_best("c.d.example", "x", true, "*.d.example");
    check_best("a.d.example", "x", true, "a.d.example");
    check_best("*.d.example", "x", false, "a.d.example");
    check_best("*.d.example", "x", true, "*.d.example");
    check_best("*.d.example", "d.example", true, "d.example");
    check_best("d.example", "B.A.D.example.", true, "b.a.d.example");
}

Test(tls_name, no_more_than_there_is_room_for)
{
    struct tls_names names = { 0 };
    char name[16];
    for (unsigned i = 0; i < TLS_NAMES_MAX + 3; i++) {
        snprintf(name, sizeof(name), "n%u.example", i);
        tls_names_add(&names, slice_of_string(name));
    }
    cr_assert_eq(names.count, TLS_NAMES_MAX);
    cr_assert_eq(names.dropped, 3);

    struct tls_names few = { 0 };
    uint8_t longest[TLS_NAME_MAX];
    memset(longest, 'a', sizeof(longest));
    for (unsigned i = 50; i < sizeof(longest); i += 50)
        longest[i] = '.';
    for (unsigned i = 0; i < TLS_NAMES_MAX; i++)
        tls_names_add(&few, slice_of(longest, sizeof(longest)));
    cr_assert_eq(few.count, TLS_NAMES_BYTES_MAX / TLS_NAME_MAX);
    cr_assert_eq(few.dropped, TLS_NAMES_MAX - few.count);
    tls_names_add(&few, SLICE("a.example"));
    cr_assert_eq(few.count, TLS_NAMES_BYTES_MAX / TLS_NAME_MAX + 1, "a short one still fits");
}

Test(tls_name, subject_alt_name)
{
    static const struct slice broken[] = {
        SLICE(""),
        SLICE("\x30"),
        SLICE("\x30\x02\x82"),
        SLICE("\x31\x00"),
        SLICE("\x30\x00x"),
        SLICE("\x30\x80\x00\x00"),
        SLICE("\x30\x03\x82\x02x"),
    };
    struct tls_names names = { 0 };
    for (unsigned i = 0; i < ARRAY_COUNT(broken); i++)
        cr_assert_eq(tls_names_read(&names, broken[i]), -EBADMSG, "%u", i);
    cr_assert_eq(names.count, 0);

    /* An e-mail address, a name, an address, a name with NUL, a name. */
    struct slice whole = SLICE("\x30\x1a"
                               "\x81\x03x@y"
                               "\x82\x03"
                               "a.b"
                               "\x87\x04\x01\x02\x03\x04"
                               "\x82\x03"
                               "a\0b"
                               "\x82\x01"
                               "C");
    cr_assert_eq(whole.size, 2 + 5 + 5 + 6 + 5 + 3);
    uint8_t fixed[64];
    memcpy(fixed, whole.data, whole.size);
    fixed[1] = (uint8_t)(whole.size - 2);
    cr_assert_eq(tls_names_read(&names, slice_of(fixed, whole.size)), 0);
    cr_assert_eq(names.count, 2);
    cr_assert_eq(names.ignored, 1);
    cr_assert(slice_equal(tls_names_at(&names, 0), SLICE("a.b")));
    cr_assert(slice_equal(tls_names_at(&names, 1), SLICE("c")));
}

Test(tls_name, text)
{
    char text[64];
    struct tls_names names = { 0 };
    tls_names_text(&names, text, sizeof(text));
    cr_assert_str_eq(text, "no name");
    tls_names_add(&names, SLICE("a.example"));
    tls_names_add(&names, SLICE("*.b.example"));
    cr_assert_eq(tls_names_text(&names, text, sizeof(text)), 22);
    cr_assert_str_eq(text, "a.example, *.b.example");
    for (unsigned i = 0; i < 5; i++)
        tls_names_add(&names, SLICE("twelve.bytes"));
    names.dropped = 2;
    tls_names_text(&names, text, sizeof(text));
    cr_assert_str_eq(text, "a.example, *.b.example and 7 more");
}
