/*
 * test_cert_text.c - days are counted to the safe side, and what is no certificate says so
 */
#include "mta/cert_text.h"

#include <criterion/criterion.h>

#include "mta/cli.h"

enum { DAY = 86'400 };

Test(cert_text, days_left_are_whole_days_and_none_once_it_is_over)
{
    cr_expect_eq(cert_days_left(10 * DAY, 0), 10);
    cr_expect_eq(cert_days_left(10 * DAY - 1, 0), 9);
    cr_expect_eq(cert_days_left(0, 0), 0);
    cr_expect_eq(cert_days_left(0, 1), -1);
    cr_expect_eq(cert_days_left(0, DAY), -1);
    cr_expect_eq(cert_days_left(0, DAY + 1), -2);
}

Test(cert_text, what_is_no_certificate_says_so)
{
    static const struct slice bad[] = { SLICE(""), SLICE("\x30\x03\x01\x01"), SLICE("hello") };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *object = cert_json_of(bad[i], 0);
        cr_expect_str_neq(cli_text(object, "error"), "", "%zu", i);
        cr_expect_eq(json_object_get(object, "days_left"), NULL);
        json_decref(object);
    }
}

Test(cert_text, what_is_not_utf8_is_null)
{
    json_t *null = cli_string("\xff");
    cr_expect(json_is_null(null));
    json_decref(null);
    json_t *object = json_pack("{s:n}", "key");
    cr_expect_str_eq(cli_text(object, "key"), "");
    cr_expect_str_eq(cli_text(object, "other"), "");
    json_decref(object);
}
