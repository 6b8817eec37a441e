/*
 * test_tlsrpt_mail.c - the mail that carries a report: fields of RFC 8460 5.3, lines that SMTP
 * takes
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/tlsrpt_mail.h"

static const uint8_t packed[] = { 0x1f, 0x8b, 8, 0, 1, 2, 3 };

static struct tlsrpt_mail mail_of(void)
{
    return (struct tlsrpt_mail) {
        .from = "tls@mx.sender.example",
        .to = "reports@company.example",
        .submitter = "mx.sender.example",
        .domain = "company.example",
        .id = "2016-04-01_company.example@mx.sender.example",
        .day = 16'892,
        .now_us = INT64_C(1'459'555'200) * 1'000'000,
        .random = 7,
        .packed = { packed, sizeof(packed) },
    };
}

static char *make(const struct tlsrpt_mail *mail, unsigned *signatures)
{
    size_t size;
    char *made = tlsrpt_mail_make(mail, &size, signatures);
    cr_assert_not_null(made);
    char *text = strndup(made, size);
    cr_assert_eq(strlen(text), size);
    free(made);
    for (size_t i = 0; i < size; i++) {
        cr_assert(text[i] != '\n' || (i > 0 && text[i - 1] == '\r'));
        cr_assert(text[i] != '\r' || text[i + 1] == '\n');
    }
    return text;
}

Test(tlsrpt_mail, fields_of_rfc_8460)
{
    const struct tlsrpt_mail mail = mail_of();
    unsigned signatures;
    char *text = make(&mail, &signatures);
    cr_assert_eq(signatures, 0);
    static const char *const lines[] = {
        "From: tls@mx.sender.example\r\n",
        "To: reports@company.example\r\n",
        ("Subject: Report Domain: company.example\r\n Submitter: mx.sender.example\r\n"
         " Report-ID: <2016-04-01_company.example@mx.sender.example>\r\n"),
        "TLS-Report-Domain: company.example\r\n",
        "TLS-Report-Submitter: mx.sender.example\r\n",
        "TLS-Required: No\r\n",
        "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n",
        "Content-Type: application/tlsrpt+gzip\r\n",
        "filename=\"mx.sender.example!company.example!1459468800!1459555199.json.gz\"\r\n",
        "\r\nH4sIAAECAw==\r\n",
        "\r\n--=_0000000000000007--\r\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
        cr_expect_not_null(strstr(text, lines[i]), "%s in\n%s", lines[i], text);
    free(text);
}

Test(tlsrpt_mail, the_longest_names_make_no_line_that_is_too_long)
{
    struct tlsrpt_mail mail = mail_of();
    char domain[254], from[320], to[320], id[600];
    uint8_t much[10'000] = { 1 };
    memset(domain, 'a', sizeof(domain) - 1);
    domain[sizeof(domain) - 1] = '\0';
    snprintf(from, sizeof(from), "%064d@%s", 0, domain);
    snprintf(to, sizeof(to), "%064d@%s", 1, domain);
    snprintf(id, sizeof(id), "2016-04-01_%s@%s", domain, domain);
    mail.from = from;
    mail.to = to;
    mail.submitter = domain;
    mail.domain = domain;
    mail.id = id;
    mail.packed = slice_of(much, sizeof(much));
    unsigned signatures;
    char *text = make(&mail, &signatures);
    for (const char *line = text, *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2)
        cr_assert_leq(end - line, 998);
    free(text);
}

Test(tlsrpt_mail, keys_of_the_senders_domain_and_above_sign)
{
    static const uint8_t seed[32] = { 1 };
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
    const struct dkim_key keys[] = {
        { "MX.sender.example", "own", key },   { "sender.example", "above", key },
        { "other.example", "other", key },     { "x.mx.sender.example", "below", key },
        { "ender.example", "not-above", key }, { "example", "top", key },
        { "sender.example", "fourth", key },   { "sender.example", "fifth", key },
    };
    struct tlsrpt_mail mail = mail_of();
    mail.keys = keys;
    mail.keys_count = ARRAY_COUNT(keys);
    unsigned signatures, found = 0;
    char *text = make(&mail, &signatures);
    for (const char *at = text; (at = strstr(at, "DKIM-Signature: ")) != NULL; at++)
        found++;
    cr_expect_eq(signatures, TLSRPT_SIGNATURES_MAX);
    cr_expect_eq(found, TLSRPT_SIGNATURES_MAX);
    static const char *const signs[] = { "s=own;", "s=above;", "s=top;", "s=fourth;" };
    static const char *const silent[] = { "s=other;", "s=below;", "s=not-above;", "s=fifth;" };
    for (unsigned i = 0; i < 4; i++) {
        cr_expect_not_null(strstr(text, signs[i]), "%s", signs[i]);
        cr_expect_null(strstr(text, silent[i]), "%s", silent[i]);
    }
    cr_expect_eq(strncmp(text, "DKIM-Signature: ", 16), 0);
    free(text);
    EVP_PKEY_free(key);
}
