/*
 * test_check_inbound.c - each rule of CONNECTORS section 12 about inbound connectors: a file that
 * breaks it, and one that does not
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/check.h"
#include "mta/config.h"
#include "mta/crl_store.h"
#include "tests/tls/pki.h"

static const char head[] = "hostname = mx.corp.example\n"
                           "listener in { addresses = { 127.0.0.1:25 } }\n"
                           "relay { domains = { corp.example } }\n"
                           "addresses known { networks = { 192.0.2.0/28 } }\n";

static struct config_report report;

/* Loads and lints; whether the report names the rule, and how severely. */
static bool finds(const char *rule, const char *connectors, enum config_severity *severity)
{
    static char text[1 << 16];
    char mark[16];
    struct config *config;
    snprintf(text, sizeof(text), "%s%s", head, connectors);
    snprintf(mark, sizeof(mark), "(%s)", rule);
    config_report_init(&report);
    if (config_load_text(slice_of_string(text), "test", 1, &report, &config) == 0)
        check_inbound(config, &report);
    bool found = false;
    for (unsigned i = 0; i < report.count; i++)
        if (strstr(report.messages[i].text, mark) != NULL) {
            found = true;
            *severity = report.messages[i].severity;
        }
    config_free(config);
    return found;
}

static void rule(const char *id, enum config_severity severity, const char *bad, const char *good)
{
    enum config_severity told;
    cr_assert(finds(id, bad, &told), "%s is not found in %s", id, bad);
    cr_assert_eq(told, severity, "%s", id);
    config_report_free(&report);
    cr_assert_not(finds(id, good, &told), "%s is found in %s", id, good);
    cr_assert_eq(report.errors, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
}

#define PARTNER "type = partner state = enforce "
#define OWN "type = own state = enforce "

Test(check_inbound, L_01)
{
    rule("L-01", CONFIG_ERROR,
         "inbound a { " PARTNER "sender-domains = { \"*\" } restrict = yes }\n",
         "inbound a { " PARTNER "sender-domains = { \"*\" } restrict = yes\n"
         "  addresses = { 192.0.2.1 } }\n");
}

Test(check_inbound, L_02)
{
    rule("L-02", CONFIG_ERROR,
         "inbound a { " PARTNER "sender-domains = { \"*\" } addresses = { \"@nobody\" } }\n",
         "inbound a { " PARTNER "sender-domains = { \"*\" } addresses = { \"@known\" } }\n");
}

Test(check_inbound, L_03)
{
    rule("L-03", CONFIG_ERROR,
         "inbound a { " OWN "cert-name = { a.corp.example } addresses = { 192.0.2.1 } }\n",
         "inbound a { " OWN "cert-name = { a.corp.example } addresses = { 192.0.2.1 }\n"
         "  identify = both }\n");
}

Test(check_inbound, L_05)
{
    rule("L-05", CONFIG_ERROR,
         "inbound a { " OWN "cert-name = { a.corp.example } tls = optional }\n",
         "inbound a { " OWN "cert-name = { a.corp.example } }\n");
}

Test(check_inbound, L_06)
{
    rule("L-06", CONFIG_ERROR,
         "inbound a { " OWN "cert-name = { mail.protection.outlook.com } rights = { relay } }\n",
         "inbound a { " OWN "cert-name = { a.corp.example } rights = { relay } }\n");
    rule("L-06", CONFIG_WARNING,
         "inbound a { " PARTNER "sender-domains = { d.example, \"*.d.example\" } restrict = yes\n"
         "  cert-name = { \"*.pphosted.com\" } }\n",
         "inbound a { " PARTNER "sender-domains = { d.example, \"*.d.example\" } restrict = yes\n"
         "  cert-name = { mx.notpphosted.com } }\n");
    rule("L-06", CONFIG_ERROR,
         "inbound a { " OWN "addresses = { 40.107.3.0/24 } rights = { relay } }\n",
         "inbound a { " OWN "addresses = { 40.108.3.0/24 } rights = { relay } }\n");
    rule("L-06", CONFIG_ERROR,
         "inbound a { " OWN "addresses = { 52.96.0.0/12 } rights = { relay } }\n", /* around it */
         "inbound a { " OWN "addresses = { 52.96.0.0/12 } }\n");
    rule("L-06", CONFIG_ERROR, /* the way out */
         "inbound a { " OWN "cert-name = { mail.protection.outlook.com } rights = { relay } }\n",
         "inbound a { " OWN "cert-name = { mail.protection.outlook.com } rights = { relay }\n"
         "  require-header = { X-OriginatorOrg, corp.example } }\n");
}

Test(check_inbound, L_06_and_L_23_by_a_list_of_ones_own)
{
    char file[] = "/tmp/ringpost-platforms-XXXXXX", bad[512], good[512];
    int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    static const char list[] = "# ours, as of today\n"
                               "hoster.example  X-Hoster-Customer\n"
                               "\n"
                               "198.51.100.0/24 # no field\n";
    cr_assert_eq(write(fd, list, sizeof(list) - 1), (ssize_t)sizeof(list) - 1);
    close(fd);
    snprintf(bad, sizeof(bad),
             "inbound-defaults { platforms = \"%s\" }\n"
             "inbound a { " OWN "cert-name = { out.hoster.example } rights = { relay } }\n",
             file);
    snprintf(good, sizeof(good),
             "inbound-defaults { platforms = \"%s\" }\n"
             "inbound a { " OWN "cert-name = { out.hoster.example } rights = { relay }\n"
             "  require-header = { x-hoster-customer, us } }\n"
             "inbound b { " OWN
             "cert-name = { mail.protection.outlook.com } rights = { relay } }\n",
             file);
    rule("L-06", CONFIG_ERROR, bad, good);
    snprintf(bad, sizeof(bad),
             "inbound-defaults { platforms = \"%s\" }\n"
             "inbound a { " OWN "addresses = { 198.51.100.7 } rights = { relay }\n"
             "  require-header = { X-OriginatorOrg, us } }\n",
             file);
    rule("L-23", CONFIG_WARNING, bad, good);
    unlink(file);
}

Test(check_inbound, L_23)
{
    rule("L-23", CONFIG_WARNING,
         "inbound a { " OWN "cert-name = { mail.protection.outlook.com } rights = { relay }\n"
         "  require-header = { X-Mailer, corp.example } }\n",
         "inbound a { " OWN "cert-name = { mail.protection.outlook.com } rights = { relay }\n"
         "  require-header = { x-originatororg, corp.example } }\n");
}

Test(check_inbound, L_08)
{
    rule("L-08", CONFIG_WARNING,
         "inbound a { " OWN "cert-name = { a.corp.example } }\n"
         "inbound b { " OWN "cert-name = { A.corp.example } }\n",
         "inbound a { " OWN "cert-name = { a.corp.example } }\n"
         "inbound b { " OWN "cert-name = { b.corp.example } }\n");
    rule("L-08", CONFIG_WARNING,
         "inbound a { " OWN "addresses = { 192.0.2.0/28 } tls = optional }\n"
         "inbound b { " OWN "addresses = { \"@known\" } tls = optional }\n",
         "inbound a { " OWN "addresses = { 192.0.2.0/28 } tls = optional }\n"
         "inbound b { " OWN "addresses = { 192.0.2.0/29 } tls = optional }\n");
}

Test(check_inbound, L_10)
{
    static const char gateway[] =
        "inbound gw { " PARTNER "sender-domains = { \"*\" } restrict = yes\n"
        "  addresses = { 192.0.2.0/28 } }\n";
    static const char bank[] = "inbound bank { " PARTNER "restrict = yes\n"
                               "  sender-domains = { bank.example, \"*.bank.example\" }\n"
                               "  cert-name = { mx.bank.example } }\n";
    char both[1'024], any[1'024];
    snprintf(both, sizeof(both), "%s%s", gateway, bank);
    snprintf(any, sizeof(any), "%s%sinbound-defaults { lockdown = any }\n", gateway, bank);
    rule("L-10", CONFIG_WARNING, both, bank);
    rule("L-10", CONFIG_WARNING, both, any);
}

Test(check_inbound, L_11)
{
    rule("L-11", CONFIG_WARNING, "inbound a { " PARTNER "sender-domains = { \"*.d.example\" } }\n",
         "inbound a { " PARTNER "sender-domains = { \"*.d.example\", d.example } }\n");
    rule("L-11", CONFIG_WARNING,
         "inbound a { " PARTNER "sender-domains = { d.example } restrict = yes\n"
         "  addresses = { 192.0.2.1 } }\n",
         "inbound a { " PARTNER "sender-domains = { \"*.d.example\", d.example } restrict = yes\n"
         "  addresses = { 192.0.2.1 } }\n");
}

Test(check_inbound, L_12)
{
    rule("L-12", CONFIG_WARNING,
         "inbound a { " OWN "cert-name = { mx.hoster.example } rights = { relay } }\n",
         "inbound a { " OWN "cert-name = { \"*.relay.corp.example\" } rights = { relay } }\n");
}

Test(check_inbound, L_13)
{
    rule("L-13", CONFIG_WARNING,
         "inbound a { " OWN
         "cert-name = { a.corp.example } rights = { relay } relay-senders = any }\n",
         "inbound a { " OWN "cert-name = { a.corp.example } rights = { relay } }\n");
    rule("L-13", CONFIG_WARNING,
         "inbound a { " OWN "addresses = { 192.0.2.1 } rights = { relay } }\n",
         "inbound a { " OWN "addresses = { 192.0.2.1 } rights = { internal } }\n");
}

Test(check_inbound, L_14)
{
    rule("L-14", CONFIG_WARNING, "inbound a { " OWN "addresses = { 192.0.0.0/23 } }\n",
         "inbound a { " OWN "addresses = { 192.0.2.0/24 } }\n");
    rule("L-14", CONFIG_WARNING, "inbound a { " OWN "addresses = { 2001:db8::/47 } }\n",
         "inbound a { " OWN "addresses = { 2001:db8::/48 } }\n");
}

/* A range that is private, where the world comes in too. */
Test(check_inbound, L_14_private_ranges)
{
    static const struct {
        const char *listener, *addresses, *type;
        bool told;
    } cases[] = {
        { "0.0.0.0:25", "10.1.2.0/28", "own", true },
        { "[::]:25", "fd00::/64", "own", true },
        { "198.51.100.1:25", "10.1.2.0/28", "own", false }, /* documentation: as good as private */
        { "9.9.9.9:25", "10.1.2.0/28", "own", true },
        { "9.9.9.9:25", "10.1.2.3", "own", false },
        { "9.9.9.9:25", "9.9.8.0/28", "own", false },
        { "9.9.9.9:25", "10.1.2.0/28", "partner", false },
        { "10.0.0.1:25", "10.1.2.0/28", "own", false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char text[512];
        struct config *config;
        unsigned told = 0;
        snprintf(text, sizeof(text),
                 "hostname = mx.corp.example\nlistener in { addresses = { \"%s\" } }\n"
                 "relay { domains = { corp.example } }\n"
                 "inbound a { type = %s state = enforce addresses = { \"%s\" }%s }\n",
                 cases[i].listener, cases[i].type, cases[i].addresses,
                 strcmp(cases[i].type, "own") == 0 ? "" : " sender-domains = { \"*\" }");
        config_report_init(&report);
        cr_assert_eq(config_load_text(slice_of_string(text), "test", 1, &report, &config), 0, "%s",
                     text);
        check_inbound(config, &report);
        for (unsigned k = 0; k < report.count; k++)
            told += strstr(report.messages[k].text, "is private, and listener") != NULL;
        cr_assert_eq(told, cases[i].told, "%s", text);
        config_report_free(&report);
        config_free(config);
    }
}

Test(check_inbound, L_15)
{
    rule("L-15", CONFIG_WARNING,
         "inbound a { " PARTNER "sender-domains = { d.example } }\n"
         "inbound b { " PARTNER "sender-domains = { d.example } }\n",
         "inbound a { " PARTNER "sender-domains = { d.example } }\n"
         "inbound b { " PARTNER "sender-domains = { d.example, e.example } }\n");
}

Test(check_inbound, L_17)
{
    static const char hard[] =
        "inbound a { " OWN "cert-name = { a.corp.example } cert-revocation = hard }\n";
    char directory[PKI_PATH_BYTES], broken[1'024], whole[1'024], soft[1'024];
    pki_directory_make(directory);
    snprintf(broken, sizeof(broken), "crl { directory = \"%s\" }\n%s", directory, hard);
    snprintf(soft, sizeof(soft),
             "crl { directory = \"%s\" }\ninbound a { " OWN "cert-name = { a.corp.example } }\n",
             directory);
    json_t *state =
        json_pack("{s:[{s:s, s:s, s:s, s:I}]}", "lists", "url", "http://crl.example/", "connector",
                  "a", "error", "no connection", "next_update", (json_int_t)0);
    cr_assert_eq(crl_store_write_state(directory, state), 0);
    rule("L-17", CONFIG_WARNING, broken, soft);
    json_object_set_new(json_array_get(json_object_get(state, "lists"), 0), "next_update",
                        json_integer(INT64_C(1) << 40));
    char other[PKI_PATH_BYTES];
    pki_directory_make(other);
    cr_assert_eq(crl_store_write_state(other, state), 0);
    snprintf(whole, sizeof(whole), "crl { directory = \"%s\" }\n%s", other, hard);
    rule("L-17", CONFIG_WARNING, broken, whole);
    json_decref(state);
    pki_directory_remove(directory);
    pki_directory_remove(other);
}

/* ---- what is no connector at all: always with the way out ---- */

Test(check_inbound, refuses)
{
    static const struct {
        const char *connector, *key, *words;
    } cases[] = {
        { "state = test sender-domains = { d.example }", "type", "write type = partner" },
        { "type = partner sender-domains = { d.example }", "state", "write state = enforce" },
        { "type = partner state = test", "sender-domains", "is missing" },
        { "type = own state = test", "identify", "write cert-name or addresses" },
        { PARTNER "sender-domains = { d.example } rights = { relay }", "rights", "remove it" },
        { OWN "addresses = { 192.0.2.1 } restrict = yes", "restrict", "remove it" },
        { OWN "addresses = { 192.0.2.1 } rights = { fly }", "rights", "write relay" },
        { OWN "addresses = { 192.0.2.1 } identify = cert", "identify", "write cert-name" },
        { OWN "cert-name = { a.corp.example } identify = address", "identify", "write addresses" },
        { OWN "cert-pin = { \"sha256:12\" }", "cert-pin", "64 hex digits" },
        { OWN "cert-name = { a.corp.example } cert-check = pin", "cert-check", "write cert-pin" },
        { OWN "cert-name = { a.corp.example } cert-roots = nobodys", "cert-roots", "nobodys" },
        { OWN "addresses = { 192.0.2.1 } tls = optional tls-min = 1.3", "tls-min",
          "write tls = required" },
        { PARTNER "sender-domains = { \"a*.example\" }", "sender-domains", "write d, *.d or *" },
        { OWN "cert-name = { \"m*.d.example\" }", "cert-name", "is no name" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        char connector[512];
        enum config_severity severity;
        snprintf(connector, sizeof(connector), "inbound a { %s }\n", cases[i].connector);
        (void)finds("L-00", connector, &severity);
        bool told = false;
        for (unsigned k = 0; k < report.count; k++)
            told = told || (report.messages[k].severity == CONFIG_ERROR &&
                            strstr(report.messages[k].key, cases[i].key) != NULL &&
                            strstr(report.messages[k].text, cases[i].words) != NULL &&
                            report.messages[k].line == 5);
        cr_assert(told, "%s: %s", cases[i].connector,
                  report.count > 0 ? report.messages[0].text : "nothing");
        config_report_free(&report);
    }
}
