/*
 * test_slice.c - borrowed bytes: empty, cut and past the end
 */
#include "core/slice.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(slice, what_is_not_a_number)
{
    static const char *const bad[] = { "", " 1", "1 ", "+1", "-1", "0x1", "1a", "a", "1.0" };
    uint64_t value = 7;
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(slice_to_u64(slice_of_string(bad[i]), UINT64_MAX, &value), -EINVAL, "%s",
                     bad[i]);
    cr_assert_eq(slice_to_u64(slice_of("1\0", 2), UINT64_MAX, &value), -EINVAL);
    cr_assert_eq(slice_to_u64(SLICE("18446744073709551616"), UINT64_MAX, &value), -ERANGE);
    cr_assert_eq(slice_to_u64(SLICE("99999999999999999999"), UINT64_MAX, &value), -ERANGE);
    cr_assert_eq(slice_to_u64(SLICE("256"), 255, &value), -ERANGE);
    cr_assert_eq(value, 7);
}

Test(slice, numbers)
{
    uint64_t value;
    cr_assert_eq(slice_to_u64(SLICE("0"), 0, &value), 0);
    cr_assert_eq(value, 0);
    cr_assert_eq(slice_to_u64(SLICE("000255"), 255, &value), 0);
    cr_assert_eq(value, 255);
    cr_assert_eq(slice_to_u64(SLICE("18446744073709551615"), UINT64_MAX, &value), 0);
    cr_assert_eq(value, UINT64_MAX);
}

Test(slice, parts_past_the_end_are_empty)
{
    struct slice s = SLICE("abc");
    cr_assert_eq(slice_part(s, 3, 1).size, 0);
    cr_assert_eq(slice_part(s, SIZE_MAX, SIZE_MAX).size, 0);
    cr_assert_eq(slice_part(s, 1, SIZE_MAX).size, 2);
    cr_assert(slice_equal(slice_part(s, 1, 1), SLICE("b")));
    cr_assert(slice_equal(slice_from(s, 1), SLICE("bc")));
    cr_assert_eq(slice_from(slice_of(NULL, 0), 5).size, 0);
}

Test(slice, nothing_is_found_in_nothing)
{
    cr_assert_eq(slice_find(slice_of(NULL, 0), 'a'), -1);
    cr_assert_eq(slice_find(SLICE("abc"), 'd'), -1);
    cr_assert_eq(slice_find(SLICE("abca"), 'a'), 0);
    cr_assert_eq(slice_find(slice_of("a\0b", 3), 'b'), 2);
}

Test(slice, case_is_ascii_only)
{
    cr_assert_not(slice_equal_nocase(SLICE("\xe4"), SLICE("\xc4")));
    cr_assert_not(slice_equal_nocase(SLICE("@["), SLICE("`{")));
    cr_assert_not(slice_equal_nocase(SLICE("a"), SLICE("ab")));
    cr_assert(slice_equal_nocase(SLICE("MAIL from"), SLICE("mail FROM")));
    cr_assert(slice_equal_nocase(slice_of(NULL, 0), SLICE("")));
    cr_assert_not(slice_equal(SLICE("a"), SLICE("A")));
    for (unsigned c = 0; c < 256; c++)
        cr_assert_eq(ascii_lower((uint8_t)c), c >= 'A' && c <= 'Z' ? c + 32 : c);
}

Test(slice, beginnings_and_endings)
{
    cr_assert_not(slice_starts_nocase(SLICE("to"), SLICE("to:")));
    cr_assert_not(slice_ends_nocase(SLICE("com"), SLICE(".com")));
    cr_assert_not(slice_starts_nocase(SLICE("fro:"), SLICE("to:")));
    cr_assert(slice_starts_nocase(SLICE("TO:<a>"), SLICE("to:")));
    cr_assert(slice_ends_nocase(SLICE("a.COM"), SLICE(".com")));
    cr_assert(slice_ends_nocase(SLICE("a"), SLICE("")));
}

Test(slice, strings_are_cut_and_terminated)
{
    char out[4] = "zzz";
    slice_to_string(SLICE("abc"), out, 0);
    cr_assert_str_eq(out, "zzz");
    slice_to_string(SLICE("abc"), out, 1);
    cr_assert_str_eq(out, "");
    slice_to_string(SLICE("abcdef"), out, sizeof(out));
    cr_assert_str_eq(out, "abc");
    slice_to_string(slice_of(NULL, 0), out, sizeof(out));
    cr_assert_str_eq(out, "");
}
