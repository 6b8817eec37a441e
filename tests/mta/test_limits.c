/*
 * test_limits.c - counts against a model over long random runs; refusals count nothing; rates
 */
#include <criterion/criterion.h>
#include <signal.h>

#include "core/random.h"
#include "mta/limits.h"
#include "tests/core/fewer.h"

static const uint8_t key[LIMITS_KEY_BYTES] = "sixteen octets!";

static struct net_address address_of(const char *text)
{
    struct net_address address;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &address), 0, "%s", text);
    return address;
}

static struct limits *limits_for(uint32_t capacity)
{
    struct limits *limits;
    cr_assert_eq(limits_new(capacity, key, &limits), 0);
    return limits;
}

static enum limits_verdict open_one(struct limits *limits, const struct limits_options *options,
                                    const char *text)
{
    struct net_address address = address_of(text);
    return limits_open(limits, options, &address, false, 0);
}

static void close_one(struct limits *limits, const char *text)
{
    struct net_address address = address_of(text);
    limits_close(limits, &address);
}

Test(limits, a_close_without_open_is_our_mistake, .signal = SIGABRT)
{
    struct limits *limits = limits_for(4);
    struct limits_options none = { 0 };
    cr_assert_eq(open_one(limits, &none, "192.0.2.1"), LIMITS_ADMITTED);
    close_one(limits, "192.0.2.2");
}

Test(limits, the_shard_is_bounded_whatever_the_options_say)
{
    struct limits *limits = limits_for(3);
    struct limits_options none = { 0 }, two = { .connections_max = 2 };
    cr_assert_eq(open_one(limits, &none, "192.0.2.1"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &none, "192.0.2.2"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &two, "192.0.2.3"), LIMITS_SHARD_FULL);
    cr_assert_eq(open_one(limits, &none, "192.0.2.3"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &none, "192.0.2.4"), LIMITS_SHARD_FULL);
    struct net_address exempt = address_of("192.0.2.4");
    cr_assert_eq(limits_open(limits, &none, &exempt, true, 0), LIMITS_SHARD_FULL);
    close_one(limits, "192.0.2.2");
    cr_assert_eq(open_one(limits, &none, "192.0.2.4"), LIMITS_ADMITTED);
    cr_assert_eq(limits_connections(limits), 3);
    limits_free(limits);
}

Test(limits, per_address_and_network)
{
    struct limits *limits = limits_for(100);
    struct limits_options options = { .per_address = 2, .per_v4_24 = 3, .per_v6_64 = 4 };
    cr_assert_eq(open_one(limits, &options, "192.0.2.1"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "192.0.2.1"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "192.0.2.1"), LIMITS_ADDRESS_FULL);
    cr_assert_eq(open_one(limits, &options, "192.0.2.2"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "192.0.2.3"), LIMITS_NETWORK_FULL);
    cr_assert_eq(open_one(limits, &options, "192.0.3.3"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "2001:db8::1"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "2001:db8::2"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "2001:db8::ffff:0:0:3"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "2001:db8::4"), LIMITS_ADMITTED);
    cr_assert_eq(open_one(limits, &options, "2001:db8::5"), LIMITS_NETWORK_FULL);
    cr_assert_eq(open_one(limits, &options, "2001:db8:0:1::5"), LIMITS_ADMITTED);
    struct net_address address = address_of("192.0.2.3");
    cr_assert_eq(limits_of_address(limits, &address), 0); /* a refusal counts nothing */
    cr_assert_eq(limits_of_network(limits, &address), 3);
    cr_assert_eq(limits_open(limits, &options, &address, true, 0), LIMITS_ADMITTED);
    cr_assert_eq(limits_of_network(limits, &address), 4);
    limits_free(limits);
}

Test(limits, under_load)
{
    struct limits *limits = limits_for(10);
    struct limits_options options = { .connections_max = 4 };
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(open_one(limits, &options, "192.0.2.1"), LIMITS_ADMITTED);
    cr_assert(!limits_under_load(limits, &options, 50));
    cr_assert_eq(open_one(limits, &options, "192.0.2.1"), LIMITS_ADMITTED);
    cr_assert(limits_under_load(limits, &options, 50));
    cr_assert(!limits_under_load(limits, &options, 80));
    limits_free(limits);
}

Test(limits, rate_with_burst)
{
    struct limits *limits = limits_for(1'000);
    struct limits_options options = { .rate_per_minute = 60, .rate_burst = 3 };
    struct net_address address = address_of("192.0.2.1"), other = address_of("192.0.2.2");
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(limits_open(limits, &options, &address, false, 5'000), LIMITS_ADMITTED);
    cr_assert_eq(limits_open(limits, &options, &address, false, 5'000), LIMITS_RATE);
    cr_assert_eq(limits_open(limits, &options, &other, false, 5'000), LIMITS_ADMITTED);
    cr_assert_eq(limits_open(limits, &options, &address, false, 5'999), LIMITS_RATE);
    cr_assert_eq(limits_open(limits, &options, &address, false, 6'000), LIMITS_ADMITTED);
    cr_assert_eq(limits_open(limits, &options, &address, false, 6'000), LIMITS_RATE);
    cr_assert_eq(limits_open(limits, &options, &address, true, 6'000), LIMITS_ADMITTED);
    for (unsigned i = 0; i < 3; i++) /* full again, not fuller */
        cr_assert_eq(limits_open(limits, &options, &address, false, 600'000), LIMITS_ADMITTED);
    cr_assert_eq(limits_open(limits, &options, &address, false, 600'000), LIMITS_RATE);
    struct net_address a = address_of("2001:db8::1"), b = address_of("2001:db8::2");
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(limits_open(limits, &options, i == 0 ? &a : &b, false, 0), LIMITS_ADMITTED);
    cr_assert_eq(limits_open(limits, &options, &a, false, 0), LIMITS_RATE);
    cr_assert_eq(limits_of_address(limits, &address), 8);
    limits_free(limits);
}

Test(limits, a_flood_of_addresses_stays_within_the_rate_table)
{
    struct limits *limits = limits_for(16);
    struct limits_options options = { .rate_per_minute = 1 };
    struct random random;
    random_seed(&random, 3);
    for (unsigned i = 0; i < 100'000; i++) {
        struct net_address address = address_of("10.0.0.0");
        uint64_t bits = random_next(&random);
        memcpy(address.octets + 12, &bits, 4);
        if (limits_open(limits, &options, &address, false, i) == LIMITS_ADMITTED)
            limits_close(limits, &address);
    }
    cr_assert_eq(limits_connections(limits), 0);
    limits_free(limits);
}

Test(limits, agrees_with_a_model)
{
    enum { CAPACITY = 200, ADDRESSES = 256 };
    static struct net_address open[CAPACITY];
    for (uint64_t seed = 1; seed <= FEWER(30); seed++) {
        struct random random;
        random_seed(&random, seed);
        struct limits *limits = limits_for(CAPACITY);
        struct limits_options options = {
            .connections_max = 1 + (uint32_t)random_below(&random, CAPACITY),
            .per_address = (uint32_t)random_below(&random, 6),
            .per_v4_24 = (uint32_t)random_below(&random, 40),
            .per_v6_64 = (uint32_t)random_below(&random, 40),
        };
        unsigned count = 0;
        for (unsigned step = 0; step < 20'000; step++) {
            bool filling = (step / 1'000) % 2 == 0;
            if (random_below(&random, 10) < (filling ? 7 : 3)) {
                struct net_address a =
                    address_of(random_below(&random, 2) == 0 ? "10.0.0.0" : "fd00::");
                a.octets[net_is_v4(&a) ? 14 : 7] = (uint8_t)random_below(&random, 4);
                a.octets[15] = (uint8_t)random_below(&random, ADDRESSES / 8);
                a.port = (uint16_t)random_next(&random); /* not looked at */
                uint32_t same = 0, near = 0;
                for (unsigned i = 0; i < count; i++) {
                    struct net_address mine = net_masked(&a, net_is_v4(&a) ? 120 : 64);
                    struct net_address its = net_masked(&open[i], net_is_v4(&open[i]) ? 120 : 64);
                    same += net_equal_host(&a, &open[i]);
                    near += net_equal_host(&mine, &its);
                }
                uint32_t near_max = net_is_v4(&a) ? options.per_v4_24 : options.per_v6_64;
                enum limits_verdict expected =
                    count >= options.connections_max                         ? LIMITS_SHARD_FULL
                    : options.per_address > 0 && same >= options.per_address ? LIMITS_ADDRESS_FULL
                    : near_max > 0 && near >= near_max                       ? LIMITS_NETWORK_FULL
                                                                             : LIMITS_ADMITTED;
                cr_assert_eq(limits_of_address(limits, &a), same);
                cr_assert_eq(limits_of_network(limits, &a), near);
                enum limits_verdict verdict = limits_open(limits, &options, &a, false, step);
                cr_assert_eq(verdict, expected, "seed %llu step %u", (unsigned long long)seed,
                             step);
                if (verdict == LIMITS_ADMITTED)
                    open[count++] = a;
            } else if (count > 0) {
                unsigned at = (unsigned)random_below(&random, count);
                limits_close(limits, &open[at]);
                open[at] = open[--count];
            }
            cr_assert_eq(limits_connections(limits), count);
        }
        limits_free(limits);
    }
}
