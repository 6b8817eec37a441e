/*
 * test_dns_recent.c - what is remembered of addresses, and for how long
 */
#include "core/dns_recent.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"

enum { NOW = 50'000 };

static const uint8_t first[4] = { 192, 0, 2, 1 }, second[4] = { 192, 0, 2, 2 };
static const uint8_t six[16] = { 0x20, 1, 0xd, 0xb8, [15] = 1 };
static const struct dns_record two[] = { { .size = 4, .data = first },
                                         { .size = 4, .data = second } };
static const struct dns_record one_six[] = { { .size = 16, .data = six } };

static struct dns_recent recent;
static struct dns_record records[DNS_RECENT_RECORDS];
static struct dns_answer found;

static void forget_all(void)
{
    memset(&recent, 0, sizeof(recent));
}

static struct dns_answer usual(void)
{
    return (struct dns_answer) {
        .status = DNS_OK, .ttl_s = 300, .count = 2, .records = two, .canonical = "mail.example.com"
    };
}

static bool knows(const char *name, enum dns_type type, uint64_t now_ms)
{
    return dns_recent_get(&recent, name, type, now_ms, records, &found);
}

TestSuite(dns_recent, .init = forget_all);

Test(dns_recent, nothing_is_known_at_first)
{
    cr_assert(!knows("mail.example.com", DNS_A, NOW));
    cr_assert(!knows("", DNS_A, 0));
}

Test(dns_recent, an_answer_comes_back_whole)
{
    struct dns_answer answer = usual();
    answer.secure = true;
    answer.cnames = 3;
    dns_recent_put(&recent, "alias.example.com", DNS_A, &answer, NOW);
    memset(&answer, 0, sizeof(answer)); /* it keeps a copy */
    cr_assert(knows("alias.example.com", DNS_A, NOW + 2'500));
    cr_assert_eq(found.status, DNS_OK);
    cr_assert(found.secure);
    cr_assert(!found.cut);
    cr_assert_eq(found.cnames, 3);
    cr_assert_eq(found.ttl_s, 297);
    cr_assert_eq(found.count, 2);
    cr_assert_str_eq(found.canonical, "mail.example.com");
    cr_assert_eq(found.records[0].size, 4);
    cr_assert_arr_eq(found.records[0].data, first, 4);
    cr_assert_arr_eq(found.records[1].data, second, 4);
    answer = usual();
    answer.count = 1;
    answer.records = one_six;
    dns_recent_put(&recent, "alias.example.com", DNS_AAAA, &answer, NOW);
    cr_assert(knows("alias.example.com", DNS_AAAA, NOW));
    cr_assert(!found.secure);
    cr_assert_eq(found.records[0].size, 16);
    cr_assert_arr_eq(found.records[0].data, six, 16);
}

Test(dns_recent, that_there_are_none_is_known_too)
{
    const struct dns_answer none = { .status = DNS_NODATA, .ttl_s = 60, .canonical = "a.test" };
    dns_recent_put(&recent, "a.test", DNS_AAAA, &none, NOW);
    cr_assert(knows("a.test", DNS_AAAA, NOW));
    cr_assert_eq(found.status, DNS_NODATA);
    cr_assert_eq(found.count, 0);
    cr_assert(!knows("a.test", DNS_A, NOW), "of the other kind nothing is known");
}

Test(dns_recent, it_is_forgotten_after_some_seconds_and_never_after_its_ttl)
{
    struct dns_answer answer = usual();
    dns_recent_put(&recent, "long.test", DNS_A, &answer, NOW);
    cr_assert(knows("long.test", DNS_A, NOW + DNS_RECENT_MS - 1));
    cr_assert(!knows("long.test", DNS_A, NOW + DNS_RECENT_MS));
    answer.ttl_s = 2;
    dns_recent_put(&recent, "short.test", DNS_A, &answer, NOW);
    cr_assert(knows("short.test", DNS_A, NOW + 1'999));
    cr_assert(!knows("short.test", DNS_A, NOW + 2'000));
    answer.ttl_s = 0;
    dns_recent_put(&recent, "never.test", DNS_A, &answer, NOW);
    cr_assert(!knows("never.test", DNS_A, NOW));
}

Test(dns_recent, failures_and_parts_are_not_remembered)
{
    for (enum dns_status status = DNS_NXDOMAIN; status <= DNS_BOGUS; status++) {
        const struct dns_answer failed = { .status = status, .ttl_s = 60, .canonical = "a.test" };
        dns_recent_put(&recent, "a.test", DNS_A, &failed, NOW);
        cr_assert(!knows("a.test", DNS_A, NOW), "status %d", status);
    }
    struct dns_answer answer = usual();
    answer.cut = true;
    dns_recent_put(&recent, "a.test", DNS_A, &answer, NOW);
    cr_assert(!knows("a.test", DNS_A, NOW));
    struct dns_record many[DNS_RECENT_RECORDS + 1];
    for (unsigned i = 0; i < ARRAY_COUNT(many); i++)
        many[i] = two[0];
    answer.cut = false;
    answer.records = many;
    answer.count = DNS_RECENT_RECORDS + 1;
    dns_recent_put(&recent, "a.test", DNS_A, &answer, NOW);
    cr_assert(!knows("a.test", DNS_A, NOW));
    answer.count = DNS_RECENT_RECORDS;
    dns_recent_put(&recent, "a.test", DNS_A, &answer, NOW);
    cr_assert(knows("a.test", DNS_A, NOW));
}

Test(dns_recent, other_types_are_not_remembered)
{
    const struct dns_record mx = { .preference = 10, .size = 6, .data = (const uint8_t *)"a.test" };
    const struct dns_answer answer = {
        .status = DNS_OK, .ttl_s = 60, .count = 1, .records = &mx, .canonical = "a.test"
    };
    dns_recent_put(&recent, "a.test", DNS_MX, &answer, NOW);
    cr_assert(!knows("a.test", DNS_MX, NOW));
}

/* Far more names than places: each one that is there is its own, and the last one always is. */
Test(dns_recent, names_take_each_others_place_and_are_not_mixed_up)
{
    unsigned there = 0;
    for (unsigned i = 0; i < 8 * DNS_RECENT_MAX; i++) {
        const uint8_t octets[4] = { 10, 0, (uint8_t)(i >> 8), (uint8_t)i };
        const struct dns_record record = { .size = 4, .data = octets };
        char name[32];
        snprintf(name, sizeof(name), "h%u.test", i);
        const struct dns_answer answer = {
            .status = DNS_OK, .ttl_s = 60, .count = 1, .records = &record, .canonical = name
        };
        dns_recent_put(&recent, name, DNS_A, &answer, NOW);
        cr_assert(knows(name, DNS_A, NOW));
    }
    for (unsigned i = 0; i < 8 * DNS_RECENT_MAX; i++) {
        const uint8_t octets[4] = { 10, 0, (uint8_t)(i >> 8), (uint8_t)i };
        char name[32];
        snprintf(name, sizeof(name), "h%u.test", i);
        if (!knows(name, DNS_A, NOW))
            continue;
        there++;
        cr_assert_arr_eq(found.records[0].data, octets, 4);
        cr_assert_str_eq(found.canonical, name);
    }
    cr_assert_leq(there, DNS_RECENT_MAX);
    cr_assert_gt(there, DNS_RECENT_MAX / 2);
}
