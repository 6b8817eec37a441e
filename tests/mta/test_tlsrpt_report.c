/*
 * test_tlsrpt_report.c - reports are as RFC 8460 has them, add up, and stay within bounds
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/tlsrpt_report.h"

static struct sts_policy sts;
static const struct tlsrpt_policy company_y = { TLSRPT_STS, "company-y.example", &sts, "" };
static const struct tlsrpt_policy nothing = { TLSRPT_NO_POLICY, "company-y.example", NULL, "" };
static const struct tlsrpt_head head = { "Company-X", "sts-reporting@company-x.example",
                                         "mx.company-x.example", "company-y.example", 16'892 };

static void setup(void)
{
    char why[STS_WHY_MAX];
    const char text[] = "version: STSv1\nmode: testing\nmx: *.mail.company-y.example\n"
                        "max_age: 86400\n";
    cr_assert_eq(sts_policy_read(slice_of_string(text), &sts, why), 0, "%s", why);
}

TestSuite(tlsrpt_report, .init = setup);

static void add(json_t *policies, const struct tlsrpt_policy *policy,
                const struct tlsrpt_failure *failure, uint64_t count)
{
    cr_assert_eq(tlsrpt_add(policies, policy, failure, count), 0);
}

/* Appendix B, less what we do not say, and with words where it has a code of a library. */
static const char appendix_b[] =
    "{\"organization-name\": \"Company-X\","
    " \"date-range\": {\"start-datetime\": \"2016-04-01T00:00:00Z\","
    "                  \"end-datetime\": \"2016-04-01T23:59:59Z\"},"
    " \"contact-info\": \"sts-reporting@company-x.example\","
    " \"report-id\": \"2016-04-01_company-y.example@mx.company-x.example\","
    " \"policies\": [{"
    "   \"policy\": {"
    "     \"policy-type\": \"sts\","
    "     \"policy-string\": [\"version: STSv1\", \"mode: testing\","
    "                         \"mx: *.mail.company-y.example\", \"max_age: 86400\"],"
    "     \"policy-domain\": \"company-y.example\","
    "     \"mx-host\": [\"*.mail.company-y.example\"]},"
    "   \"summary\": {\"total-successful-session-count\": 5326,"
    "                 \"total-failure-session-count\": 303},"
    "   \"failure-details\": [{"
    "     \"result-type\": \"certificate-expired\","
    "     \"sending-mta-ip\": \"2001:db8:abcd:12::1\","
    "     \"receiving-mx-hostname\": \"mx1.mail.company-y.example\","
    "     \"failed-session-count\": 100}, {"
    "     \"result-type\": \"starttls-not-supported\","
    "     \"sending-mta-ip\": \"2001:db8:abcd:13::1\","
    "     \"receiving-mx-hostname\": \"mx2.mail.company-y.example\","
    "     \"receiving-ip\": \"203.0.113.56\","
    "     \"failed-session-count\": 200}, {"
    "     \"result-type\": \"validation-failure\","
    "     \"sending-mta-ip\": \"198.51.100.62\","
    "     \"receiving-ip\": \"203.0.113.58\","
    "     \"receiving-mx-hostname\": \"mx-backup.mail.company-y.example\","
    "     \"failed-session-count\": 3,"
    "     \"failure-reason-code\": \"X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED\"}]}]}";

Test(tlsrpt_report, the_example_of_appendix_b)
{
    const struct tlsrpt_failure failures[] = {
        { "certificate-expired", "2001:db8:abcd:12::1", "mx1.mail.company-y.example", "", "" },
        { "starttls-not-supported", "2001:db8:abcd:13::1", "mx2.mail.company-y.example",
          "203.0.113.56", "" },
        { "validation-failure", "198.51.100.62", "mx-backup.mail.company-y.example", "203.0.113.58",
          "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED" },
    };
    json_t *policies = json_array();
    add(policies, &company_y, NULL, 5'000);
    add(policies, &company_y, &failures[0], 60);
    add(policies, &company_y, &failures[1], 200);
    add(policies, &company_y, &failures[2], 3);
    add(policies, &company_y, &failures[0], 40);
    add(policies, &company_y, NULL, 326);
    json_t *report = tlsrpt_report(&head, policies);
    json_t *wanted = json_loads(appendix_b, 0, NULL);
    cr_assert_not_null(wanted);
    char *text = json_dumps(report, JSON_INDENT(1));
    cr_expect(json_equal(report, wanted), "%s", text);
    free(text);
    json_decref(wanted);
    json_decref(report);
}

Test(tlsrpt_report, policies_are_told_apart_by_what_they_say)
{
    const struct tlsrpt_policy tlsa = { TLSRPT_TLSA, "mx.company-y.example", NULL,
                                        "3 1 1 00ff\n2 0 1 aabb" };
    const struct tlsrpt_policy other = { TLSRPT_TLSA, "mx.company-y.example", NULL, "3 1 1 00ff" };
    const struct tlsrpt_policy bogus = { TLSRPT_TLSA, "mx.company-y.example", NULL, "" };
    const struct tlsrpt_policy unknown = { TLSRPT_STS, "company-y.example", NULL, "" };
    const struct tlsrpt_policy *all[] = { &tlsa, &other, &bogus, &unknown, &company_y, &nothing };
    json_t *policies = json_array();
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < ARRAY_COUNT(all); i++)
            add(policies, all[i], NULL, i + 1);
    cr_assert_eq(json_array_size(policies), ARRAY_COUNT(all));
    const json_t *first = json_object_get(json_array_get(policies, 0), "policy");
    const json_t *records = json_object_get(first, "policy-string");
    cr_assert_eq(json_array_size(records), 2);
    cr_assert_str_eq(json_string_value(json_array_get(records, 1)), "2 0 1 aabb");
    const json_t *last = json_array_get(policies, 5);
    cr_assert_null(json_object_get(json_object_get(last, "policy"), "policy-string"));
    const json_t *summary = json_object_get(last, "summary");
    cr_assert_eq(json_integer_value(json_object_get(summary, "total-successful-session-count")),
                 12);
    json_decref(policies);
}

Test(tlsrpt_report, bounds_lose_no_number)
{
    json_t *policies = json_array();
    char host[32];
    const unsigned count = 3 * TLSRPT_DETAILS_MAX;
    for (unsigned i = 0; i < count; i++) {
        snprintf(host, sizeof(host), "mx%u.example", i);
        const struct tlsrpt_failure failure = { i % 2 == 0 ? "validation-failure"
                                                           : "certificate-expired",
                                                "", host, "192.0.2.1", "words" };
        add(policies, &nothing, &failure, 2);
    }
    const json_t *entry = json_array_get(policies, 0);
    const json_t *details = json_object_get(entry, "failure-details");
    cr_assert_eq(json_array_size(details), TLSRPT_DETAILS_MAX + 2);
    json_int_t sum = 0;
    size_t index;
    json_t *detail;
    json_array_foreach(details, index, detail) sum +=
        json_integer_value(json_object_get(detail, "failed-session-count"));
    cr_assert_eq(sum, 2 * count);
    const json_t *summary = json_object_get(entry, "summary");
    cr_assert_eq(json_integer_value(json_object_get(summary, "total-failure-session-count")), sum);
    for (unsigned i = 1; i < TLSRPT_POLICIES_MAX; i++) {
        snprintf(host, sizeof(host), "mx%u.example", i);
        add(policies, &(struct tlsrpt_policy) { TLSRPT_TLSA, host, NULL, "" }, NULL, 1);
    }
    const struct tlsrpt_policy late = { TLSRPT_TLSA, "late.example", NULL, "" };
    cr_assert_eq(tlsrpt_add(policies, &late, NULL, 1), -ENOBUFS);
    add(policies, &nothing, NULL, 1);
    json_decref(policies);
}

Test(tlsrpt_report, days)
{
    static const char *const bad[] = { "",           "x",           "2016",        "2016-04",
                                       "2016-02-30", "2016-13-01",  "2016-04-01x", "1969-12-31",
                                       "2016-4-1",   " 2016-04-01", "9999-01-01" };
    uint32_t day = 0;
    char text[TLSRPT_DAY_TEXT_MAX];
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_expect_eq(tlsrpt_day_read(bad[i], &day), -EINVAL, "%s", bad[i]);
    cr_assert_eq(tlsrpt_day_read("2016-04-01", &day), 0);
    cr_assert_eq(day, 16'892);
    tlsrpt_day_text(day, text);
    cr_assert_str_eq(text, "2016-04-01");
}
