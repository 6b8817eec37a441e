/*
 * test_tlsrpt_store.c - records of days and domains survive a restart, and go when they are old
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/tlsrpt_store.h"

static char directory[64];
static char path[128];
static struct store *store;

static void open_again(void)
{
    struct store_report report;
    store_close(store);
    cr_assert_eq(tlsrpt_store_open(path, 1'000, &store, &report), 0);
    cr_assert_not(report.damaged, "%s", report.why);
}

static void setup(void)
{
    snprintf(directory, sizeof(directory), "/tmp/ringpost-tlsrpt.XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/tlsrpt.mdb", directory);
    open_again();
}

static void teardown(void)
{
    store_close(store);
    unlink(path);
    rmdir(directory);
}

TestSuite(tlsrpt_store, .init = setup, .fini = teardown);

static struct tlsrpt_key key_of(uint32_t day, const char *domain)
{
    struct tlsrpt_key key = { .day = day };
    snprintf(key.domain, sizeof(key.domain), "%s", domain);
    return key;
}

static void put(uint32_t day, const char *domain, const char *word)
{
    const struct tlsrpt_key key = key_of(day, domain);
    unsigned dropped;
    const struct tlsrpt_record record = { TLSRPT_UNSENT, 3, json_pack("[s]", word) };
    cr_assert_eq(tlsrpt_store_put(store, &key, &record, &dropped), 0);
    json_decref(record.policies);
}

/* "": none. */
static void is(uint32_t day, const char *domain, const char *word)
{
    const struct tlsrpt_key key = key_of(day, domain);
    struct tlsrpt_record record;
    cr_assert_eq(tlsrpt_store_get(store, &key, &record), 0);
    const char *found = json_string_value(json_array_get(record.policies, 0));
    cr_assert_str_eq(found == NULL ? "" : found, word);
    cr_assert_eq(record.tries, found == NULL ? 0U : 3U);
    json_decref(record.policies);
}

Test(tlsrpt_store, over_a_restart)
{
    is(20'000, "a.example", "");
    put(20'000, "a.example", "one");
    put(20'001, "a.example", "two");
    put(20'000, "b.example", "three");
    put(20'000, "a.example", "four");
    open_again();
    is(20'000, "a.example", "four");
    is(20'001, "a.example", "two");
    is(20'000, "b.example", "three");
    is(20'001, "b.example", "");
    cr_assert_eq(store_count(store), 3);
}

Test(tlsrpt_store, old_days_go)
{
    put(20'000, "a.example", "one");
    put(20'001, "b.example", "two");
    put(20'002, "a.example", "three");
    cr_assert_eq(tlsrpt_store_forget(store, 20'002), 0);
    cr_assert_eq(store_count(store), 1);
    struct tlsrpt_key key = key_of(0, "");
    struct tlsrpt_record record;
    cr_assert_eq(tlsrpt_store_next(store, &key, &record), 0);
    cr_assert_eq(record.tries, 3);
    cr_assert_eq(key.day, 20'002);
    cr_assert_str_eq(key.domain, "a.example");
    cr_assert_eq(tlsrpt_store_next(store, &key, &record), -ENOENT);
}

Test(tlsrpt_store, what_is_too_large_leaves_what_was_there)
{
    static char large[TLSRPT_RECORD_BYTES];
    const struct tlsrpt_key key = key_of(20'000, "a.example");
    unsigned dropped;
    put(20'000, "a.example", "one");
    memset(large, 'x', sizeof(large) - 1);
    const struct tlsrpt_record record = { TLSRPT_SENT, 0, json_pack("[s]", large) };
    cr_assert_eq(tlsrpt_store_put(store, &key, &record, &dropped), -EMSGSIZE);
    json_decref(record.policies);
    is(20'000, "a.example", "one");
}
