/*
 * test_tlsrpt_txt.c - records of _smtp._tls, malformed ones first
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/tlsrpt_txt.h"

static struct tlsrpt_uris uris;

static enum tlsrpt_txt read_text(const char *text)
{
    uint8_t rdata[8'192];
    size_t size = 0;
    for (size_t left = strlen(text); left > 0;) {
        const size_t part = MIN(left, (size_t)255);
        rdata[size++] = (uint8_t)part;
        memcpy(rdata + size, text, part);
        size += part;
        text += part;
        left -= part;
    }
    return tlsrpt_txt_read(slice_of(rdata, size), &uris);
}

Test(tlsrpt_txt, others_are_none)
{
    static const char *const others[] = { "",
                                          "v=spf1 -all",
                                          "v=TLSRPTv1",
                                          "V=TLSRPTv1; rua=mailto:a@b.example",
                                          " v=TLSRPTv1; rua=mailto:a@b.example",
                                          "v=TLSRPTv2; rua=mailto:a@b.example",
                                          "v=TLSRPTv1 rua=mailto:a@b.example",
                                          "v=tlsrptv1; rua=mailto:a@b.example",
                                          "rua=mailto:a@b.example; v=TLSRPTv1" };
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++)
        cr_expect_eq(read_text(others[i]), TLSRPT_TXT_OTHER, "%s", others[i]);
    cr_expect_eq(tlsrpt_txt_read(SLICE("\377v=TLSRPTv1;rua=mailto:a@b"), &uris), TLSRPT_TXT_OTHER);
}

Test(tlsrpt_txt, malformed)
{
    static const char *const bad[] = { "v=TLSRPTv1;",
                                       "v=TLSRPTv1; ;rua=mailto:a@b.example",
                                       "v=TLSRPTv1; rua",
                                       "v=TLSRPTv1; rua=",
                                       "v=TLSRPTv1; rua=mailto:",
                                       "v=TLSRPTv1; rua=a@b.example",
                                       "v=TLSRPTv1; rua=:a",
                                       "v=TLSRPTv1; rua=mailto:a@b.example,",
                                       "v=TLSRPTv1; rua=mailto:a@b.example,,https://c.example",
                                       "v=TLSRPTv1; rua=mailto:a@b.example!10m",
                                       "v=TLSRPTv1; rua=mailto:a b@c.example",
                                       "v=TLSRPTv1; rua=mailto:a@b\001.example",
                                       "v=TLSRPTv1; RUA=mailto:a@b.example",
                                       "v=TLSRPTv1; x=1",
                                       "v=TLSRPTv1; -x=1; rua=mailto:a@b.example",
                                       "v=TLSRPTv1; x=; rua=mailto:a@b.example",
                                       "v=TLSRPTv1; x=a b; rua=mailto:a@b.example" };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_expect_eq(read_text(bad[i]), TLSRPT_TXT_INVALID, "%s", bad[i]);
}

Test(tlsrpt_txt, where_reports_go)
{
    cr_assert_eq(read_text("v=TLSRPTv1; rua=mailto:reports@example.com"), TLSRPT_TXT_VALID);
    cr_assert_eq(uris.count, 1);
    cr_assert_eq(uris.uris[0].scheme, TLSRPT_MAILTO);
    cr_assert_str_eq(uris.uris[0].text, "mailto:reports@example.com");
    cr_assert_eq(
        read_text("v=TLSRPTv1 ;rua=https://reporting.example.com/v1/tlsrpt?a=b%21 , "
                  "ftp://c.example/, MAILTO:a@b.example ; x-y.z=1;rua=https://d.example; "),
        TLSRPT_TXT_VALID);
    cr_assert_eq(uris.count, 2);
    cr_assert_eq(uris.uris[0].scheme, TLSRPT_HTTPS);
    cr_assert_str_eq(uris.uris[0].text, "https://reporting.example.com/v1/tlsrpt?a=b%21");
    cr_assert_eq(uris.uris[1].scheme, TLSRPT_MAILTO);
    cr_assert_eq(read_text("v=TLSRPTv1;rua=ftp://c.example/"), TLSRPT_TXT_VALID);
    cr_assert_eq(uris.count, 0);
}

Test(tlsrpt_txt, bounds)
{
    char text[4'096] = "v=TLSRPTv1;rua=";
    size_t size = strlen(text);
    for (unsigned i = 0; i < TLSRPT_URIS_MAX + 3; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%shttps://h%u.example",
                                 i == 0 ? "" : ",", i);
    cr_assert_eq(read_text(text), TLSRPT_TXT_VALID);
    cr_assert_eq(uris.count, TLSRPT_URIS_MAX);
    snprintf(text, sizeof(text), "v=TLSRPTv1;rua=https://%0600d,https://a.example", 0);
    cr_assert_eq(read_text(text), TLSRPT_TXT_VALID);
    cr_assert_eq(uris.count, 1);
    cr_assert_str_eq(uris.uris[0].text, "https://a.example");
    snprintf(text, sizeof(text), "v=TLSRPTv1;rua=https://%03000d", 0);
    cr_assert_eq(read_text(text), TLSRPT_TXT_OTHER);
}

Test(tlsrpt_txt, mailboxes)
{
    static const struct {
        const char *uri, *mailbox; /* NULL: it is none */
    } cases[] = {
        { "mailto:reports@example.com", "reports@example.com" },
        { "MAILTO:Reports@Example.com?subject=x&cc=a@b.example", "Reports@Example.com" },
        { "mailto:a%2Bb@example.com", "a+b@example.com" },
        { "mailto:%22a%2cb%22@example.com", "\"a,b\"@example.com" },
        { "mailto:a@b.example%2Cc@d.example", NULL },
        { "mailto:a@b.example,c@d.example", NULL },
        { "mailto:", NULL },
        { "mailto:?to=a@b.example", NULL },
        { "mailto:a", NULL },
        { "mailto:a@b.example%", NULL },
        { "mailto:a@b.example%4", NULL },
        { "mailto:a@b.example%gg", NULL },
        { "mailto:a%0d%0aRCPT@b.example", NULL },
        { "mailto:a%00@b.example", NULL },
        { "mailto:%c3%bc@b.example", NULL },
        { "https://a@b.example", NULL },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char mailbox[TLSRPT_URI_MAX];
        bool good = tlsrpt_mailbox(cases[i].uri, mailbox);
        cr_expect_eq(good, cases[i].mailbox != NULL, "%s", cases[i].uri);
        if (good && cases[i].mailbox != NULL)
            cr_expect_str_eq(mailbox, cases[i].mailbox);
    }
}

Test(tlsrpt_txt, a_mailbox_is_as_long_as_an_address_may_be)
{
    char uri[TLSRPT_URI_MAX + 8], mailbox[TLSRPT_URI_MAX];
    snprintf(uri, sizeof(uri), "mailto:%0*d@b.example", 64, 0);
    cr_expect(tlsrpt_mailbox(uri, mailbox));
    snprintf(uri, sizeof(uri), "mailto:%0*d@b.example", 65, 0);
    cr_expect_not(tlsrpt_mailbox(uri, mailbox));
    snprintf(uri, sizeof(uri), "mailto:%0*d", TLSRPT_URI_MAX, 0);
    cr_expect_not(tlsrpt_mailbox(uri, mailbox));
}
