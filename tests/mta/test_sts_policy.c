/*
 * test_sts_policy.c - records and policies of MTA-STS, as RFC 8461 has them and otherwise
 */
#include "mta/sts_policy.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

/* text as one string of a TXT record, or two when it has a '|'. */
static enum sts_txt record(const char *text, char id[static STS_ID_MAX])
{
    uint8_t rdata[600];
    const char *bar = strchr(text, '|');
    size_t first = bar == NULL ? strlen(text) : (size_t)(bar - text);
    size_t size = 0;
    rdata[size++] = (uint8_t)first;
    memcpy(rdata + size, text, first);
    size += first;
    if (bar != NULL) {
        size_t second = strlen(bar + 1);
        rdata[size++] = (uint8_t)second;
        memcpy(rdata + size, bar + 1, second);
        size += second;
    }
    strcpy(id, "");
    return sts_txt_read(slice_of(rdata, size), id);
}

Test(sts_policy, records)
{
    static const struct {
        const char *text;
        enum sts_txt is;
        const char *id;
    } cases[] = {
        { "", STS_TXT_OTHER, "" },
        { "v=spf1 -all", STS_TXT_OTHER, "" },
        { "v=STSv2; id=1", STS_TXT_OTHER, "" },
        { "V=STSv1; id=1", STS_TXT_OTHER, "" },
        { " v=STSv1; id=1", STS_TXT_OTHER, "" },
        { "v=STSv1", STS_TXT_INVALID, "" },
        { "v=STSv1;", STS_TXT_INVALID, "" },
        { "v=STSv1; id=", STS_TXT_INVALID, "" },
        { "v=STSv1; id=a b", STS_TXT_INVALID, "" },
        { "v=STSv1; id=2026-01-01", STS_TXT_INVALID, "" },
        { "v=STSv1; id=012345678901234567890123456789012", STS_TXT_INVALID, "" },
        { "v=STSv1; ; id=1", STS_TXT_INVALID, "" },
        { "v=STSv1; id=1; more", STS_TXT_INVALID, "" },
        { "v=STSv1; id=1; more=a=b", STS_TXT_INVALID, "" },
        { "v=STSv1; id=20160831085700Z;", STS_TXT_VALID, "20160831085700Z" },
        { "v=STSv1;id=01234567890123456789012345678901", STS_TXT_VALID,
          "01234567890123456789012345678901" },
        { "v=STSv1 ; more=x ; id=1 ; id=2 ; ", STS_TXT_VALID, "1" },
        { "v=STSv|1; id=ab|c", STS_TXT_INVALID, "" },
        { "v=STSv1; id=a|bc;", STS_TXT_VALID, "abc" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char id[STS_ID_MAX];
        cr_assert_eq(record(cases[i].text, id), cases[i].is, "%s", cases[i].text);
        if (cases[i].is == STS_TXT_VALID)
            cr_assert_str_eq(id, cases[i].id, "%s: %s", cases[i].text, id);
    }
}

Test(sts_policy, rdata_that_is_cut_is_no_record)
{
    char id[STS_ID_MAX];
    static const char rdata[] = "\x10v=STSv1; id=1";
    cr_assert_eq(sts_txt_read(slice_of(rdata, sizeof(rdata) - 1), id), STS_TXT_OTHER);
    cr_assert_eq(sts_txt_read(slice_of(NULL, 0), id), STS_TXT_OTHER);
}

static int read_text(const char *text, struct sts_policy *policy)
{
    char why[STS_WHY_MAX];
    int r = sts_policy_read(slice_of_string(text), policy, why);
    cr_assert_eq(r == 0, why[0] == '\0', "%s: %s", text, why);
    return r;
}

#define HEAD "version: STSv1\nmode: enforce\nmax_age: 604800\n"

Test(sts_policy, what_is_no_policy)
{
    static const char *const texts[] = {
        "",
        "<html></html>",
        "version: STSv1\nmode: enforce\nmax_age: 604800\n",
        "mode: enforce\nmax_age: 604800\nmx: a.test\n",
        "version: STSv1\nmax_age: 604800\nmx: a.test\n",
        "version: STSv1\nmode: enforce\nmx: a.test\n",
        "version: STSv2\nmode: enforce\nmax_age: 604800\nmx: a.test\n",
        "version: STSv1\nmode: Enforce\nmax_age: 604800\nmx: a.test\n",
        "version: STSv1\nmode: report\nmax_age: 604800\nmx: a.test\n",
        "version: STSv1\nmode: enforce\nmax_age: week\nmx: a.test\n",
        "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.test\n",
        "version: STSv1\nmode: enforce\nmax_age: 00000604800\nmx: a.test\n",
        "version: STSv1\nmode: enforce\nmax_age:\nmx: a.test\n",
        HEAD "mx:\n",
        HEAD "mx: a..test\n",
        HEAD "mx: .test\n",
        HEAD "mx: a.test.\n",
        HEAD "mx: *\n",
        HEAD "mx: *.\n",
        HEAD "mx: a.*.test\n",
        HEAD "mx: **.test\n",
        HEAD "mx: a.test, b.test\n",
        HEAD "mx: a.test\rmx: b.test\n",
        HEAD "mx: a.test\nnot a field\n",
        HEAD "mx: a.test\n: empty\n",
        HEAD "mx : a.test\n",
        HEAD " mx: a.test\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct sts_policy policy;
        cr_assert_eq(read_text(texts[i], &policy), -EINVAL, "%s", texts[i]);
    }
}

Test(sts_policy, the_policy_of_the_rfc)
{
    struct sts_policy policy;
    cr_assert_eq(read_text("version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n"
                           "mx: *.Example.net\r\nmx: backupmx.example.com\r\n"
                           "max_age: 604800\r\n",
                           &policy),
                 0);
    cr_assert_eq(policy.mode, STS_MODE_ENFORCE);
    cr_assert_eq(policy.max_age_s, 604'800);
    const char *pattern = sts_policy_pattern(&policy, NULL);
    cr_assert_str_eq(pattern, "mail.example.com");
    pattern = sts_policy_pattern(&policy, pattern);
    cr_assert_str_eq(pattern, "*.example.net");
    pattern = sts_policy_pattern(&policy, pattern);
    cr_assert_str_eq(pattern, "backupmx.example.com");
    cr_assert_eq(sts_policy_pattern(&policy, pattern), NULL);
    static const char *const listed[] = { "mail.example.com", "MAIL.example.COM", "a.example.net" };
    static const char *const others[] = { "",
                                          ".",
                                          "example.net",
                                          ".example.net",
                                          "a.b.example.net",
                                          "mail.example.com.evil.test",
                                          "xmail.example.com",
                                          "*.example.com",
                                          "example.com" };
    for (size_t i = 0; i < ARRAY_COUNT(listed); i++)
        cr_assert(sts_policy_lists(&policy, listed[i]), "%s", listed[i]);
    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        cr_assert_not(sts_policy_lists(&policy, others[i]), "%s", others[i]);
}

Test(sts_policy, what_is_let_pass)
{
    struct sts_policy policy;
    cr_assert_eq(read_text("mx:\ta_b.test \t\nmx: a_b.test\n\n\r\nmax_age:86400\nmode:testing\n"
                           "mode: enforce\nmax_age: 5\nversion:STSv1\nversion: STSv9\n"
                           "x-more.field_1: anything, even \xc3\xa4",
                           &policy),
                 0);
    cr_assert_eq(policy.mode, STS_MODE_TESTING);
    cr_assert_eq(policy.max_age_s, 86'400);
    cr_assert(sts_policy_lists(&policy, "a_b.test"));
    cr_assert_eq(read_text("version: STSv1\nmode: none\nmax_age: 86400\n", &policy), 0);
    cr_assert_eq(policy.mode, STS_MODE_NONE);
    cr_assert_not(sts_policy_lists(&policy, "a.test"));
}

Test(sts_policy, ages_have_bounds)
{
    struct sts_policy policy;
    cr_assert_eq(read_text("version: STSv1\nmode: none\nmax_age: 0\n", &policy), 0);
    cr_assert_eq(policy.max_age_s, STS_AGE_MIN);
    cr_assert_eq(read_text("version: STSv1\nmode: none\nmax_age: 9999999999\n", &policy), 0);
    cr_assert_eq(policy.max_age_s, STS_AGE_MAX);
}

Test(sts_policy, patterns_have_a_bound)
{
    static char text[STS_DOCUMENT_MAX + 64] = HEAD;
    size_t size = strlen(text);
    struct sts_policy policy;
    unsigned count = 0;
    while ((count + 1) * sizeof("mx00000.test") <= STS_PATTERNS_BYTES)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "mx: mx%05u.test\n", count++);
    cr_assert_eq(read_text(text, &policy), 0);
    cr_assert(sts_policy_lists(&policy, "mx00000.test"));
    snprintf(text + size, sizeof(text) - size, "mx: mx%05u.test\n", count);
    cr_assert_eq(read_text(text, &policy), -EINVAL);
    memset(text, '\n', sizeof(text) - 1);
    cr_assert_eq(read_text(text, &policy), -EINVAL);
}

Test(sts_policy, content_types)
{
    cr_assert(sts_content_type_ok("text/plain"));
    cr_assert(sts_content_type_ok("Text/Plain; charset=utf-8"));
    cr_assert_not(sts_content_type_ok(""));
    cr_assert_not(sts_content_type_ok("text/html"));
    cr_assert_not(sts_content_type_ok("text/plainer"));
    cr_assert_not(sts_content_type_ok("application/octet-stream"));
}
