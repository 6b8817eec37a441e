/*
 * test_tls_lru.c - who is found, who goes first, and that all fit
 */
#include "tls/tls_lru.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

enum { COUNT = 1000 };

struct entry {
    struct tls_lru_entry lru;
    uint32_t number;
};

static struct tls_lru lru;

static void start(void)
{
    cr_assert_eq(tls_lru_init(&lru, "test", sizeof(struct entry), COUNT), 0);
}

static void stop(void)
{
    tls_lru_free(&lru);
}

TestSuite(tls_lru, .init = start, .fini = stop);

static struct tls_lru_key key(uint32_t number)
{
    return tls_lru_key_of(slice_of(&number, sizeof(number)));
}

static struct entry *find(uint32_t number)
{
    struct tls_lru_key k = key(number);
    struct tls_lru_entry *found = tls_lru_find(&lru, &k);
    return found == NULL ? NULL : container_of(found, struct entry, lru);
}

static struct entry *add(uint32_t number)
{
    struct tls_lru_key k = key(number);
    struct entry *entry = container_of(tls_lru_add(&lru, &k), struct entry, lru);
    entry->number = number;
    return entry;
}

Test(tls_lru, counts_that_make_no_sense)
{
    struct tls_lru other;
    cr_assert_eq(tls_lru_init(&other, "test", sizeof(struct entry), 0), -EINVAL);
    cr_assert_eq(tls_lru_init(&other, "test", sizeof(struct entry), TLS_LRU_COUNT_MAX + 1),
                 -EINVAL);
    tls_lru_free(&other);
}

Test(tls_lru, adding_to_a_full_one_is_our_mistake, .signal = SIGABRT)
{
    for (uint32_t i = 0; i <= COUNT; i++)
        add(i);
}

Test(tls_lru, a_key_of_nothing_is_our_mistake, .signal = SIGABRT)
{
    struct tls_lru_key none = { 0 };
    tls_lru_find(&lru, &none);
}

Test(tls_lru, a_key_that_does_not_fit_is_our_mistake, .signal = SIGABRT)
{
    uint8_t bytes[TLS_KEY_BYTES_MAX + 1] = { 1 };
    tls_lru_key_of(slice_of(bytes, sizeof(bytes)));
}

Test(tls_lru, all_are_found)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert_null(tls_lru_oldest_when_full(&lru));
        add(i);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert_eq(find(i)->number, i);
    cr_assert_null(find(COUNT));
}

Test(tls_lru, keys_are_compared_as_a_whole)
{
    uint8_t bytes[TLS_KEY_BYTES_MAX] = { 1 };
    struct tls_lru_key longest = tls_lru_key_of(slice_of(bytes, sizeof(bytes)));
    struct tls_lru_key shorter = tls_lru_key_of(slice_of(bytes, sizeof(bytes) - 1));
    tls_lru_add(&lru, &longest);
    cr_assert_null(tls_lru_find(&lru, &shorter));
    longest.bytes[TLS_KEY_BYTES_MAX - 1] = 1;
    cr_assert_null(tls_lru_find(&lru, &longest));
}

Test(tls_lru, the_one_that_was_not_used_goes_first)
{
    for (uint32_t i = 0; i < COUNT; i++)
        add(i);
    find(0);
    find(1);
    for (uint32_t i = 2; i < COUNT; i++) {
        struct tls_lru_entry *oldest = tls_lru_oldest_when_full(&lru);
        cr_assert_eq(container_of(oldest, struct entry, lru)->number, i);
        tls_lru_remove(&lru, oldest);
        cr_assert_null(find(i));
        add(COUNT + i);
    }
    cr_assert_not_null(find(0));
}

Test(tls_lru, emptied)
{
    for (uint32_t i = 0; i < COUNT; i++)
        add(i);
    for (struct tls_lru_entry *entry; (entry = tls_lru_first(&lru)) != NULL;)
        tls_lru_remove(&lru, entry);
    cr_assert_eq(lru.pool.used, 0);
    cr_assert_null(find(1));
}
