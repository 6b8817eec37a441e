/*
 * test_check_asked.c - clients that are asked for a certificate, and whether anything comes of it:
 * for each finding one file that has it and one that has not
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mta/check.h"
#include "mta/config.h"
#include "tests/mta/findings.h"
#include "tests/tls/pki.h"

enum { PEM_BYTES = 16'384, TEXT_BYTES = 8'192 };

static char directory[PKI_PATH_BYTES];
static char pair_text[2 * PKI_PATH_BYTES + 128]; /* certificate "mx" { .. } */

static void setup(void)
{
    static char pem[PEM_BYTES];
    char chain[PKI_PATH_BYTES];
    pki_directory_make(directory);
    struct pki *root = pki_make(NULL, (struct pki_options) { .cn = "root", .is_ca = true });
    struct pki *leaf = pki_make(
        root, (struct pki_options) {
                  .cn = "mx", .names = { SLICE("mx.corp.example"), SLICE("*.partners.example") } });
    pki_pem_certificate(leaf, pem, sizeof(pem));
    snprintf(chain, sizeof(chain), "%s", pki_file(directory, "mx.pem", pem, 0644));
    pem[0] = '\0';
    pki_pem_key(leaf, PKI_PKCS8, pem, sizeof(pem));
    snprintf(pair_text, sizeof(pair_text), "certificate mx { chain = \"%s\" key = \"%s\" }\n",
             chain, pki_file(directory, "mx.key", pem, 0600));
    pki_free(leaf);
    pki_free(root);
}

static void teardown(void)
{
    pki_directory_remove(directory);
}

TestSuite(check_asked, .init = setup, .fini = teardown);

/* How often words are said, as this severity; -1: it is not loaded at all. */
static int said(const char *listener, const char *more, enum config_severity severity,
                const char *words)
{
    static char text[TEXT_BYTES];
    static struct config_report report;
    struct config *config;
    snprintf(text, sizeof(text),
             "hostname = mx.corp.example\n%slistener in { addresses = { 127.0.0.1:25 } %s }\n"
             "relay { domains = { corp.example } }\n%s",
             pair_text, listener, more);
    config_report_init(&report);
    if (config_load_text(slice_of_string(text), "test", 1, &report, &config) < 0) {
        config_report_free(&report);
        return -1;
    }
    check_asked(config, &report);
    const int count = (int)findings(&report, severity, words);
    config_report_free(&report);
    config_free(config);
    return count;
}

#define TLS "certificates = { mx } "
#define BANK                                                                                       \
    "inbound bank { type = partner state = enforce sender-domains = { bank.example } "             \
    "cert-name = { mx.bank.example } "

Test(check_asked, L_05_nobody_would_ask_this_connectors_peers)
{
    static const struct {
        const char *listener, *connector;
        int errors;
    } cases[] = {
        { "", BANK "}\n", 1 },
        { TLS, BANK "}\n", 0 },
        { "", BANK "identify = both addresses = { 192.0.2.1 } }\n", 1 },
        { "", BANK "identify = either addresses = { 192.0.2.1 } }\n", 0 },
        { TLS "never-ask = { 192.0.2.0/24 }", BANK "identify = both addresses = { 192.0.2.1 } }\n",
          1 },
        { TLS "never-ask = { 192.0.2.0/24 }",
          BANK "identify = both addresses = { 192.0.2.1, 198.51.100.1 } }\n", 0 },
        { TLS "never-ask = { 192.0.2.1 }", BANK "identify = both addresses = { 192.0.2.0/28 } }\n",
          0 },
        { TLS "never-ask = { 192.0.2.1 }", BANK "}\n", 0 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_eq(said(cases[i].listener, cases[i].connector, CONFIG_ERROR, "(L-05)"),
                     cases[i].errors, "case %zu", i);
    for (size_t i = 0; i < 2; i++) {
        static const char more[] =
            "sender-domains = { b.example } cert-name = { mx.b.example } }\n";
        char tested[256];
        snprintf(tested, sizeof(tested), "inbound bank { type = partner state = %s %s",
                 i == 0 ? "off" : "test", more);
        cr_assert_eq(said("", tested, CONFIG_ERROR, "(L-05)"), 0);
        cr_assert_eq(said("", tested, CONFIG_WARNING, "(L-05)"), (int)i);
    }
}

Test(check_asked, a_reserved_name_is_borne_by_a_certificate)
{
    static const char words[] = "no certificate of this listener bears";
    cr_assert_eq(said(TLS "request-on-sni = { mx.corp.example, bank.partners.example }", BANK "}\n",
                      CONFIG_WARNING, words),
                 0);
    cr_assert_eq(
        said(TLS "request-on-sni = { \"*.partners.example\" }", BANK "}\n", CONFIG_WARNING, words),
        0);
    cr_assert_eq(said(TLS "request-on-sni = { other.example, a.bank.partners.example }", BANK "}\n",
                      CONFIG_WARNING, words),
                 2);
}

Test(check_asked, somebody_looks_at_what_is_asked_for)
{
    static const char words[] = "no inbound connector looks at them";
    static const char asks[] = TLS "request-on-sni = { mx.corp.example }";
    cr_assert_eq(said(asks, "", CONFIG_WARNING, words), 1);
    cr_assert_eq(said(asks, BANK "}\n", CONFIG_WARNING, words), 0);
    cr_assert_eq(said(TLS, "", CONFIG_WARNING, words), 0);
}

Test(check_asked, names_only_where_there_is_tls)
{
    cr_assert_eq(said("request-on-sni = { mx.corp.example }", "", CONFIG_ERROR, ""), -1);
    cr_assert_eq(said(TLS "tls = none request-on-sni = { mx.corp.example }", "", CONFIG_ERROR, ""),
                 -1);
}
