/*
 * test_tls_text.c - texts stay printable and inside of their bounds
 */
#include "tls/tls_text.h"

#include <criterion/criterion.h>

Test(tls_text, escape)
{
    char text[32];
    cr_assert_eq(tls_text_escape(SLICE("a\0\r\n\\\x7f\xff"), text, sizeof(text)), 25);
    cr_assert_str_eq(text, "a\\x00\\x0d\\x0a\\x5c\\x7f\\xff");
    cr_assert_eq(tls_text_escape(SLICE("abc\n"), text, 7), 3, "never half an escape");
    cr_assert_str_eq(text, "abc");
    cr_assert_eq(tls_text_escape(SLICE("abc"), text, 1), 0);
    cr_assert_str_eq(text, "");
    cr_assert_eq(tls_text_escape(slice_of(NULL, 0), text, sizeof(text)), 0);
}

Test(tls_text, hex)
{
    char text[6];
    cr_assert_eq(tls_text_hex(SLICE("\x01\xfe\x80"), text, sizeof(text)), 4);
    cr_assert_str_eq(text, "01fe");
}

Test(tls_text, reasons_are_cut)
{
    char why[TLS_WHY_MAX], text[8];
    char many[2 * TLS_WHY_MAX];
    memset(many, 'x', sizeof(many) - 1);
    many[sizeof(many) - 1] = '\0';
    tls_why(why, "%s", many);
    cr_assert_eq(strlen(why), TLS_WHY_MAX - 1);
    size_t used = tls_text_append(text, sizeof(text), 0, "abc");
    used = tls_text_append(text, sizeof(text), used, "defghi");
    cr_assert_eq(used, 7);
    cr_assert_eq(tls_text_append(text, sizeof(text), used, "more"), 7);
    cr_assert_str_eq(text, "abcdefg");
}

Test(tls_text, dates)
{
    char day[TLS_TEXT_DATE_BYTES];
    tls_text_date(0, day);
    cr_assert_str_eq(day, "1970-01-01");
    tls_text_date(1'772'323'199, day);
    cr_assert_str_eq(day, "2026-02-28");
    tls_text_date(-1, day);
    cr_assert_str_eq(day, "1969-12-31");
    tls_text_date(INT64_MAX, day);
    cr_assert_str_eq(day, "a year far away");
}
