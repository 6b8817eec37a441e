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
