/*
 * test_check_outbound.c - what is said of outbound connectors that do not do what was meant: for
 * each finding one file that has it and one that has not
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mta/check.h"
#include "mta/config.h"
#include "tests/mta/findings.h"

#define HEAD                                                                                       \
    "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"                    \
    "relay { domains = { corp.example } }\n"
#define OUTBOUND(name, more)                                                                       \
    "outbound " name " { type = own state = enforce hosts = { h } " more "}\n"

/* How often words are said, as this severity. */
static unsigned said(const char *text, enum config_severity severity, const char *words)
{
    struct config_report report;
    struct config *config;
    config_report_init(&report);
    if (config_load_text(slice_of_string(text), "test", 1, &report, &config) == 0)
        check_lint(config, &report);
    const unsigned count = findings(&report, severity, words);
    config_report_free(&report);
    config_free(config);
    return count;
}

#define ERRORS(text, words) said(text, CONFIG_ERROR, words)
#define WARNINGS(text, words) said(text, CONFIG_WARNING, words)

#define INBOUND "inbound i { type = own state = off addresses = { 192.0.2.1 } label = l }\n"

Test(check_outbound, L_02_a_label_that_nobody_has)
{
    static const char rule[] = "rule r { if-label = { l, m } require = encrypt }\n";
    static const char by_label[] = HEAD OUTBOUND("a", "domains = { d } from-labels = { l }");
    char text[1'024];
    cr_assert_eq(ERRORS(by_label, "(L-02)"), 1);
    snprintf(text, sizeof(text), "%s%s", by_label, INBOUND);
    cr_assert_eq(ERRORS(text, "(L-02)"), 0);
    snprintf(text, sizeof(text), "%s%s", HEAD, rule);
    cr_assert_eq(ERRORS(text, "(L-02)"), 2);
    snprintf(text, sizeof(text), "%s%s%s", HEAD, INBOUND, rule);
    cr_assert_eq(ERRORS(text, "no inbound connector has the label \"m\" (L-02)"), 1);
    cr_assert_eq(ERRORS(text, "(L-02)"), 1);
}

Test(check_outbound, L_04_an_address_has_no_name)
{
    static const char bad[] = HEAD "outbound a { type = own state = enforce hosts = { 192.0.2.1 } "
                                   "domains = { d } tls = name }\n";
    static const char good[] = HEAD "outbound a { type = own state = enforce hosts = { 192.0.2.1 } "
                                    "domains = { d } tls = name tls-name = { mx.d } }\n";
    cr_assert_eq(ERRORS(bad, "L-04"), 1);
    cr_assert_eq(ERRORS(good, "L-04"), 0);
}

Test(check_outbound, L_09_a_chain_names_nobody)
{
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { d } tls = chain"), "L-09"), 1);
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { d } tls = name"), "L-09"), 0);
}

Test(check_outbound, L_11_a_domain_and_what_is_below_it)
{
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { *.d.example }"),
                          "*.d.example does not match d.example itself, which no connector names"),
                 1);
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { *.d.example }")
                              OUTBOUND("b", "domains = { d.example }"),
                          "L-11"),
                 2, "each of the two is told of the other");
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { d.example, *.d.example, * }"), "L-11"),
                 0);
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { d.example }"), "L-11"), 0,
                 "many a domain has nothing below it");
}

Test(check_outbound, L_15_never_wins)
{
    static const char shadowed[] = HEAD OUTBOUND("a", "domains = { d, *.d, e, all-own }")
        OUTBOUND("b", "domains = { d, *.d, all-own }");
    static const char by_cost[] =
        HEAD OUTBOUND("a", "domains = { d }") OUTBOUND("b", "domains = { d } cost = 1");
    cr_assert_eq(WARNINGS(shadowed, "never wins: \"a\" has each of its domains"), 1);
    cr_assert_eq(WARNINGS(by_cost, "never wins: \"b\""), 1);
    static const char *const good[] = {
        HEAD OUTBOUND("a", "domains = { d }") OUTBOUND("b", "domains = { d, e }"),
        HEAD OUTBOUND("a", "domains = { *.d }") OUTBOUND("b", "domains = { x.d }"),
        HEAD OUTBOUND("a", "domains = { *.x.d }") OUTBOUND("b", "domains = { *.d }"),
        HEAD OUTBOUND("a", "domains = { d } max-size = 1M") OUTBOUND("b", "domains = { d }"),
        HEAD OUTBOUND("a", "domains = { d } sender-domains = { s }")
            OUTBOUND("b", "domains = { d }"),
        HEAD OUTBOUND("a", "domains = { d } from-labels = { l }") OUTBOUND("b", "domains = { d }"),
        HEAD OUTBOUND("a", "domains = { d }") OUTBOUND("b", "domains = { d }") "rule r { use = b }",
        HEAD "outbound a { type = own state = test hosts = { h } domains = { d } }\n" OUTBOUND(
            "b", "domains = { d }"),
    };
    for (unsigned i = 0; i < ARRAY_COUNT(good); i++)
        cr_assert_eq(WARNINGS(good[i], "L-15"), 0, "%s", good[i]);
    cr_assert_eq(WARNINGS(HEAD OUTBOUND("a", "domains = { d } max-size = 2M")
                              OUTBOUND("b", "domains = { d } max-size = 1M"),
                          "L-15"),
                 1, "all that b takes is small enough for a");
}

Test(check_outbound, L_19_all_mail_in_a_circle)
{
    cr_assert_eq(ERRORS(HEAD OUTBOUND("a", "all-mail = yes"), "L-19"), 1);
    cr_assert_eq(ERRORS(HEAD OUTBOUND("a", "all-mail = yes label = dc"), "L-19"), 1);
    static const char back[] =
        HEAD OUTBOUND("a", "all-mail = yes label = dc") "inbound b { type = own state = enforce "
                                                        "tls = optional addresses = { 192.0.2.9 } "
                                                        "label = dc }\n";
    cr_assert_eq(ERRORS(back, "L-19"), 0);
    static const char ourselves[] = HEAD "outbound a { type = own state = enforce all-mail = yes "
                                         "label = dc hosts = { \"127.0.0.1:25\" } }\n";
    cr_assert_eq(ERRORS(ourselves, "in a circle"), 1);
}

Test(check_outbound, L_20_in_clear_to_everybody)
{
    cr_assert_eq(ERRORS(HEAD OUTBOUND("a", "domains = { * } tls = none"), "L-20"), 1);
    cr_assert_eq(ERRORS(HEAD OUTBOUND("a", "domains = { * } tls = may"), "L-20"), 0);
    cr_assert_eq(ERRORS(HEAD OUTBOUND("a", "domains = { *.d } tls = none"), "L-20"), 0);
    static const char shown[] = HEAD OUTBOUND(
        "a", "domains = { d } tls = encrypt client-certificate = c cleartext = no-offer");
    static const char never[] = HEAD OUTBOUND(
        "a", "domains = { d } tls = encrypt client-certificate = c cleartext = never");
    cr_assert_eq(ERRORS(shown, "L-20"), 1);
    cr_assert_eq(ERRORS(never, "L-20"), 0);
}
