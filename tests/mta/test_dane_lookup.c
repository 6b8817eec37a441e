/*
 * test_dane_lookup.c - which names are asked for TLSA records, and what their answers mean
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/dane_lookup.h"

static struct shard shard;
static struct dns dns;
static struct danes danes;
static struct dane_lookup lookup;
static struct dns_query *asked; /* NULL: nothing is */
static char asked_name[DNS_NAME_MAX];
static enum dns_type asked_type;
static unsigned told;

static void table_ask(void *resolver, struct dns_query *query, const char *name, enum dns_type type)
{
    (void)resolver;
    cr_assert_null(asked, "one question at a time");
    asked = query;
    asked_type = type;
    snprintf(asked_name, sizeof(asked_name), "%s", name);
}

static void table_forget(void *resolver, struct dns_query *query)
{
    (void)resolver;
    cr_assert_eq(asked, query);
    asked = NULL;
}

static const struct dns_ops ops = { .ask = table_ask, .forget = table_forget };

static void looked_up(struct dane_lookup *which)
{
    cr_assert_eq(which, &lookup);
    told++;
}

static void setup(void)
{
    dns = (struct dns) { .ops = &ops };
    cr_assert_eq(danes_init(&danes, &shard, &dns, 1), 0);
}

static void teardown(void)
{
    dane_lookup_forget(&lookup);
    danes_free(&danes);
}

TestSuite(dane_lookup, .init = setup, .fini = teardown);

static bool start(const char *host, const char *canonical, bool secure, bool mx_secure)
{
    const struct dane_host of = {
        .host = host, .canonical = canonical, .port = 25, .secure = secure, .mx_secure = mx_secure
    };
    dane_lookup_forget(&lookup);
    memset(&lookup, 0, sizeof(lookup));
    lookup.looked_up = looked_up;
    told = 0;
    return dane_lookup_start(&lookup, &danes, &of);
}

static void expect(enum dns_type type, const char *name)
{
    cr_assert_not_null(asked, "%s", name);
    cr_assert_eq(asked_type, type);
    cr_assert_str_eq(asked_name, name);
}

static void answer(enum dns_status status, bool secure, const char *const *records, unsigned count)
{
    struct dns_record list[4];
    struct dns_query *query = asked;
    for (unsigned i = 0; i < count; i++)
        list[i] = (struct dns_record) { .size = 35, .data = (const uint8_t *)records[i] };
    asked = NULL;
    const struct dns_answer is = {
        .status = status, .secure = secure, .records = list, .count = count, .canonical = ""
    };
    query->answered(query, &is);
}

#define DIGEST "0123456789abcdef0123456789abcdef"
static const char *const good[] = { "\3\1\1" DIGEST };
static const char *const pkix[] = { "\1\1\1" DIGEST };
static const char *const bad[] = { "\3\1\2" DIGEST, "\1\1\1" DIGEST };
static const char *const mixed[] = { "\3\1\2" DIGEST, "\1\1\1" DIGEST, "\2\1\1" DIGEST };

Test(dane_lookup, without_signatures_nothing_is_asked)
{
    cr_assert(start("mx.d.example", "mx.d.example", false, true));
    cr_assert_eq(lookup.dane, HOST_DANE_INSECURE);
    cr_assert(start("mx.d.example", "mx.d.example", true, false), "the MX could be forged");
    cr_assert_eq(lookup.dane, HOST_DANE_INSECURE);
    cr_assert(start(NULL, NULL, true, true), "an address");
    cr_assert_eq(lookup.dane, HOST_DANE_INSECURE);
    cr_assert_null(asked);
    cr_assert_eq(danes.numbers.results[HOST_DANE_INSECURE], 3);
}

/* A command about our own records asks what is published; a delivery never does. */
Test(dane_lookup, what_is_published_is_told_without_signatures_only_to_who_asks_for_that)
{
    for (unsigned secure = 0; secure < 2; secure++) {
        danes.takes_unvalidated = true;
        cr_assert_not(start("mx.d.example", "mx.d.example", true, true));
        expect(DNS_TLSA, "_25._tcp.mx.d.example");
        answer(DNS_OK, secure == 1, good, 1);
        cr_assert_eq(lookup.dane, HOST_DANE_USABLE);
        cr_assert_eq(lookup.validated, secure == 1);
        danes.takes_unvalidated = false;
        cr_assert_not(start("mx.d.example", "mx.d.example", true, true));
        answer(DNS_OK, secure == 1, good, 1);
        cr_assert_eq(lookup.dane, secure == 1 ? HOST_DANE_USABLE : HOST_DANE_ABSENT);
        cr_assert_eq(lookup.validated, secure == 1);
    }
}

Test(dane_lookup, what_an_answer_means)
{
    static const struct {
        enum dns_status status;
        bool secure;
        const char *const *records;
        unsigned count;
        enum host_dane dane;
    } rows[] = {
        { DNS_OK, true, good, 1, HOST_DANE_USABLE },
        { DNS_OK, true, mixed, 3, HOST_DANE_USABLE },
        { DNS_OK, true, pkix, 1, HOST_DANE_UNUSABLE },
        { DNS_OK, true, bad, 2, HOST_DANE_BAD },
        { DNS_OK, false, good, 1, HOST_DANE_ABSENT },
        { DNS_NODATA, true, NULL, 0, HOST_DANE_ABSENT },
        { DNS_NODATA, false, NULL, 0, HOST_DANE_ABSENT },
        { DNS_NXDOMAIN, true, NULL, 0, HOST_DANE_ABSENT },
        { DNS_NXDOMAIN, false, NULL, 0, HOST_DANE_ABSENT },
        { DNS_SERVFAIL, false, NULL, 0, HOST_DANE_BOGUS },
        { DNS_TIMEOUT, false, NULL, 0, HOST_DANE_BOGUS },
        { DNS_BOGUS, false, NULL, 0, HOST_DANE_BOGUS },
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        cr_assert_not(start("mx.d.example", "mx.d.example", true, true));
        expect(DNS_TLSA, "_25._tcp.mx.d.example");
        answer(rows[i].status, rows[i].secure, rows[i].records, rows[i].count);
        cr_assert_eq(told, 1);
        cr_assert_eq(lookup.dane, rows[i].dane, "%zu: %s", i, host_dane_name(lookup.dane));
        cr_assert_eq(lookup.set != NULL, lookup.dane == HOST_DANE_USABLE);
        cr_assert_eq(lookup.why[0] == '\0', lookup.dane < HOST_DANE_BAD, "%zu", i);
    }
}

/* RFC 7672 2.2.2 */
Test(dane_lookup, signed_all_the_way_the_last_name_is_first)
{
    cr_assert_not(start("mx.d.example", "host.e.example", true, true));
    expect(DNS_TLSA, "_25._tcp.host.e.example");
    answer(DNS_OK, true, good, 1);
    cr_assert_eq(lookup.dane, HOST_DANE_USABLE);
    cr_assert_str_eq(lookup.base, "host.e.example");

    cr_assert_not(start("mx.d.example", "host.e.example", true, true));
    answer(DNS_NXDOMAIN, true, NULL, 0);
    expect(DNS_TLSA, "_25._tcp.mx.d.example");
    answer(DNS_OK, true, good, 1);
    cr_assert_eq(lookup.dane, HOST_DANE_USABLE);
    cr_assert_str_eq(lookup.base, "mx.d.example");

    cr_assert_not(start("mx.d.example", "host.e.example", true, true));
    answer(DNS_SERVFAIL, false, NULL, 0);
    cr_assert_null(asked, "no answer is not a no");
    cr_assert_eq(lookup.dane, HOST_DANE_BOGUS);
}

Test(dane_lookup, behind_a_signed_cname_the_first_name)
{
    cr_assert_not(start("mx.d.example", "host.e.example", false, true));
    expect(DNS_CNAME, "mx.d.example");
    answer(DNS_OK, true, NULL, 0);
    expect(DNS_TLSA, "_25._tcp.mx.d.example");
    answer(DNS_OK, true, good, 1);
    cr_assert_eq(lookup.dane, HOST_DANE_USABLE);

    cr_assert_not(start("mx.d.example", "host.e.example", false, true));
    answer(DNS_OK, false, NULL, 0);
    cr_assert_null(asked);
    cr_assert_eq(lookup.dane, HOST_DANE_INSECURE);

    cr_assert_not(start("mx.d.example", "host.e.example", false, true));
    answer(DNS_BOGUS, false, NULL, 0);
    cr_assert_null(asked);
    cr_assert_eq(lookup.dane, HOST_DANE_BOGUS);
}

Test(dane_lookup, forgotten_it_does_not_call)
{
    cr_assert_not(start("mx.d.example", "mx.d.example", true, true));
    dane_lookup_forget(&lookup);
    cr_assert_null(asked);
    cr_assert_not(start("mx.d.example", "mx.d.example", true, true));
    answer(DNS_OK, true, good, 1);
    cr_assert_eq(danes.sets.used, 1);
    dane_lookup_forget(&lookup);
    dane_lookup_forget(&lookup);
    cr_assert_eq(danes.sets.used, 0);
}

Test(dane_lookup, a_name_that_has_no_room_for_more)
{
    char name[DNS_NAME_MAX];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 50; i < sizeof(name) - 1; i += 51)
        name[i] = '.';
    cr_assert(start(name, name, true, true));
    cr_assert_eq(lookup.dane, HOST_DANE_ABSENT);
    cr_assert_null(asked);
}
