/*
 * test_sts_store.c - policies on disk: as they were, and no longer than they are
 */
#include "mta/sts_store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[64];
static char path[96];
static struct store *store;
static struct store_report report;

static void start(void)
{
    strcpy(directory, "/tmp/test_sts_store_XXXXXX");
    cr_assert_neq(mkdtemp(directory), NULL);
    snprintf(path, sizeof(path), "%s/sts.mdb", directory);
    cr_assert_eq(sts_store_open(path, 3, &store, &report), 0);
}

static void stop(void)
{
    store_close(store);
    unlink(path);
    rmdir(directory);
}

TestSuite(sts_store, .init = start, .fini = stop);

static struct sts_record record_of(const char *patterns, size_t bytes, int64_t used)
{
    struct sts_record record;
    memset(&record, 0, sizeof(record));
    record.fetched = 1'000;
    record.used = used;
    strcpy(record.id, "v1");
    record.policy.mode = STS_MODE_ENFORCE;
    record.policy.max_age_s = 86'400;
    record.policy.patterns_bytes = (uint16_t)bytes;
    memcpy(record.policy.patterns, patterns, bytes);
    return record;
}

/* Octet by octet: they are made from all zero, and stored whole. */
static bool is_same(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct sts_record)) == 0;
}

static int put(const char *domain, const struct sts_record *record)
{
    unsigned dropped;
    return sts_store_put(store, domain, record, &dropped);
}

Test(sts_store, nothing_is_there)
{
    struct sts_record record;
    char domain[STS_DOMAIN_MAX] = "";
    cr_assert_eq(sts_store_get(store, "a.test", &record), -ENOENT);
    cr_assert_eq(sts_store_get(store, "", &record), -ENOENT);
    cr_assert_eq(sts_store_drop(store, ""), -ENOENT);
    cr_assert_eq(sts_store_drop(store, "a.test"), -ENOENT);
    cr_assert_eq(sts_store_next(store, domain, &record), -ENOENT);
}

Test(sts_store, a_policy_is_as_it_was_after_a_restart)
{
    static const char patterns[] = "mx.a.test\0*.b.test";
    const struct sts_record before = record_of(patterns, sizeof(patterns), 5);
    struct sts_record after;
    cr_assert_eq(put("a.test", &before), 0);
    store_close(store);
    cr_assert_eq(sts_store_open(path, 3, &store, &report), 0);
    cr_assert_not(report.damaged, "%s", report.why);
    cr_assert_eq(sts_store_get(store, "a.test", &after), 0);
    cr_assert(is_same(&before, &after));
    cr_assert(sts_policy_lists(&after.policy, "x.b.test"));
    cr_assert(sts_record_holds(&after, 1'000 + 86'399));
    cr_assert_not(sts_record_holds(&after, 1'000 + 86'400));
}

Test(sts_store, a_longer_one_leaves_nothing_in_a_shorter_ones_place)
{
    static char many[STS_PATTERNS_BYTES];
    struct sts_record record;
    for (size_t i = 0; i < sizeof(many); i += 2)
        memcpy(many + i, "a", 2);
    const struct sts_record large = record_of(many, sizeof(many), 1);
    const struct sts_record small = record_of("b", 2, 2);
    cr_assert_eq(put("a.test", &large), 0);
    cr_assert_eq(put("a.test", &small), 0);
    cr_assert_eq(sts_store_get(store, "a.test", &record), 0);
    cr_assert(is_same(&small, &record));
    cr_assert_eq(store_count(store), 1);
}

Test(sts_store, the_least_recently_used_one_makes_room)
{
    static const char *const domains[] = { "c.test", "a.test", "d.test", "b.test" };
    struct sts_record record;
    char domain[STS_DOMAIN_MAX] = "";
    char all[64] = "";
    for (unsigned i = 0; i < 4; i++) {
        record = record_of("x", 2, i);
        cr_assert_eq(put(domains[i], &record), 0);
    }
    while (sts_store_next(store, domain, &record) == 0)
        strcat(strcat(all, domain), " ");
    cr_assert_str_eq(all, "a.test b.test d.test ");
}
