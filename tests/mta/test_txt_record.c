/*
 * test_txt_record.c - fields of TXT records
 */
#include "mta/txt_record.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(txt_record, strings_are_one_text)
{
    uint8_t out[8];
    cr_assert_eq(txt_join(SLICE("\x03"
                                "v=a"
                                "\x02"
                                "; "),
                          out, sizeof(out)),
                 5);
    cr_assert(slice_equal(slice_of(out, 5), SLICE("v=a; ")));
    cr_assert_eq(txt_join(SLICE(""), out, sizeof(out)), 0);
    cr_assert_eq(txt_join(SLICE("\x04"
                                "v=a"),
                          out, sizeof(out)),
                 -EINVAL, "cut short");
    cr_assert_eq(txt_join(SLICE("\x09"
                                "123456789"),
                          out, sizeof(out)),
                 -EINVAL, "no room");
}

Test(txt_record, parts)
{
    struct slice text = SLICE(" a = b;c");
    struct slice first = txt_take_until(&text, ';');
    cr_assert(slice_equal(txt_trim(txt_take_until(&first, '=')), SLICE("a")));
    cr_assert(slice_equal(txt_trim(first), SLICE("b")));
    cr_assert(slice_equal(txt_take_until(&text, ';'), SLICE("c")));
    cr_assert_eq(text.size, 0);
}

Test(txt_record, names_and_values)
{
    cr_assert(txt_name_ok(SLICE("a")));
    cr_assert(txt_name_ok(SLICE("9_-.")));
    cr_assert(txt_name_ok(SLICE("abcdefghijklmnopqrstuvwxyz123456")));
    cr_assert_not(txt_name_ok(SLICE("abcdefghijklmnopqrstuvwxyz1234567")));
    cr_assert_not(txt_name_ok(SLICE("")));
    cr_assert_not(txt_name_ok(SLICE("_a")));
    cr_assert_not(txt_name_ok(SLICE("a b")));
    cr_assert(txt_value_ok(SLICE("~!a")));
    cr_assert_not(txt_value_ok(SLICE("")));
    cr_assert_not(txt_value_ok(SLICE("a=b")));
    cr_assert_not(txt_value_ok(SLICE("a b")));
    cr_assert_not(txt_value_ok(SLICE("\x7f")));
}
