/*
 * test_config.c - files with mistakes and the exact words about them; then defaults, and the
 * example
 *
 * tests/mta/data/config-bad-*.conf have their messages in .expect: "LINE: [warning: ]KEY: TEXT".
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/check.h"
#include "mta/config.h"
#include "mta/config_build.h"
#include "mta/config_text.h"
#include "tests/core/fewer.h"

#define DATA "tests/mta/data/"
#define EXAMPLE "deploy/ringpost.conf.example"
#define GOOD "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"

static struct config_report report;

static int load_text(const char *text, struct config **config)
{
    config_report_free(&report);
    return config_load_text(slice_of_string(text), "test", 1, &report, config);
}

static char *report_text(void)
{
    static char text[65'536];
    size_t size = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < report.count && size < sizeof(text); i++) {
        const struct config_message *m = &report.messages[i];
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%u: %s%s: %s\n", m->line,
                                 m->severity == CONFIG_ERROR ? "" : "warning: ", m->key, m->text);
    }
    return text;
}

static char *file_text(const char *path)
{
    static char text[65'536];
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static struct config *good(const char *text)
{
    struct config *config;
    cr_assert_eq(load_text(text, &config), 0, "%s", report_text());
    return config;
}

/* Whether text is refused with these words somewhere. */
static void refused(const char *text, const char *words)
{
    struct config *config;
    cr_assert_eq(load_text(text, &config), -EINVAL, "%s", text);
    cr_assert_null(config);
    cr_assert_not_null(strstr(report_text(), words), "wanted: %s\ngot: %s", words, report_text());
}

Test(config, mistakes_are_told_all_with_line_key_and_way_out)
{
    glob_t found;
    cr_assert_eq(glob(DATA "config-bad-*.conf", 0, NULL, &found), 0);
    cr_assert_geq(found.gl_pathc, 10);
    /* twice: what one file left in the parser must not show in the next */
    for (size_t i = 0; i < 2 * found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i % found.gl_pathc];
        char expect[256];
        struct config *config;
        snprintf(expect, sizeof(expect), "%.*s.expect", (int)(strlen(path) - 5), path);
        config_report_free(&report);
        cr_assert_eq(config_load(path, 1, &report, &config), -EINVAL, "%s", path);
        cr_assert_null(config);
        cr_expect_str_eq(report_text(), file_text(expect), "%s:\n%s", path, report_text());
        for (unsigned k = 0; k < report.count; k++)
            cr_expect_str_eq(report.messages[k].file, path);
    }
    globfree(&found);
}

/* libConfuse does not see a title again: sections are taken from it as they end. */
Test(config, a_title_is_found_again_among_thousands)
{
    enum { SECTIONS = 3'000 };
    static char text[SECTIONS * 128];
    struct config *config;
    size_t size = (size_t)snprintf(text, sizeof(text), GOOD);
    for (unsigned i = 0; i < SECTIONS; i++)
        size +=
            (size_t)snprintf(text + size, sizeof(text) - size,
                             "outbound \"o%u\" { type = own state = enforce domains = { d%u.test }"
                             " hosts = { h.test } %s }\n",
                             i % 1'000 == 7 ? 7 : i, i, i == 1'500 ? "hots = { h }" : "");
    cr_assert_eq(load_text(text, &config), -EINVAL);
    cr_assert_str_eq(
        report_text(),
        "1010: outbound \"o7\": there is another one of this title; give each its own\n"
        "1503: outbound \"o1500\": hots: unknown key; did you mean `hosts`?\n"
        "2010: outbound \"o7\": there is another one of this title; give each its own\n");
}

Test(config, files_that_cannot_be_read)
{
    struct config *config;
    cr_assert_eq(config_load("/nonexistent/ringpost.conf", 1, &report, &config), -EINVAL);
    cr_assert_eq(report.errors, 1);
    cr_assert_not_null(strstr(report_text(), "No such file"));
    cr_assert_eq(config_load("/", 1, &report, &config), -EINVAL);
    cr_assert_eq(report.errors, 2);
}

Test(config, nothing_is_no_configuration)
{
    refused("", "listener: there is none");
    refused("\n\n# only words\n", "listener: there is none");
    struct config *config;
    static const char nul[] = GOOD "log { file = a\0b }";
    config_report_free(&report);
    cr_assert_eq(config_load_text(slice_of(nul, sizeof(nul) - 1), "test", 1, &report, &config),
                 -EINVAL);
    cr_assert_not_null(strstr(report_text(), "3: : a control octet"));
}

Test(config, libconfuse_has_no_back_doors)
{
    refused(GOOD "spool|directory = /tmp", "no");
    refused(GOOD "spool { cache = 1M }\nspool|directory = /tmp", "a key with |");
    refused(GOOD "listener|in|backlog = 5", "no sub-section");
    refused(GOOD "include(\"/etc/passwd\")", "include");
    refused(GOOD "listener \"b\" { addresses = { 127.0.0.1:26 }", "never closed");
    refused(GOOD "user += a", "append");
}

Test(config, bounds_on_numbers_of_things)
{
    static char text[1 << 21];
    size_t size = (size_t)sprintf(text, "hostname = a.example\n");
    for (unsigned i = 0; i <= CONFIG_LISTENERS_MAX; i++)
        size += (size_t)sprintf(text + size, "listener l%u { addresses = { 127.0.0.1:%u } }\n", i,
                                1'000 + i);
    refused(text, "more than 64 listeners");
    size = (size_t)sprintf(text, GOOD);
    for (unsigned i = 0; i <= CONNECTORS_MAX; i++)
        size += (size_t)sprintf(text + size,
                                "outbound r%u { type = own state = off domains = { d%u } hosts = { "
                                "h } }\n",
                                i, i);
    refused(text, "more than 16384 of them");
    size = (size_t)sprintf(text, GOOD "relay { networks = { 192.0.2.1");
    for (unsigned i = 0; i < NETWORKS_PREFIXES_MAX; i++)
        size += (size_t)sprintf(text + size, ", 10.0.%u.%u", i / 256, i % 256);
    sprintf(text + size, " } }");
    refused(text, "more than 16384 networks");
    if (!UNDER_ASAN) { /* libConfuse makes room for one more each time, and ASan moves all of them
                        */
        size = (size_t)sprintf(text, GOOD "relay { domains = { x");
        for (unsigned i = 0; i < PATTERNS_MAX; i++)
            size += (size_t)sprintf(text + size, ", a%u.b", i);
        sprintf(text + size, " } }");
        refused(text, "more than 65536 patterns");
    }
    size = (size_t)sprintf(
        text, GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { h0");
    for (unsigned i = 1; i <= ROUTE_HOSTS_MAX; i++)
        size += (size_t)sprintf(text + size, ", h%u", i);
    sprintf(text + size, " } }");
    refused(text, "more than 64 hosts");
}

Test(config, a_report_is_bounded_and_counts_on)
{
    static char text[1 << 20];
    size_t size = (size_t)sprintf(text, GOOD "relay { networks = { bad0");
    for (unsigned i = 1; i < 1'000; i++)
        size += (size_t)sprintf(text + size, ", bad%u", i);
    sprintf(text + size, " } }");
    struct config *config;
    cr_assert_eq(load_text(text, &config), -EINVAL);
    cr_assert_eq(report.count, CONFIG_MESSAGES_MAX);
    cr_assert_eq(report.errors, 1'000);
    size = 0;
    for (unsigned i = 0; i < 1'000; i++)
        size += (size_t)sprintf(text + size, "unknown-key-%u = x\n", i);
    refused(text, "too many unknown keys");
}

Test(config, times_and_sizes)
{
    static const char *const bad_times[] = { "",
                                             "5",
                                             "s",
                                             "5x",
                                             "-5s",
                                             "5 s",
                                             "5s ",
                                             "1.5h",
                                             "5S",
                                             "00",
                                             "5sm",
                                             "18446744073709551616ms",
                                             "18446744073709551615w" };
    static const char *const bad_sizes[] = { "",   "K",   "5k",   "5KB", "5MB",
                                             "-5", "5 M", "1.5M", "5M5", "18446744073709551615K" };
    uint64_t value;
    for (unsigned i = 0; i < ARRAY_COUNT(bad_times); i++)
        cr_assert_lt(config_parse_time(bad_times[i], &value), 0, "%s", bad_times[i]);
    for (unsigned i = 0; i < ARRAY_COUNT(bad_sizes); i++)
        cr_assert_lt(config_parse_size(bad_sizes[i], &value), 0, "%s", bad_sizes[i]);
    static const struct {
        const char *text;
        uint64_t value;
    } times[] = { { "0", 0 },
                  { "0s", 0 },
                  { "500ms", 500 },
                  { "30s", 30'000 },
                  { "5m", 300'000 },
                  { "1h30m", 5'400'000 },
                  { "5d", 432'000'000 },
                  { "2w", 1'209'600'000 } },
      sizes[] = { { "0", 0 },          { "512", 512 },
                  { "64K", 65'536 },   { "50M", 52'428'800 },
                  { "1GiB", 1 << 30 }, { "2T", UINT64_C(2) << 40 } };
    for (unsigned i = 0; i < ARRAY_COUNT(times); i++) {
        cr_assert_eq(config_parse_time(times[i].text, &value), 0);
        cr_assert_eq(value, times[i].value, "%s", times[i].text);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        cr_assert_eq(config_parse_size(sizes[i].text, &value), 0);
        cr_assert_eq(value, sizes[i].value, "%s", sizes[i].text);
    }
}

Test(config, good_files)
{
    struct config *config;
    struct pattern_match match;
    config_report_free(&report);
    cr_assert_eq(config_load(DATA "config-good-small.conf", 7, &report, &config), 0, "%s",
                 report_text());
    cr_assert_eq(report.count, 0);
    cr_assert_eq(config->generation, 7);
    cr_assert_str_eq(config->hostname, "mx1.example.org");
    cr_assert_eq(config->listeners_count, 1);
    cr_assert_eq(config->listeners[0].addresses_count, 2);
    cr_assert_eq(config->listeners[0].addresses[1].port, 25);
    cr_assert_eq(config->listeners[0].line, 2);
    cr_assert_str_eq(config->listeners[0].banner, "mx1.example.org");
    cr_assert_eq(config->listeners[0].size_max, 50 << 20);
    cr_assert_eq(config->outbound.connectors[0].route.line, 4);
    /* A wildcard stands for every address of this machine; loopback is always one. */
    bool loopback = false;
    for (unsigned i = 0; i < config->delivery.own_addresses_count; i++)
        loopback = loopback || net_is_loopback(&config->delivery.own_addresses[i]);
    cr_assert(loopback);
    cr_assert_str_eq(config->bounce.address, "MAILER-DAEMON@mx1.example.org");
    config_free(config);
    /* CRLF, all comments, bare stars, appended lists, the environment, no newline at the end */
    unsetenv("NO_SUCH_VARIABLE");
    cr_assert_eq(config_load(DATA "config-good-forms.conf", 1, &report, &config), 0, "%s",
                 report_text());
    cr_assert_eq(pattern_set_count(config->relay.domains), 4);
    cr_assert(pattern_set_find(config->relay.domains, SLICE("a.d.example"), &match));
    cr_assert_eq(match.kind, PATTERN_WILDCARD);
    cr_assert_str_eq(config->log.file, "/var/log/a b");
    cr_assert_str_eq(config->relay.postmaster_domain, "e.example");
    config_free(config);
}

Test(config, built_in_default)
{
    struct config *config = good(config_default_text);
    cr_assert_eq(report.count, 0, "%s", report_text());
    for (unsigned i = 0; i < config->listeners_count; i++)
        for (unsigned k = 0; k < config->listeners[i].addresses_count; k++)
            cr_assert(net_is_loopback(&config->listeners[i].addresses[k]));
    cr_assert_eq(networks_count(config->relay.networks), 0);
    cr_assert_eq(config->delivery.own_addresses_count, 2);
    check_lint(config, &report);
    cr_assert_eq(report.errors, 0, "%s", report_text());
    config_free(config);
}

/* Without its marks the example has every key; the values behind the marks are the defaults. */
Test(config, the_example_is_complete_and_its_defaults_are_true)
{
    static char example[65'536], full[65'536], all[65'536];
    const char *text = file_text(EXAMPLE);
    cr_assert_lt(strlen(text), sizeof(example));
    memcpy(example, text, strlen(text) + 1);
    size_t size = 0;
    for (char *at = example; *at != '\0';) {
        if (strncmp(at, "#: ", 3) == 0 || strncmp(at, "#- ", 3) == 0)
            at += 3;
        full[size++] = *at++;
    }
    size = 0;
    for (const char *at = full;
         *at != '\0';) { /* what needs files is not loaded, only looked for */
        if (strncmp(at, "#+ ", 3) == 0)
            at += 3;
        all[size++] = *at++;
    }
    struct config *a = good(example), *b = good(full);
    for (unsigned i = 0; i < config_schemas_count; i++)
        for (unsigned list = 0; list < 2; list++) {
            const struct config_schema *schema = &config_schemas[i];
            if (strcmp(schema->name, "route") == 0)
                continue; /* only there to be refused */
            for (const char *const *key = list ? schema->lists : schema->singles; *key != NULL;
                 key++) {
                struct config_cursor cursor = { 0 };
                char *cleaned;
                cr_assert_eq(config_text_clean(slice_of_string(all), "x", &report, &cleaned), 0);
                cursor = config_text_begin(cleaned);
                struct config_statement statement;
                struct slice section = SLICE("");
                size_t section_end = 0;
                bool found = false;
                while (config_text_statement(&cursor, &statement)) {
                    if (statement.start >= section_end)
                        section = SLICE("");
                    if (statement.section) {
                        section = statement.name;
                        section_end = statement.end;
                    } else if (slice_equal(section, slice_of_string(schema->name)) &&
                               slice_equal(statement.name, slice_of_string(*key))) {
                        found = true;
                    }
                }
                cr_expect(found, "%s: %s is not in the example", schema->name, *key);
                free(cleaned);
            }
        }
    cr_assert_eq(
        memcmp(&a->limits.connections, &b->limits.connections, sizeof(a->limits.connections)), 0);
    a->limits.exempt = b->limits.exempt = NULL;
    /* a configuration's memory begins as zeros, padding too */
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    cr_assert_eq(memcmp(&a->limits, &b->limits, sizeof(a->limits)), 0);
    a->delivery.own_addresses = b->delivery.own_addresses = NULL;
    a->delivery.private_networks = b->delivery.private_networks = NULL;
    a->delivery.fleet_names = b->delivery.fleet_names = NULL;
    cr_assert_str_eq(a->delivery.ehlo, b->delivery.ehlo);
    a->delivery.ehlo = b->delivery.ehlo = NULL;
    cr_assert_str_eq(a->delivery.floor_file, b->delivery.floor_file);
    a->delivery.floor_file = b->delivery.floor_file = NULL;
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    cr_assert_eq(memcmp(&a->delivery, &b->delivery, sizeof(a->delivery)), 0);
    cr_assert_str_eq(a->tls.ticket_key_file, b->tls.ticket_key_file);
    a->tls.ticket_key_file = b->tls.ticket_key_file = NULL;
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    cr_assert_eq(memcmp(&a->tls, &b->tls, sizeof(a->tls)), 0);
    for (unsigned i = 0; i < a->listeners_count; i++) {
        cr_assert_eq(a->listeners[i].tls, b->listeners[i].tls);
        cr_assert_eq(a->listeners[i].tls_min, b->listeners[i].tls_min);
        cr_assert_eq(a->listeners[i].tls_cbc, b->listeners[i].tls_cbc);
    }
    for (unsigned i = 0; i < a->outbound.count; i++) {
        cr_assert_eq(a->outbound.connectors[i].route.tls.level,
                     b->outbound.connectors[i].route.tls.level);
        cr_assert_eq(a->outbound.connectors[i].route.tls.version_min,
                     b->outbound.connectors[i].route.tls.version_min);
        cr_assert_eq(a->outbound.connectors[i].route.clear, b->outbound.connectors[i].route.clear);
    }
    cr_assert_str_eq(a->spool.directory, b->spool.directory);
    a->spool.directory = b->spool.directory = NULL;
    cr_assert_eq(memcmp(&a->spool, &b->spool, sizeof(a->spool)), 0);
    cr_assert_str_eq(a->user, b->user);
    cr_assert_str_eq(a->group, b->group);
    cr_assert_eq(a->shards, b->shards);
    cr_assert_eq(a->dns.timeout_ms, b->dns.timeout_ms);
    cr_assert_eq(a->dns.queries_max, b->dns.queries_max);
    cr_assert_eq(a->log.level, b->log.level);
    cr_assert_str_eq(a->log.file, b->log.file);
    cr_assert_str_eq(a->admin.socket, b->admin.socket);
    cr_assert_eq(networks_count(a->admin.allow), networks_count(b->admin.allow));
    cr_assert_str_eq(a->bounce.from_name, b->bounce.from_name);
    cr_assert_str_eq(a->bounce.address, b->bounce.address);
    cr_assert_eq(a->bounce.per_minute_max, b->bounce.per_minute_max);
    cr_assert_eq(a->bounce.per_sender_max, b->bounce.per_sender_max);
    cr_assert_eq(a->bounce.per_domain_max, b->bounce.per_domain_max);
    cr_assert_eq(a->listeners[0].backlog, b->listeners[0].backlog);
    cr_assert_eq(a->listeners[0].size_max, b->listeners[0].size_max);
    cr_assert_eq(a->listeners[0].relay, b->listeners[0].relay);
    cr_assert_str_eq(a->listeners[0].banner, b->listeners[0].banner);
    cr_assert_eq(a->outbound.connectors[0].route.port, b->outbound.connectors[0].route.port);
    cr_assert_eq(a->outbound.connectors[0].route.order, b->outbound.connectors[0].route.order);
    cr_assert_str_eq(a->outbound.connectors[0].route.ehlo, b->outbound.connectors[0].route.ehlo);
    config_free(a);
    config_free(b);
}

static bool is_of_fleet(const struct config *config, const char *name)
{
    struct pattern_match match;
    return pattern_set_find(config->delivery.fleet_names, slice_of_string(name), &match);
}

Test(config, names_of_the_fleet)
{
    struct config *config =
        good("hostname = MX1.example.org listener in { addresses = { 127.0.0.1:25 } }"
             "listener more { addresses = { 127.0.0.2:25 } banner = in.example.net }"
             "delivery { fleet-names = { mx1.example.org, \"*.fleet.example\" } }");
    cr_assert_eq(report.warnings, 0, "one list for all nodes has our own name: %s", report_text());
    cr_assert(is_of_fleet(config, "mx1.example.org"));
    cr_assert(is_of_fleet(config, "in.example.net"));
    cr_assert(is_of_fleet(config, "a.fleet.example"));
    cr_assert_not(is_of_fleet(config, "fleet.example"));
    cr_assert_not(is_of_fleet(config, "example.org"));
    cr_assert_eq(config->limits.received_ours_max, 5);
    config_free(config);
    config = good("hostname = localhost.localdomain "
                  "listener in { addresses = { 127.0.0.1:25 } banner = localhost }");
    cr_assert_eq(pattern_set_count(config->delivery.fleet_names), 0, "names of anybody");
    config_free(config);
    static char many[16'384];
    size_t size = (size_t)sprintf(many, GOOD "delivery { fleet-names = { n.example");
    for (unsigned i = 0; i < CONFIG_FLEET_NAMES_MAX; i++)
        size += (size_t)sprintf(many + size, ", n%u.example", i);
    strcpy(many + size, " } }");
    refused(many, "more than 256 names");
}

Test(config, what_needs_a_restart)
{
    struct config *a = good(GOOD), *b = good(GOOD "bounce { per-minute = 7 }"),
                  *c = good(GOOD "shards = 3"), *d = good(GOOD "spool { directory = /other }");
    cr_assert_null(config_needs_restart(a, b));
    cr_assert_str_eq(config_needs_restart(a, c), "shards");
    cr_assert_str_eq(config_needs_restart(a, d), "spool: directory");
    struct config *e = good(GOOD "log { level = debug }");
    cr_assert_str_eq(config_needs_restart(a, e), "log: level");
    struct config *f = good(GOOD "pin = yes");
    cr_assert_str_eq(config_needs_restart(a, f), "pin");
    config_free(f);
    config_free(e);
    config_free(a);
    config_free(b);
    config_free(c);
    config_free(d);
}

/* ---- lint ---- */

static void lint(const char *text, bool error, const char *words)
{
    struct config *config = good(text);
    unsigned before = report.errors;
    check_lint(config, &report);
    cr_assert_eq(report.errors > before, error, "%s", report_text());
    cr_assert_not_null(strstr(report_text(), words), "wanted: %s\ngot: %s", words, report_text());
    config_free(config);
}

Test(config, lint_open_relays)
{
    lint(GOOD "relay { networks = { 0.0.0.0/0 } }", true, "0.0.0.0/0 makes this an open relay");
    lint(GOOD "relay { networks = { 0.0.0.0/1, 128.0.0.0/1 } }", true, "128.0.0.0/1 makes");
    refused(GOOD "relay { networks = { \"::/0\" } }", "would cover all of IPv4");
    refused(GOOD "relay { networks = { \"::/80\" } }", "would cover all of IPv4");
    lint(GOOD "relay { networks = { 2000::/3 } }", true, "open relay");
    lint(GOOD "relay { domains = { * } }", true, "* accepts mail for every domain");
    lint(GOOD "relay { networks = { 10.0.0.0/7 } }", false, "very wide");
    lint(GOOD "relay { networks = { 0.0.0.0/0 } i-run-an-open-relay = yes }", false, "");
    lint(GOOD "relay { networks = { 10.0.0.0/8 } i-run-an-open-relay = yes }", false, "remove it");
}

Test(config, lint_circles)
{
    lint(GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { 127.0.0.1 } }",
         true, "in a circle");
    lint(GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { h, "
              "mx.example.org } }",
         true, "host 2 leads");
    lint(GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { localhost } }",
         true, "in a circle");
    lint("hostname = mx.example.org listener in { addresses = { 0.0.0.0:25 } }"
         "outbound r { type = partner state = enforce domains = { d } hosts = { 127.0.0.9 } }",
         true, "in a circle");
    lint("hostname = mx.example.org listener in { addresses = { 0.0.0.0:25 } }"
         "delivery { own-addresses = { 192.0.2.1 } }"
         "outbound r { type = partner state = enforce domains = { d } hosts = { 192.0.2.1 } }",
         true, "in a circle");
    lint(GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { 127.0.0.1:26, "
              "127.0.0.2, localhost:26 } }",
         false, "");
    lint(GOOD "outbound r { type = partner state = enforce domains = { d } hosts = { h:25 } "
              "protocol = lmtp }",
         false, "RFC 2033");
}

Test(config, lint_this_machine)
{
    char directory[] = "/tmp/ringpost-test-XXXXXX", text[512];
    cr_assert_not_null(mkdtemp(directory));
    lint(GOOD "spool { directory = /nonexistent/spool }", false, "create it");
    lint(GOOD "spool { directory = /dev/null }", true, "no directory");
    snprintf(text, sizeof(text), GOOD "spool { directory = %s }", directory);
    lint(text, false, "will refuse all mail");
    cr_assert_null(strstr(report_text(), "spool"), "%s", report_text());
    lint(GOOD "spool { directory = /tmp }", true, "others can reach");
    rmdir(directory);
    lint(GOOD "dns { trust-anchor = /nonexistent/key }", true, "trust-anchor: /nonexistent/key");
    lint(GOOD "admin { addresses = { 127.0.0.1:25 } }", true, "choose another port");
    lint(GOOD "admin { addresses = { 0.0.0.0 } }", false, "can be reached from outside");
    lint(
        "hostname = mx listener in { addresses = { 0.0.0.0 } } relay { networks = { 10.0.0.0/8 } }",
        false, "public address without a domain");
    lint("hostname = mx listener in { addresses = { 127.0.0.1 } proxy-from = { 0.0.0.0/0 } }", true,
         "proxy-from trusts everybody");
    lint("hostname = mx listener in { addresses = { 127.0.0.1 } }", false, "not fully qualified");
}

Test(config, check_exit_codes)
{
    char *bad_option[] = { "check", "--what", NULL }, *words[] = { "check", "x", NULL };
    char bad_file[] = DATA "config-bad-twice.conf", fine_file[] = DATA "config-good-small.conf";
    char *bad[] = { "check", "-c", bad_file, "--json", NULL };
    char *fine[] = { "check", "-c", fine_file, "-q", NULL };
    cr_assert_eq(check_main(2, bad_option), CHECK_EXIT_USAGE);
    cr_assert_eq(check_main(2, words), CHECK_EXIT_USAGE);
    cr_assert_eq(check_main(4, bad), CHECK_EXIT_ERRORS);
    cr_assert_eq(check_main(4, fine), CHECK_EXIT_OK);
}
