/*
 * test_connector_validated.c - what a validation is of, and files that are none
 */
#include "mta/connector_validated.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/config.h"

static struct config *config_of(const char *keys)
{
    char text[1'024];
    snprintf(text, sizeof(text),
             "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"
             "relay { domains = { corp.example } }\noutbound b { %s }\n",
             keys);
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return config;
}

#define B "type = own domains = { b.example } hosts = { h, i } "

static uint64_t digest_of(const char *keys)
{
    struct config *config = config_of(keys);
    uint64_t digest = config->outbound.connectors[0].digest;
    config_free(config);
    return digest;
}

Test(connector_validated, each_key_but_the_state_is_a_change)
{
    const uint64_t before = digest_of(B "state = test");
    cr_assert_eq(digest_of(B "state = enforce"), before);
    cr_assert_eq(digest_of("state = off hosts = { h, i } type = own domains = { b.example }"),
                 before, "the order of keys is none");
    static const char *const changes[] = {
        B "state = test tls = encrypt",
        B "state = test port = 26",
        "type = own domains = { b.example } hosts = { h } state = test",
        "type = own domains = { b.example } hosts = { i, h } state = test",
        "type = own domains = { b.example, c.example } hosts = { h, i } state = test",
        "type = partner domains = { b.example } hosts = { h, i } state = test",
        "type = own domains = { b.example } hosts = { h, i } source-addresses = { } state = test",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(changes); i++)
        cr_assert_neq(digest_of(changes[i]), before, "%s", changes[i]);
}

Test(connector_validated, a_file_keeps_what_was_found)
{
    char path[] = "/tmp/ringpost-validated.XXXXXX";
    cr_assert_geq(mkstemp(path), 0);
    struct config *config = config_of(B "state = enforce");
    const struct outbound *c = &config->outbound.connectors[0];
    json_t *all = connector_validated_read(path);
    cr_assert_eq(connector_validated_state(all, c), VALIDATED_NEVER);
    struct validation v = { .name = "b", .digest = c->digest, .good = true, .why = "", .at = 77 };
    cr_assert_eq(connector_validated_set(all, &v), 0);
    cr_assert_eq(connector_validated_write(path, all), 0);
    json_decref(all);
    all = connector_validated_read(path);
    cr_assert_eq(connector_validated_state(all, c), VALIDATED_GOOD);
    cr_assert_eq(connector_validated_at(all, "b"), 77);
    cr_assert_eq(connector_validated_at(all, "x"), 0);
    v.good = false;
    v.why = "not \xff UTF-8";
    cr_assert_eq(connector_validated_set(all, &v), 0);
    cr_assert_eq(connector_validated_state(all, c), VALIDATED_FAILED);
    v.digest++;
    cr_assert_eq(connector_validated_set(all, &v), 0);
    cr_assert_eq(connector_validated_state(all, c), VALIDATED_CHANGED);
    json_decref(all);
    config_free(config);
    unlink(path);
}

Test(connector_validated, what_is_no_such_file_validates_nothing)
{
    static const char *const bad[] = { "", "[]", "{\"b\":7}", "{\"b\":{\"digest\":7}}",
                                       "{\"b\":{" };
    struct config *config = config_of(B "state = enforce");
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
        char path[] = "/tmp/ringpost-validated.XXXXXX";
        int fd = mkstemp(path);
        cr_assert_eq(write(fd, bad[i], strlen(bad[i])), (ssize_t)strlen(bad[i]));
        close(fd);
        json_t *all = connector_validated_read(path);
        cr_assert_eq(connector_validated_state(all, &config->outbound.connectors[0]),
                     VALIDATED_NEVER);
        json_decref(all);
        unlink(path);
    }
    json_t *all = connector_validated_read("/nowhere/at/all");
    cr_assert_eq(json_object_size(all), 0);
    cr_assert_lt(connector_validated_write("/nowhere/at/all", all), 0);
    json_decref(all);
    config_free(config);
}
