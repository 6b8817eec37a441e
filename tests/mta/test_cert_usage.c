/*
 * test_cert_usage.c - what checks hear of certificates that partners have shown
 */
#include "mta/cert_usage.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char folder[] = "/tmp/ringpost-usage.XXXXXX";
static struct store *store;

static void setup(void)
{
    struct store_report report;
    char path[128];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/certificates.mdb", folder);
    cr_assert_eq(cert_seen_open(path, &store, &report), 0);
}

static void teardown(void)
{
    char command[128];
    store_close(store);
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(cert_usage, .init = setup, .fini = teardown);

static void shown(const char *connector, const char *where, unsigned usage, const char *root)
{
    struct cert_place place = { .side = CERT_OF_IN };
    struct cert_seen seen = { .usage = (uint8_t)usage, .valid = true };
    snprintf(place.title, sizeof(place.title), "%s", connector);
    snprintf(place.where, sizeof(place.where), "%s", where);
    snprintf(seen.names, sizeof(seen.names), "mx.%s", connector);
    snprintf(seen.root, sizeof(seen.root), "%s", root);
    cr_assert_eq(cert_seen_put(store, &place, &seen), 0);
}

/* "WHERE STOPS", or "". */
static const char *told(const json_t *all, const char *connector)
{
    static char text[128];
    const json_t *one = json_object_get(all, connector);
    text[0] = '\0';
    if (one != NULL)
        snprintf(text, sizeof(text), "%s %s", json_string_value(json_object_get(one, "where")),
                 json_string_value(json_object_get(one, "stops")));
    return text;
}

Test(cert_usage, who_is_refused_now_and_who_will_be)
{
    static const char isrg[] = "CN=ISRG Root X1,O=Internet Security Research Group,C=US";
    char path[128];
    shown("both", "a", TLS_USAGE_CLIENT, isrg);
    shown("both", "b", TLS_USAGE_SERVER, "CN=Some Root,O=Some");
    shown("later", "a", TLS_USAGE_CLIENT | TLS_USAGE_SERVER, "CN=Private,O=Bank");
    shown("later", "b", TLS_USAGE_CLIENT, isrg);
    shown("never", "a", TLS_USAGE_CLIENT, "CN=Private,O=Bank");
    shown("never", "b", TLS_USAGE_ANY, "");
    shown("now", "a", TLS_USAGE_SERVER, isrg);
    snprintf(path, sizeof(path), "%s/certificates.json", folder);
    cr_assert_eq(cert_usage_write(path, store, 0), 0);
    json_t *all = cert_usage_read(path);
    cr_expect_str_eq(told(all, "both"), "b ");
    cr_expect_str_eq(told(all, "later"), "b 2026-07-08");
    cr_expect_str_eq(told(all, "never"), "");
    cr_expect_str_eq(told(all, "now"), "a ");
    cr_expect_eq(json_object_size(all), 4, "and the keys");
    json_decref(all);
}

static void key_shown(enum cert_side side, const char *where, uint8_t key, int64_t not_after)
{
    struct cert_place place = { .side = side, .title = "c" };
    struct cert_seen seen = { .not_after = not_after, .spki = { key } };
    snprintf(place.where, sizeof(place.where), "%s", where);
    cr_assert_eq(cert_seen_put(store, &place, &seen), 0);
}

static int64_t known_until(const json_t *all, uint8_t key)
{
    const uint8_t spki[TLS_DIGEST_BYTES] = { key };
    return json_integer_value(json_object_get(cert_usage_key(all, spki), "until"));
}

Test(cert_usage, keys_of_certificates_that_expire_soon)
{
    enum { NOW = 1'000'000'000, SOON = NOW + CERT_USAGE_SOON_S };
    char path[128];
    key_shown(CERT_OF_IN, "a", 1, SOON - 1);
    key_shown(CERT_OF_OUT, "b", 2, NOW - 1);
    key_shown(CERT_OF_OUT, "c", 3, SOON);
    key_shown(CERT_OF_IN, "d", 4, NOW + 5);
    key_shown(CERT_OF_OUT, "d", 4, NOW + 9);
    key_shown(CERT_OF_IN, "e", 5, NOW);
    key_shown(CERT_OF_OUT, "e", 5, SOON); /* renewed, with its key */
    key_shown(CERT_OF_US, "current", 6, NOW);
    snprintf(path, sizeof(path), "%s/certificates.json", folder);
    cr_assert_eq(cert_usage_write(path, store, NOW), 0);
    json_t *all = cert_usage_read(path);
    cr_expect_eq(known_until(all, 1), SOON - 1);
    cr_expect_eq(known_until(all, 2), NOW - 1);
    cr_expect_eq(known_until(all, 3), 0);
    cr_expect_eq(known_until(all, 4), NOW + 9);
    cr_expect_eq(known_until(all, 5), 0);
    cr_expect_eq(known_until(all, 6), 0);
    json_decref(all);
}
