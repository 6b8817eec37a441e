/*
 * test_networks.c - the longest prefix, against a model that tries all of them
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "core/random.h"
#include "mta/networks.h"
#include "tests/core/fewer.h"

static struct net_prefix prefix_of(const char *text)
{
    struct net_prefix prefix;
    cr_assert_eq(net_parse_prefix(slice_of_string(text), &prefix), 0, "%s", text);
    return prefix;
}

static struct net_address address_of(const char *text)
{
    struct net_address address;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &address), 0, "%s", text);
    return address;
}

Test(networks, nothing_in_an_empty_or_unsealed_or_missing_set)
{
    struct networks *networks;
    struct net_address address = address_of("127.0.0.1");
    cr_assert_null(networks_find(NULL, &address, NULL));
    cr_assert_eq(networks_new(&networks), 0);
    cr_assert_null(networks_find(networks, &address, NULL));
    cr_assert_eq(networks_seal(networks), 0);
    cr_assert_null(networks_find(networks, &address, NULL));
    networks_free(networks);
}

Test(networks, refuses_the_same_twice_and_too_many)
{
    struct networks *networks;
    struct net_prefix prefix = prefix_of("10.0.0.0/8");
    cr_assert_eq(networks_new(&networks), 0);
    cr_assert_eq(networks_add(networks, &prefix, 1, NULL), 0);
    cr_assert_eq(networks_add(networks, &prefix, 2, NULL), -EEXIST);
    prefix = prefix_of("10.0.0.0/9"); /* the same address, another length */
    cr_assert_eq(networks_add(networks, &prefix, 2, NULL), 0);
    for (unsigned i = 0; i < NETWORKS_PREFIXES_MAX - 2; i++) {
        struct net_address a = address_of("192.0.2.1");
        a.octets[14] = (uint8_t)(i >> 8);
        a.octets[15] = (uint8_t)i;
        memcpy(prefix.octets, a.octets, 16);
        prefix.bits = 128;
        cr_assert_eq(networks_add(networks, &prefix, i, NULL), 0);
    }
    prefix = prefix_of("172.16.0.0/12");
    cr_assert_eq(networks_add(networks, &prefix, 2, NULL), -ENOSPC);
    networks_free(networks);
}

Test(networks, edges)
{
    static const char *const texts[] = { "0.0.0.0/0",     "10.0.0.0/8",    "10.1.0.0/16",
                                         "10.1.2.3",      "10.255.0.0/16", "255.255.255.255",
                                         "2001:db8::/32", "ffff::/16",     "::/0" };
    static const struct {
        const char *address;
        unsigned value;
    } cases[] = {
        { "9.255.255.255", 0 },
        { "10.0.0.0", 1 },
        { "10.0.255.255", 1 },
        { "10.1.0.0", 2 },
        { "10.1.2.2", 2 },
        { "10.1.2.3", 3 },
        { "10.1.2.4", 2 },
        { "10.1.255.255", 2 },
        { "10.2.0.0", 1 },
        { "10.255.255.255", 4 },
        { "11.0.0.0", 0 },
        { "255.255.255.255", 5 },
        { "255.255.255.254", 0 },
        { "2001:db8::", 6 },
        { "2001:db9::", 8 },
        { "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", 8 },
        { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 7 },
        { "::", 8 },
    };
    struct networks *networks;
    cr_assert_eq(networks_new(&networks), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(texts); i++) {
        struct net_prefix prefix = prefix_of(texts[i]);
        cr_assert_eq(networks_add(networks, &prefix, i, NULL), 0);
    }
    cr_assert_eq(networks_seal(networks), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct net_address address = address_of(cases[i].address);
        uint32_t value = 99;
        cr_assert_not_null(networks_find(networks, &address, &value));
        cr_assert_eq(value, cases[i].value, "%s -> %u", cases[i].address, value);
    }
    networks_free(networks);
}

Test(networks, agrees_with_a_model)
{
    static struct net_prefix prefixes[600];
    for (uint64_t seed = 1; seed <= FEWER(60); seed++) {
        struct random random;
        random_seed(&random, seed);
        struct networks *networks;
        unsigned count = 0, wanted = (unsigned)random_below(&random, ARRAY_COUNT(prefixes));
        cr_assert_eq(networks_new(&networks), 0);
        for (unsigned i = 0; i < wanted; i++) {
            struct net_address a =
                address_of(random_below(&random, 2) == 0 ? "10.0.0.0" : "fd00::");
            bool v4 = net_is_v4(&a);
            for (unsigned k = v4 ? 13 : 6; k < 16; k++) /* few values: prefixes nest */
                a.octets[k] = (uint8_t)(random_below(&random, 3) * 127);
            unsigned bits =
                (unsigned)(v4 ? 96 + random_below(&random, 33) : random_below(&random, 129));
            struct net_address cut = net_masked(&a, bits);
            struct net_prefix prefix = { .bits = (uint8_t)bits };
            memcpy(prefix.octets, cut.octets, 16);
            int r = networks_add(networks, &prefix, count, NULL);
            if (r == 0)
                prefixes[count++] = prefix;
            else
                cr_assert_eq(r, -EEXIST);
        }
        cr_assert_eq(networks_seal(networks), 0);
        for (unsigned i = 0; i < 2'000; i++) {
            struct net_address a =
                address_of(random_below(&random, 2) == 0 ? "10.0.0.0" : "fd00::");
            for (unsigned k = net_is_v4(&a) ? 13 : 6; k < 16; k++)
                a.octets[k] = (uint8_t)(random_below(&random, 3) * 127 + random_below(&random, 2));
            const struct net_prefix *longest = NULL;
            for (unsigned k = 0; k < count; k++)
                if (net_in(&prefixes[k], &a) &&
                    (longest == NULL || prefixes[k].bits > longest->bits))
                    longest = &prefixes[k];
            uint32_t value = UINT32_MAX;
            const struct net_prefix *found = networks_find(networks, &a, &value);
            cr_assert_eq(found == NULL, longest == NULL, "seed %llu", (unsigned long long)seed);
            if (found != NULL)
                cr_assert_eq(value, (uint32_t)(longest - prefixes), "seed %llu",
                             (unsigned long long)seed);
            uint32_t values[NETWORKS_DEPTH_MAX];
            unsigned held = 0, all = networks_find_all(networks, &a, values);
            for (unsigned k = 0; k < count; k++)
                held += net_in(&prefixes[k], &a) ? 1 : 0;
            cr_assert_eq(all, held, "seed %llu", (unsigned long long)seed);
            for (unsigned k = 0; k < all; k++) {
                cr_assert(net_in(&prefixes[values[k]], &a));
                cr_assert(k == 0 || prefixes[values[k]].bits < prefixes[values[k - 1]].bits);
            }
        }
        networks_free(networks);
    }
}
