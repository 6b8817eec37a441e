/*
 * test_check_pins.c - L-07, for both directions and by what a server was shown
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#include "mta/cert_usage.h"
#include "mta/check.h"
#include "mta/config.h"
#include "tests/mta/findings.h"
#include "tests/tls/pki.h"

#define KEY_A "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define KEY_B "0f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define KEY_C "1f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define IN(pins)                                                                                   \
    "inbound i { type = partner state = enforce sender-domains = { d } cert-check = pin cert-pin " \
    "= { " pins " } }\n"
#define OUT(pins)                                                                                  \
    "outbound o { type = partner state = enforce domains = { d } hosts = { h } tls = encrypt "     \
    "tls-pin = { " pins " } }\n"
#define PIN(key) "\"sha256:" key "\""

/* How often L-07 is said, with these words. */
static unsigned told(const char *spool, const char *connectors, const char *words)
{
    struct config_report report;
    struct config *config = NULL;
    char text[1'024];
    config_report_init(&report);
    snprintf(text, sizeof(text),
             "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"
             "spool { directory = \"%s\" }\n%s",
             spool, connectors);
    cr_assert_eq(config_load_text(slice_of_string(text), "test", 1, &report, &config), 0, "%s",
                 report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    check_pins(config, &report);
    unsigned count = findings(&report, CONFIG_WARNING, words);
    cr_assert_eq(count, findings(&report, CONFIG_WARNING, "(L-07)"));
    config_report_free(&report);
    config_free(config);
    return count;
}

static void shown(const char *spool, int64_t until)
{
    char path[PKI_PATH_BYTES + 32];
    json_t *all = json_pack("{s:{s:{s:s, s:I}}}", ":keys", KEY_A, "where", "mx.d", "until",
                            (json_int_t)until);
    snprintf(path, sizeof(path), "%s/certificates.json", spool);
    cr_assert_eq(json_dump_file(all, path, 0), 0);
    json_decref(all);
}

Test(check_pins, L_07_one_alone)
{
    cr_assert_eq(told("/nowhere", IN(PIN(KEY_A)), "one pin only"), 1);
    cr_assert_eq(told("/nowhere", IN(PIN(KEY_A) ", " PIN(KEY_B)), "one pin only"), 0);
    cr_assert_eq(told("/nowhere", OUT(PIN(KEY_A)), "one pin only"), 1);
    cr_assert_eq(told("/nowhere", OUT(PIN(KEY_A) ", " PIN(KEY_B)), "one pin only"), 0);
}

Test(check_pins, L_07_of_a_certificate_that_expires_within_a_month)
{
    const int64_t now = time(NULL), day = CERT_USAGE_DAY_S;
    const char *words = "sha256:9f86d081884c7d65.. is the key of the certificate that mx.d showed";
    char spool[PKI_PATH_BYTES];
    pki_directory_make(spool);
    shown(spool, now + 29 * day);
    cr_assert_eq(told(spool, IN(PIN(KEY_A) ", " PIN(KEY_B)), words), 1);
    cr_assert_eq(told(spool, OUT(PIN(KEY_B) ", " PIN(KEY_A)), words), 1);
    cr_assert_eq(told(spool, OUT(PIN(KEY_B) ", " PIN(KEY_C)), words), 0);
    shown(spool, now + 31 * day);
    cr_assert_eq(told(spool, IN(PIN(KEY_A) ", " PIN(KEY_B)), words), 0);
    pki_directory_remove(spool);
}
