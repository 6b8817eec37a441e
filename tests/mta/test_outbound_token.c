/*
 * test_outbound_token.c - tokens of outbound failures and what follows from them
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/outbound_token.h"

Test(outbound_token, each_has_its_row)
{
    for (enum outbound_token token = FAULT_STARTTLS_NONE; token < OUTBOUND_TOKENS; token++) {
        const struct outbound_token_row *row = outbound_token_row(token);
        cr_assert_gt(strlen(row->name), 0);
        cr_assert_gt(strlen(row->words), 0);
        cr_assert(row->retry.klass == 0 || row->retry.klass == 4, "%s", row->name);
        cr_assert(row->expiry.klass == 0 || row->expiry.klass == 5, "%s", row->name);
        /* what is tried again bounces one day */
        cr_assert(row->retry.klass == 0 || row->expiry.klass == 5, "%s", row->name);
        for (enum outbound_token other = FAULT_NONE; other < token; other++)
            cr_assert_str_neq(row->name, outbound_token_name(other));
    }
    cr_assert_str_eq(outbound_token_name(FAULT_NONE), "");
}

static const char *status(enum outbound_token token, bool over, enum connector_replies replies,
                          bool dane)
{
    static char text[32];
    const struct smtp_enhanced is = outbound_token_status(token, over, replies, dane);
    snprintf(text, sizeof(text), "%u.%u.%u", is.klass, is.subject, is.detail);
    return text;
}

/* CONNECTORS 9, its columns. */
Test(outbound_token, the_status_is_ours_or_that_of_exchange_online)
{
    static const struct {
        enum outbound_token token;
        const char *retry, *over, *exchange, *exchange_over, *dane;
    } rows[] = {
        { FAULT_STARTTLS_NONE, "4.7.0", "5.7.0", "4.4.317", "5.4.317", "4.7.321" },
        { FAULT_HANDSHAKE, "4.7.5", "5.7.5", "4.4.317", "5.4.317", "4.4.317" },
        { FAULT_TOO_WEAK, "4.7.5", "5.7.5", "4.7.5", "5.7.5", "4.7.5" },
        { FAULT_CHAIN, "4.7.5", "5.7.5", "4.7.320", "5.7.320", "4.7.320" },
        { FAULT_EXPIRED, "4.7.5", "5.7.5", "4.7.320", "5.7.320", "4.7.322" },
        { FAULT_NAME, "4.7.5", "5.7.5", "4.7.320", "5.7.320", "4.7.325" },
        { FAULT_TLSA, "4.7.5", "5.7.5", "4.7.323", "5.7.323", "4.7.323" },
        { FAULT_DNSSEC, "4.4.3", "5.4.3", "4.7.324", "5.7.324", "4.7.324" },
        { FAULT_STS_MX, "4.7.5", "5.7.5", "4.4.8", "5.4.8", "4.4.8" },
        { FAULT_STS_CERT, "4.7.5", "5.7.5", "4.7.5", "5.7.5", "4.7.5" },
        { FAULT_REQUIRETLS, "5.7.30", "5.7.30", "5.7.30", "5.7.30", "5.7.30" },
        { FAULT_CLIENT_CERT, "4.7.5", "5.7.5", "4.7.5", "5.7.5", "4.7.5" },
        { FAULT_CONNECT, "4.4.1", "5.4.7", "4.4.316", "5.4.316", "4.4.316" },
        { FAULT_LOOP, "5.4.6", "5.4.6", "5.4.14", "5.4.14", "5.4.14" },
        { FAULT_STS_FETCH, "0.0.0", "0.0.0", "0.0.0", "0.0.0", "0.0.0" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const enum outbound_token t = rows[i].token;
        cr_expect_str_eq(status(t, false, CONNECTOR_REPLIES_PLAIN, false), rows[i].retry);
        cr_expect_str_eq(status(t, true, CONNECTOR_REPLIES_PLAIN, true), rows[i].over);
        cr_expect_str_eq(status(t, false, CONNECTOR_REPLIES_EXCHANGE, false), rows[i].exchange);
        cr_expect_str_eq(status(t, true, CONNECTOR_REPLIES_EXCHANGE, false), rows[i].exchange_over);
        cr_expect_str_eq(status(t, false, CONNECTOR_REPLIES_EXCHANGE, true), rows[i].dane);
    }
}

Test(outbound_token, replies_about_our_certificate)
{
    static const struct {
        struct smtp_enhanced status;
        const char *text;
        bool is;
    } cases[] = {
        { { 5, 7, 51 }, "TenantInboundAttribution; There is a partner connector", true },
        { { 5, 7, 51 }, "", true },
        { { 4, 7, 51 }, "later", true },
        { { 5, 7, 1 }, "Sender domain is restricted [cert-none] d=2F4K7QA", true },
        { { 4, 7, 1 }, "Sender domain is restricted [cert-untrusted] d=2F4K7QA", true },
        { { 5, 7, 1 }, "<mx.example>: Client host rejected: No client Certificate", true },
        { { 5, 7, 1 }, "CERTIFICATE", true },
        { { 5, 7, 1 }, "Relaying denied [relay-denied] d=2F4K7QA", false },
        { { 5, 7, 1 }, "certificat", false },
        { { 5, 7, 1 }, "", false },
        { { 5, 7, 5 }, "Sender domain is restricted [address-mismatch]", false },
        { { 5, 1, 1 }, "nobody has such a certificate", false },
        { { 2, 7, 51 }, "certificate", false },
        { { 5, 6, 51 }, "", false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_eq(outbound_reply_is_client_cert(cases[i].status, slice_of_string(cases[i].text)),
                     cases[i].is, "%s", cases[i].text);
}

/* A result type that RFC 8460 4.3 does not know makes a report worthless. */
Test(outbound_token, reports_use_the_types_of_rfc_8460)
{
    static const char *const types[] = {
        "starttls-not-supported", "certificate-host-mismatch",
        "certificate-expired",    "certificate-not-trusted",
        "validation-failure",     "tlsa-invalid",
        "dnssec-invalid",         "dane-required",
        "sts-policy-fetch-error", "sts-policy-invalid",
        "sts-webpki-invalid",     "",
    };
    for (enum outbound_token token = FAULT_NONE; token < OUTBOUND_TOKENS; token++) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_COUNT(types); i++)
            known = known || strcmp(outbound_token_row(token)->report, types[i]) == 0;
        cr_assert(known, "%s", outbound_token_name(token));
    }
}

Test(outbound_token, each_metric_counts_its_token)
{
    for (unsigned i = 0; i < outbound_token_metrics_count; i++) {
        char label[64];
        size_t token = outbound_token_metrics[i].offset / sizeof(uint64_t);
        cr_assert_gt(token, FAULT_NONE);
        cr_assert_lt(token, OUTBOUND_TOKENS);
        snprintf(label, sizeof(label), "token=\"%s\"",
                 outbound_token_name((enum outbound_token)token));
        cr_assert_str_eq(outbound_token_metrics[i].labels, label);
    }
}
