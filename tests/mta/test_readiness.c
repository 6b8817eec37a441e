/*
 * test_readiness.c - what comes often stays, whoever else comes; shards add up
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/readiness.h"

enum { ALL = READINESS_SETS * READINESS_WAYS };

static struct readiness one, two;
static struct readiness_entry entries[2 * ALL];

static void setup(void)
{
    cr_assert_eq(readiness_init(&one, 1), 0);
    cr_assert_eq(readiness_init(&two, 2), 0);
}

static void teardown(void)
{
    readiness_free(&one);
    readiness_free(&two);
}

TestSuite(readiness, .init = setup, .fini = teardown);

static void add(struct readiness *to, const char *connector, const char *peer, const char *domain,
                enum connector_token token)
{
    struct net_address address;
    cr_assert_eq(net_parse(slice_of_string(peer), 0, &address), 0);
    readiness_add(to, connector, &address, slice_of_string(domain), token);
}

Test(readiness, nothing_is_in_it_at_first)
{
    cr_assert_eq(readiness_gather(&one, "bank", entries), 0);
    cr_assert_eq(readiness_merge(entries, 0), 0);
}

Test(readiness, neighbours_and_shards_add_up)
{
    add(&one, "bank", "192.0.2.1", "bank.example", TOKEN_CERT_NONE);
    add(&one, "bank", "192.0.2.200", "bank.example", TOKEN_CERT_NONE);
    add(&two, "bank", "192.0.2.9", "bank.example", TOKEN_CERT_NONE);
    add(&two, "bank", "2001:db8::1", "", TOKEN_CERT_NAME);
    add(&two, "bank", "2001:db8::ffff:1", "", TOKEN_CERT_NAME);
    add(&two, "bank", "192.0.2.9", "bank.example", TOKEN_CERT_NAME);
    add(&two, "store", "192.0.2.9", "bank.example", TOKEN_CERT_NONE);
    unsigned count = readiness_gather(&one, "bank", entries);
    cr_assert_eq(count, 1);
    count += readiness_gather(&two, "bank", entries + count);
    count = readiness_merge(entries, count);
    cr_assert_eq(count, 3);
    cr_assert_eq(entries[0].count, 3);
    cr_assert_eq(entries[0].token, TOKEN_CERT_NONE);
    cr_assert_eq(entries[0].bits, 96 + 24);
    cr_assert_str_eq(entries[0].domain, "bank.example");
    cr_assert_eq(entries[1].count, 2);
    cr_assert_eq(entries[1].bits, 64);
    cr_assert_str_eq(entries[1].domain, "");
    cr_assert_eq(entries[2].count, 1);
}

Test(readiness, what_comes_often_stays_among_many_strangers)
{
    for (unsigned i = 0; i < 20 * ALL; i++) {
        char domain[32];
        snprintf(domain, sizeof(domain), "d%u.example", i);
        add(&one, "bank", "198.51.100.1", domain, TOKEN_CERT_NONE);
        if (i % 20 == 0)
            add(&one, "bank", "192.0.2.1", "often.example", TOKEN_CERT_NONE);
    }
    unsigned count = readiness_merge(entries, readiness_gather(&one, "bank", entries));
    cr_assert_leq(count, ALL);
    cr_assert_str_eq(entries[0].domain, "often.example");
    cr_assert_geq(entries[0].count, ALL);
    cr_assert_leq(entries[0].count - entries[0].over, ALL);
}

Test(readiness, a_name_that_is_too_long_is_cut)
{
    char domain[2 * READINESS_DOMAIN_MAX];
    memset(domain, 'x', sizeof(domain));
    domain[sizeof(domain) - 1] = '\0';
    add(&one, "bank", "192.0.2.1", domain, TOKEN_CERT_NONE);
    cr_assert_eq(readiness_gather(&one, "bank", entries), 1);
    cr_assert_eq(strlen(entries[0].domain), READINESS_DOMAIN_MAX - 1);
}
