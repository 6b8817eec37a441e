/*
 * test_config_certificate.c - what partners are told of and what they expect: invalid before valid
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/config.h"

#define GOOD "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static struct config_report report;

static struct config *load(const char *text, int wanted)
{
    struct config *config = NULL;
    char all[4'096];
    snprintf(all, sizeof(all), GOOD "%s", text);
    config_report_free(&report);
    int r = config_load_text(slice_of_string(all), "test", 1, &report, &config);
    cr_assert_eq(r, wanted, "%s: %s", text, report.count == 0 ? "" : report.messages[0].text);
    return config;
}

static void refused(const char *text, const char *key, const char *words)
{
    load(text, -22);
    for (unsigned i = 0; i < report.count; i++)
        if (strcmp(report.messages[i].key, key) == 0 &&
            strstr(report.messages[i].text, words) != NULL)
            return;
    cr_expect(false, "%s: no `%s: %s`; the first is `%s: %s`", text, key, words,
              report.messages[0].key, report.messages[0].text);
}

Test(config_certificate, what_is_wrong_says_so)
{
#define EXPECTS(keys) "partner-expects bank { " keys " }"
    refused(EXPECTS(""), "partner-expects \"bank\": name", "is missing");
    refused(EXPECTS("pin = { abc }"), "partner-expects \"bank\": pin", "is no pin");
    refused(EXPECTS("root = { \"sha256:12\" }"), "partner-expects \"bank\": root", "is no digest");
    refused(EXPECTS("root = { nothing }"), "partner-expects \"bank\": root", "there is no roots");
    refused(EXPECTS("name = { \"a b\" }"), "partner-expects \"bank\": name", "is no name");
    refused(EXPECTS("name = { a.test } certificate = none"),
            "partner-expects \"bank\": certificate", "there is no certificate");
    refused("tls { expiry-days = { soon } }", "tls: expiry-days", "is no number of days");
    refused("tls { expiry-days = { 0 } }", "tls: expiry-days", "is no number of days");
    refused("tls { expiry-days = { 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 } }",
            "tls: expiry-days", "more than 16");
#define NODE(keys) "certificate node { chain = /no/chain key = /no/key " keys " }"
    refused(NODE("change-on = 2026-12-01"), "certificate \"node\": next", "is missing");
    refused(NODE("next-key = /no/such"), "certificate \"node\": next", "is missing");
    refused(NODE("next = /no/such change-on = \"2026-02-30\""), "certificate \"node\": change-on",
            "is no day");
    refused(NODE("next = /no/such change-on = tomorrow"), "certificate \"node\": change-on",
            "is no day");
    refused(NODE("next = /no/such change-on = \"2026-12-01x\""), "certificate \"node\": change-on",
            "is no day");
}

Test(config_certificate, days_are_in_order_and_have_a_default)
{
    struct config *config = load("", 0);
    cr_expect_eq(config->tls.expiry_days_count, 5U);
    cr_expect_eq(config->tls.expiry_days[0], 30U);
    cr_expect_eq(config->tls.expiry_days[4], 1U);
    config_free(config);
    config = load("tls { expiry-days = { 2, 60, 10 } }", 0);
    cr_expect_eq(config->tls.expiry_days_count, 3U);
    cr_expect_eq(config->tls.expiry_days[0], 60U);
    cr_expect_eq(config->tls.expiry_days[2], 2U);
    config_free(config);
    config = load("tls { expiry-days = { } }", 0);
    cr_expect_eq(config->tls.expiry_days_count, 0U);
    config_free(config);
    config_report_free(&report);
}

Test(config_certificate, what_a_partner_expects)
{
    struct config *config = load("partner-expects bank { name = { MX.example, *.bücher.example } "
                                 "pin = { \"sha256:" ZEROS "\" } root = { \"sha256:" ZEROS "\" } }",
                                 0);
    cr_assert_eq(config->expectations_count, 1U);
    const struct config_expectation *e = &config->expectations[0];
    cr_expect_str_eq(e->name, "bank");
    cr_expect_null(e->certificate);
    cr_expect_eq(e->names_count, 2U);
    cr_expect(slice_equal(e->names[0], SLICE("mx.example")));
    cr_expect(slice_equal(e->names[1], SLICE("*.xn--bcher-kva.example")));
    cr_expect_eq(e->pins_count, 1U);
    cr_expect_eq(e->roots_count, 1U);
    cr_expect_eq(e->bundles_count, 0U);
    config_free(config);
    config_report_free(&report);
}
