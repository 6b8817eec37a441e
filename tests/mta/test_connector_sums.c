/*
 * test_connector_sums.c - days add up, come in order, and go when they are old
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/connector_sums.h"

static char directory[64];
static char path[128];
static struct store *store;

static void open_again(void)
{
    struct store_report report;
    store_close(store);
    cr_assert_eq(connector_sums_open(path, &store, &report), 0);
    cr_assert_not(report.damaged, "%s", report.why);
}

static void setup(void)
{
    snprintf(directory, sizeof(directory), "/tmp/ringpost-sums.XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/connectors.mdb", directory);
    open_again();
}

static void teardown(void)
{
    store_close(store);
    unlink(path);
    rmdir(directory);
}

TestSuite(connector_sums, .init = setup, .fini = teardown);

static struct sums_key key_of(uint32_t day, enum connector_direction direction, const char *name)
{
    struct sums_key key = { .day = day, .direction = direction };
    snprintf(key.name, sizeof(key.name), "%s", name);
    return key;
}

static void add(uint32_t day, enum connector_direction direction, const char *name, uint64_t count,
                const char *token)
{
    const struct sums_key key = key_of(day, direction, name);
    struct connector_sums delta = { .day = day, .bytes = 10 * count, .refused = 1 };
    delta.messages[SUMS_HYBRID][1] = count;
    connector_sums_token(&delta, token, 1);
    cr_assert_eq(connector_sums_add(store, &key, &delta), 0);
}

Test(connector_sums, there_are_none_at_first)
{
    struct sums_key key = key_of(0, CONNECTOR_IN, "");
    struct connector_sums sums;
    cr_assert_eq(connector_sums_next(store, &key, &sums), -ENOENT);
    cr_assert_eq(connector_sums_forget(store, 1'000), 0);
}

Test(connector_sums, a_day_adds_up_over_a_restart)
{
    add(20'000, CONNECTOR_IN, "bank", 3, "cert-none");
    add(20'000, CONNECTOR_IN, "bank", 4, "cert-name");
    open_again();
    add(20'000, CONNECTOR_IN, "bank", 5, "cert-none");
    struct sums_key key = key_of(0, CONNECTOR_IN, "");
    struct connector_sums sums;
    cr_assert_eq(connector_sums_next(store, &key, &sums), 0);
    cr_assert_str_eq(key.name, "bank");
    cr_assert_eq(key.day, 20'000);
    cr_assert_eq(sums.messages[SUMS_HYBRID][1], 12);
    cr_assert_eq(sums.bytes, 120);
    cr_assert_eq(sums.refused, 3);
    cr_assert_eq(sums.tokens_count, 2);
    cr_assert_str_eq(sums.tokens[0].word, "cert-none");
    cr_assert_eq(sums.tokens[0].count, 2);
    cr_assert_eq(connector_sums_next(store, &key, &sums), -ENOENT);
}

Test(connector_sums, come_by_day_direction_and_name)
{
    add(20'001, CONNECTOR_IN, "a", 1, "rate");
    add(300, CONNECTOR_OUT, "", 1, "rate");
    add(300, CONNECTOR_IN, "z", 1, "rate");
    add(300, CONNECTOR_IN, "a", 1, "rate");
    static const char *const names[] = { "a", "z", "", "a" };
    static const uint32_t days[] = { 300, 300, 300, 20'001 };
    struct sums_key key = key_of(0, CONNECTOR_IN, "");
    struct connector_sums sums;
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(connector_sums_next(store, &key, &sums), 0);
        cr_assert_str_eq(key.name, names[i], "%u", i);
        cr_assert_eq(key.day, days[i]);
    }
    cr_assert_eq(connector_sums_next(store, &key, &sums), -ENOENT);
}

Test(connector_sums, old_days_are_forgotten)
{
    for (uint32_t day = 100; day < 110; day++)
        for (unsigned i = 0; i < 3; i++)
            add(day, i % 2 == 0 ? CONNECTOR_IN : CONNECTOR_OUT, i == 0 ? "bank" : "store", 1,
                "rate");
    cr_assert_eq(connector_sums_forget(store, 108), 0);
    cr_assert_eq(store_count(store), 6);
    struct sums_key key = key_of(0, CONNECTOR_IN, "");
    struct connector_sums sums;
    cr_assert_eq(connector_sums_next(store, &key, &sums), 0);
    cr_assert_eq(key.day, 108);
}

Test(connector_sums, more_words_than_fit_are_not_kept_apart)
{
    struct connector_sums sums = { .day = 1 };
    for (unsigned i = 0; i < 2 * SUMS_TOKENS_MAX; i++) {
        char word[SUMS_WORD_MAX];
        snprintf(word, sizeof(word), "t%u", i);
        connector_sums_token(&sums, word, 1);
    }
    cr_assert_eq(sums.tokens_count, SUMS_TOKENS_MAX);
    connector_sums_token(&sums, "t3", 4);
    cr_assert_eq(sums.tokens[3].count, 5);
    connector_sums_token(&sums, "t3", 0);
    cr_assert_eq(sums.tokens[3].count, 5);
}
