/*
 * test_tls_hosts.c - what is remembered of a host, and for how long
 */
#include "tls/tls_hosts.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { COUNT = 4, LIFETIME_MS = 100'000, X25519 = 29, TLS12 = 0x303, TLS13 = 0x304 };

static struct tls_hosts hosts;
static struct tls_host host;

static void start(void)
{
    cr_assert_eq(tls_hosts_init(&hosts, COUNT, LIFETIME_MS), 0);
}

static void stop(void)
{
    tls_hosts_free(&hosts);
}

TestSuite(tls_hosts, .init = start, .fini = stop);

static bool get(const char *words, uint64_t now_ms)
{
    struct tls_lru_key key = tls_lru_key_of(slice_of_string(words));
    return tls_hosts_get(&hosts, &key, now_ms, &host);
}

static void put(const char *words, uint64_t now_ms, struct tls_host value)
{
    struct tls_lru_key key = tls_lru_key_of(slice_of_string(words));
    tls_hosts_put(&hosts, &key, now_ms, &value);
}

Test(tls_hosts, bounds_that_make_no_sense)
{
    struct tls_hosts other;
    cr_assert_eq(tls_hosts_init(&other, 0, 1), -EINVAL);
    tls_hosts_free(&other);
    cr_assert_eq(tls_hosts_init(&other, 1, 0), -EINVAL);
    tls_hosts_free(&other);
}

Test(tls_hosts, a_step_beyond_the_ladder_is_our_mistake, .signal = SIGABRT)
{
    put("a", 1, (struct tls_host) { .step = TLS_HOSTS_STEPS_MAX });
}

Test(tls_hosts, not_known_begins_at_the_strongest)
{
    host.step = 3;
    cr_assert_not(get("a", 1));
    cr_assert_eq(host.step, 0);
    cr_assert_eq(host.group, 0);
    cr_assert_eq(host.version_best, 0);
    cr_assert_eq(hosts.numbers.misses, 1);
}

Test(tls_hosts, remembered)
{
    put("a", 1000, (struct tls_host) { .group = X25519, .version_best = TLS13 });
    put("b", 1000, (struct tls_host) { .group = 23 });
    cr_assert(get("a", 2000));
    cr_assert_eq(host.group, X25519);
    cr_assert_eq(host.version_best, TLS13);
    cr_assert_eq(host.seen_ms, 1000);
    cr_assert(get("b", 2000));
    cr_assert_eq(host.group, 23);
    cr_assert_eq(hosts.numbers.hosts, 2);
}

Test(tls_hosts, a_step_is_believed_for_a_while)
{
    put("a", 1000,
        (struct tls_host) {
            .group = X25519, .step = 2, .refuses_less = true, .step_until_ms = 5000 });
    cr_assert(get("a", 4999));
    cr_assert_eq(host.step, 2);
    cr_assert(host.refuses_less);
    cr_assert(get("a", 5000));
    cr_assert_eq(host.step, 0);
    cr_assert_not(host.refuses_less);
    cr_assert_eq(host.group, X25519, "the rest stays");
}

Test(tls_hosts, the_best_version_does_not_go_down)
{
    put("a", 1, (struct tls_host) { .version_best = TLS13 });
    put("a", 2, (struct tls_host) { .version_best = TLS12 });
    cr_assert(get("a", 3));
    cr_assert_eq(host.version_best, TLS13);
}

Test(tls_hosts, expires)
{
    put("a", 1000, (struct tls_host) { .version_best = TLS13 });
    cr_assert(get("a", 999 + LIFETIME_MS));
    cr_assert(get("a", 1), "a clock that steps back");
    cr_assert_not(get("a", 1000 + LIFETIME_MS));
    cr_assert_eq(hosts.numbers.expired, 1);
    cr_assert_eq(hosts.numbers.hosts, 0);
    put("a", 1000, (struct tls_host) { .version_best = TLS13 });
    put("a", 1000 + LIFETIME_MS, (struct tls_host) { .version_best = TLS12 });
    cr_assert(get("a", 1000 + LIFETIME_MS));
    cr_assert_eq(host.version_best, TLS12, "of what expired nothing stays");
}

Test(tls_hosts, makes_room)
{
    static const char *const names[] = { "a", "b", "c", "d", "e" };
    for (unsigned i = 0; i < COUNT; i++)
        put(names[i], 1, (struct tls_host) { .group = X25519 });
    cr_assert(get("a", 1));
    put("e", 1, (struct tls_host) { .group = X25519 });
    cr_assert_not(get("b", 1));
    cr_assert(get("a", 1));
    cr_assert_eq(hosts.numbers.evicted, 1);
    cr_assert_eq(hosts.numbers.hosts, COUNT);
    struct tls_lru_key key = tls_lru_key_of(SLICE("a"));
    tls_hosts_forget(&hosts, &key);
    tls_hosts_forget(&hosts, &key);
    cr_assert_not(get("a", 1));
    cr_assert_eq(hosts.numbers.hosts, COUNT - 1);
}

Test(tls_hosts, metrics)
{
    struct metrics metrics;
    struct metrics_source source;
    char *text;
    put("a", 1, (struct tls_host) { .group = X25519 });
    metrics_init(&metrics);
    metrics_add_source(&metrics, &source, tls_hosts_metrics_table, tls_hosts_metrics_count,
                       &hosts.numbers, 0);
    cr_assert_gt(metrics_render(&metrics, &text), 0);
    cr_assert_not_null(strstr(text, "ringpost_tls_hosts{shard=\"0\"} 1"));
    free(text);
}
