/*
 * test_outbound.c - which connector takes a recipient: the vectors by their ids, then what they
 * leave open, then order and time
 *
 * Own domains: corp.example, sales.corp.example, brand.example.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/random.h"
#include "mta/config.h"
#include "tests/core/fewer.h"

#define HEAD                                                                                       \
    "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"                    \
    "relay { domains = { corp.example, sales.corp.example, brand.example } }\n"
#define OUTBOUND(name, state, more)                                                                \
    "outbound " name " { type = own state = " state " hosts = { h } " more " }\n"
#define C1 OUTBOUND("c1", "enforce", "domains = { corp.example }")
#define C2 OUTBOUND("c2", "enforce", "domains = { *.corp.example }")
#define C3 OUTBOUND("c3", "enforce", "domains = { all-own }")
#define C4 OUTBOUND("c4", "enforce", "domains = { * }")
#define C5 OUTBOUND("c5", "enforce", "domains = { big.example } max-size = 10M")
#define C6 OUTBOUND("c6", "enforce", "scope = rule")
#define C7 OUTBOUND("c7", "enforce", "all-mail = yes label = dc")
#define USE_C6 "rule use-c6 { use = c6 }\n"

enum { MIB = 1 << 20 };

static struct config *config;

static const struct outbound_set *set_of(const char *text)
{
    struct config_report report;
    config_report_init(&report);
    config_free(config);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return &config->outbound;
}

static struct outbound_facts to(const char *domain)
{
    return (struct outbound_facts) { .recipient_domain = slice_of_string(domain),
                                     .sender_domain = SLICE("sender.example"),
                                     .size = MIB };
}

static struct outbound_choice chosen;

/* Names the choice: the connector, "default", "bounce", "defer". */
static const char *choose(const char *text, struct outbound_facts facts)
{
    const struct outbound_set *set = set_of(text);
    outbound_select(set, &facts, &chosen);
    switch (chosen.verdict) {
    case OUTBOUND_CONNECTOR: return chosen.connector->route.name;
    case OUTBOUND_DEFAULT: return "default";
    case OUTBOUND_BOUNCE: return "bounce";
    case OUTBOUND_DEFER: return "defer";
    }
    return "?";
}

static void drop(void)
{
    config_free(config);
    config = NULL;
}

TestSuite(outbound, .fini = drop);

/* ---- vectors ---- */

Test(outbound, S_01_the_exact_domain)
{
    cr_assert_str_eq(choose(HEAD C1 C2 C3 C4, to("corp.example")), "c1");
}

Test(outbound, S_03_all_own)
{
    cr_assert_str_eq(choose(HEAD C1 C2 C3 C4, to("brand.example")), "c3");
}

Test(outbound, S_04_the_star)
{
    cr_assert_str_eq(choose(HEAD C1 C2 C3 C4, to("x.example")), "c4");
}

Test(outbound, S_05_none_is_the_default_route)
{
    cr_assert_str_eq(choose(HEAD C1 C2 C3, to("x.example")), "default");
    cr_assert_eq(outbound_route(&config->outbound, &chosen), &config->default_route);
    cr_assert_eq(chosen.floor, TLS_LEVEL_MAY);
}

Test(outbound, S_06_small_enough)
{
    struct outbound_facts facts = to("big.example");
    facts.size = 5 * MIB;
    cr_assert_str_eq(choose(HEAD C4 C5, facts), "c5");
    facts.size = 10 * MIB;
    cr_assert_str_eq(choose(HEAD C4 C5, facts), "c5");
}

Test(outbound, S_07_too_large_bounces_and_does_not_take_a_broader_one)
{
    struct outbound_facts facts = to("big.example");
    facts.size = 10 * MIB + 1;
    cr_assert_str_eq(choose(HEAD C4 C5, facts), "bounce");
    cr_assert_eq(chosen.reason, OUTBOUND_TOO_LARGE);
}

Test(outbound, S_08_a_rule_names_one)
{
    cr_assert_str_eq(choose(HEAD C4 C6 USE_C6, to("x.example")), "c6");
    cr_assert_str_eq(chosen.rule->name, "use-c6");
}

Test(outbound, S_09_a_rule_names_one_that_is_off)
{
    static const char off[] = HEAD C4 OUTBOUND("c6", "off", "scope = rule") USE_C6;
    static const char test[] = HEAD C4 OUTBOUND("c6", "test", "scope = rule") USE_C6;
    static const char bounces[] =
        HEAD C4 OUTBOUND("c6", "off", "scope = rule on-unavailable = bounce") USE_C6;
    static const char small[] =
        HEAD C4 OUTBOUND("c6", "enforce", "scope = rule max-size = 1K") USE_C6;
    cr_assert_str_eq(choose(off, to("x.example")), "defer");
    cr_assert_eq(chosen.reason, OUTBOUND_UNAVAILABLE);
    cr_assert_str_eq(choose(test, to("x.example")), "defer");
    cr_assert_str_eq(chosen.would->route.name, "c6");
    cr_assert_str_eq(choose(small, to("x.example")), "defer");
    cr_assert_str_eq(choose(bounces, to("x.example")), "bounce");
    cr_assert_eq(chosen.reason, OUTBOUND_UNAVAILABLE);
}

Test(outbound, S_10_no_rule_names_it)
{
    cr_assert_str_eq(choose(HEAD C4 C6, to("x.example")), "c4");
}

Test(outbound, S_11_all_mail_that_leaves)
{
    cr_assert_str_eq(choose(HEAD C4 C7, to("x.example")), "c7");
}

Test(outbound, S_12_and_not_back_to_where_it_came_from)
{
    struct outbound_facts facts = to("x.example");
    facts.label = SLICE("dc");
    facts.from_own = true;
    cr_assert_str_eq(choose(HEAD C4 C7, facts), "c4");
    facts.from_own = false; /* a partner with that label is no server of ours */
    cr_assert_str_eq(choose(HEAD C4 C7, facts), "c7");
    facts.from_own = true;
    facts.label = SLICE("other");
    cr_assert_str_eq(choose(HEAD C4 C7, facts), "c7");
}

Test(outbound, S_13_the_lower_cost)
{
    cr_assert_str_eq(choose(HEAD OUTBOUND("a", "enforce", "domains = { d } cost = 10")
                                OUTBOUND("b", "enforce", "domains = { d } cost = 5"),
                            to("d")),
                     "b");
}

Test(outbound, S_14_the_lower_name)
{
    cr_assert_str_eq(choose(HEAD OUTBOUND("b", "enforce", "domains = { d }")
                                OUTBOUND("a", "enforce", "domains = { d }"),
                            to("d")),
                     "a");
}

Test(outbound, S_15_one_in_test_carries_nothing_and_is_told)
{
    cr_assert_str_eq(choose(HEAD C4 OUTBOUND("exact", "test", "domains = { d }"), to("d")), "c4");
    cr_assert_str_eq(chosen.would->route.name, "exact");
    cr_assert_str_eq(choose(HEAD C4 OUTBOUND("exact", "test", "domains = { d }"), to("e")), "c4");
    cr_assert_null(chosen.would);
}

Test(outbound, S_16_one_that_is_off_is_not_there)
{
    cr_assert_str_eq(choose(HEAD C4 OUTBOUND("exact", "off", "domains = { d }"), to("d")), "c4");
    cr_assert_null(chosen.would);
}

Test(outbound, S_17_an_own_domain_without_connector_waits)
{
    cr_assert_str_eq(choose(HEAD, to("corp.example")), "defer");
    cr_assert_eq(chosen.reason, OUTBOUND_NO_WAY);
    cr_assert_str_eq(choose(HEAD, to("x.corp.example")), "default", "that one is not listed");
}

Test(outbound, S_18_recipients_of_one_message_go_different_ways)
{
    const struct outbound_set *set = set_of(HEAD C1);
    char one[ROUTE_KEY_BYTES], two[ROUTE_KEY_BYTES];
    struct outbound_facts facts = to("corp.example");
    outbound_select(set, &facts, &chosen);
    route_key(outbound_route(set, &chosen), facts.recipient_domain, chosen.floor, ROUTE_WISH_NONE,
              one);
    facts = to("x.example");
    outbound_select(set, &facts, &chosen);
    route_key(outbound_route(set, &chosen), facts.recipient_domain, chosen.floor, ROUTE_WISH_NONE,
              two);
    cr_assert_str_eq(one, "outbound:c1");
    cr_assert_str_eq(two, "mx:x.example");
}

static const char *choose_again(const char *text, const char *connector, enum tls_level floor)
{
    const struct outbound_set *set = set_of(text);
    const struct outbound_facts facts = to("d");
    const struct outbound_record record = { slice_of_string(connector), floor };
    outbound_select_again(set, &facts, &record, &chosen);
    return chosen.verdict == OUTBOUND_CONNECTOR ? chosen.connector->route.name
           : chosen.verdict == OUTBOUND_DEFAULT ? "default"
                                                : "waits";
}

Test(outbound, S_19_the_floor_outlives_its_connector)
{
    cr_assert_str_eq(choose_again(HEAD, "exact", TLS_LEVEL_NAME), "default");
    cr_assert_eq(chosen.floor, TLS_LEVEL_NAME);
}

/* ---- what is on record ---- */

Test(outbound, a_floor_on_record_does_not_fall_and_may_rise)
{
#define EXACT(tls) HEAD OUTBOUND("exact", "enforce", "domains = { d } tls = " tls)
    cr_assert_str_eq(choose_again(EXACT("may"), "exact", TLS_LEVEL_NAME), "exact");
    cr_assert_eq(chosen.floor, TLS_LEVEL_NAME);
    cr_assert_str_eq(choose_again(EXACT("name"), "exact", TLS_LEVEL_ENCRYPT), "exact");
    cr_assert_eq(chosen.floor, TLS_LEVEL_NAME);
    cr_assert_str_eq(choose_again(EXACT("name"), "", TLS_LEVEL_NONE), "exact");
    cr_assert_eq(chosen.floor, TLS_LEVEL_NAME);
}

Test(outbound, mail_of_a_connector_that_was_turned_off_waits_for_it)
{
    static const char off[] = HEAD C4 OUTBOUND("exact", "off", "domains = { d }");
    static const char test[] = HEAD C4 OUTBOUND("exact", "test", "domains = { d }");
    cr_assert_str_eq(choose_again(off, "exact", TLS_LEVEL_MAY), "waits");
    cr_assert_eq(chosen.reason, OUTBOUND_OFF);
    cr_assert_str_eq(choose_again(off, "c4", TLS_LEVEL_MAY), "c4");
    cr_assert_str_eq(choose_again(test, "exact", TLS_LEVEL_MAY), "c4");
}

/* ---- steps ---- */

Test(outbound, specificity_comes_before_cost)
{
    static const char text[] =
        HEAD OUTBOUND("exact", "enforce", "domains = { a.b.corp.example } cost = 90")
            OUTBOUND("longer", "enforce", "domains = { *.b.corp.example } cost = 80")
                OUTBOUND("shorter", "enforce", "domains = { *.corp.example } cost = 70")
                    OUTBOUND("own", "enforce", "domains = { all-own } cost = 60")
                        OUTBOUND("star", "enforce", "domains = { * } cost = 1");
    cr_assert_str_eq(choose(text, to("a.b.corp.example")), "exact");
    cr_assert_str_eq(choose(text, to("x.b.corp.example")), "longer");
    cr_assert_str_eq(choose(text, to("b.corp.example")), "shorter");
    cr_assert_str_eq(choose(text, to("sales.corp.example")), "shorter", "by name before all-own");
    cr_assert_str_eq(choose(text, to("corp.example")), "own");
    cr_assert_str_eq(choose(text, to("x.example")), "star");
    cr_assert_str_eq(choose(text, to("[192.0.2.1]")), "star");
}

Test(outbound, what_is_not_eligible_gives_way_to_the_less_specific)
{
    static const char text[] =
        HEAD C4 OUTBOUND("a", "enforce", "domains = { d } sender-domains = { s.example } cost = 1")
            OUTBOUND("b", "enforce", "domains = { d } from-labels = { l, m } cost = 2");
    struct outbound_facts facts = to("d");
    cr_assert_str_eq(choose(text, facts), "c4");
    facts.label = SLICE("m");
    cr_assert_str_eq(choose(text, facts), "b");
    facts.sender_domain = SLICE("s.example");
    cr_assert_str_eq(choose(text, facts), "a");
    facts.sender_domain = SLICE("");
    cr_assert_str_eq(choose(text, facts), "b", "the null sender is in no list");
}

Test(outbound, of_those_at_one_domain_the_first_that_takes_the_size)
{
    static const char text[] =
        HEAD C4 OUTBOUND("small", "enforce", "domains = { d } max-size = 1M cost = 1")
            OUTBOUND("large", "enforce", "domains = { d } max-size = 5M cost = 2");
    struct outbound_facts facts = to("d");
    cr_assert_str_eq(choose(text, facts), "small");
    facts.size = 2 * MIB;
    cr_assert_str_eq(choose(text, facts), "large");
    facts.size = 6 * MIB;
    cr_assert_str_eq(choose(text, facts), "bounce");
}

Test(outbound, all_mail_leaves_own_recipients_alone_and_is_not_passed_by_for_size)
{
    cr_assert_str_eq(choose(HEAD C3 C7, to("corp.example")), "c3");
    cr_assert_str_eq(choose(HEAD C1 C7, to("x.corp.example")), "c7", "not an own domain");
    struct outbound_facts facts = to("x.example");
    facts.size = 2 * MIB;
    static const char small[] =
        HEAD C4 OUTBOUND("all", "enforce", "all-mail = yes label = dc max-size = 1M");
    cr_assert_str_eq(choose(small, facts), "bounce");
}

Test(outbound, an_open_relay_is_not_everybodys_home)
{
    static const char text[] =
        "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"
        "relay { domains = { * } i-run-an-open-relay = yes }\n";
    cr_assert_str_eq(choose(text, to("x.example")), "default");
}

Test(outbound, rules_ask_for_all_that_they_name)
{
    static const char text[] =
        HEAD C4 C6 "rule r { if-sender-domain = { all-own } if-recipient-domain = { *.r.example } "
                   "if-label = { l } if-size-over = 1M if-tls = no use = c6 }\n";
    struct outbound_facts facts = to("a.r.example");
    facts.sender_domain = SLICE("brand.example");
    facts.label = SLICE("l");
    facts.size = MIB + 1;
    cr_assert_str_eq(choose(text, facts), "c6");
    struct outbound_facts other = facts;
    other.sender_domain = SLICE("x.example");
    cr_assert_str_eq(choose(text, other), "c4");
    other = facts;
    other.recipient_domain = SLICE("r.example");
    cr_assert_str_eq(choose(text, other), "c4");
    other = facts;
    other.label = SLICE("");
    cr_assert_str_eq(choose(text, other), "c4");
    other = facts;
    other.size = MIB;
    cr_assert_str_eq(choose(text, other), "c4");
    other = facts;
    other.tls = true;
    cr_assert_str_eq(choose(text, other), "c4");
}

Test(outbound, the_first_rule_names_and_the_strictest_requires)
{
    static const char text[] =
        HEAD C4 OUTBOUND("a", "enforce", "scope = rule") OUTBOUND("b", "enforce", "scope = rule")
            OUTBOUND("strict", "enforce",
                     "domains = { s } tls = chain") "rule z { if-recipient-domain = { d } use = b "
                                                    "cost = 1 }\n"
                                                    "rule y { if-recipient-domain = { d } use = a "
                                                    "require = name cost = 2 }\n"
                                                    "rule x { require = encrypt }\n";
    cr_assert_str_eq(choose(text, to("d")), "b");
    cr_assert_eq(chosen.floor, TLS_LEVEL_NAME);
    cr_assert_str_eq(choose(text, to("e")), "c4");
    cr_assert_eq(chosen.floor, TLS_LEVEL_ENCRYPT);
    cr_assert_str_eq(choose(text, to("s")), "strict");
    cr_assert_eq(chosen.floor, TLS_LEVEL_CHAIN);
}

/* ---- order and time ---- */

enum { SECTIONS = 40, ORDERS = 20 };

static void shuffle(struct random *random, unsigned *order, unsigned count)
{
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned k = (unsigned)random_below(random, i + 1);
        unsigned swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
}

/* A connector whose conditions overlap with many others'. */
static void section_write(struct random *random, unsigned index, char out[static 512])
{
    static const char *const patterns[] = {
        "a.example",     "b.a.example", "*.a.example", "*.b.a.example", "*",
        "brand.example", "all-own",     "*.example",   "d.example",
    };
    static const char *const states[] = { "enforce", "enforce", "test", "off" };
    static const char *const more[] = { "", "max-size = 1K", "sender-domains = { s.example }",
                                        "from-labels = { l }", "all-mail = yes label = l" };
    snprintf(out, 512,
             "outbound n%u { type = own state = %s hosts = { h } cost = %u domains = { %s, \"%s\" "
             "} %s }\n",
             index * 7 % SECTIONS, states[random_below(random, 4)],
             (unsigned)random_below(random, 3),
             patterns[random_below(random, ARRAY_COUNT(patterns))],
             patterns[random_below(random, ARRAY_COUNT(patterns))],
             more[random_below(random, 8) < 4 ? random_below(random, 5) : 0]);
}

/* What all the facts that are tried give, as one text. */
static void choices_write(const struct outbound_set *set, char *out, size_t capacity)
{
    static const char *const domains[] = { "a.example",    "b.a.example", "c.b.a.example",
                                           "x.a.example",  "other.test",  "brand.example",
                                           "corp.example", "d.example",   "e.example" };
    size_t size = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(domains) * 8; i++) {
        struct outbound_facts facts = to(domains[i / 8]);
        facts.size = i & 1 ? 100 : 10'000;
        facts.sender_domain = i & 2 ? SLICE("s.example") : SLICE("");
        facts.label = i & 4 ? SLICE("l") : SLICE("");
        facts.from_own = (i & 6) == 6;
        struct outbound_choice choice;
        outbound_select(set, &facts, &choice);
        size += (size_t)snprintf(out + size, capacity - size, "%d %s %s\n", (int)choice.verdict,
                                 choice.connector == NULL ? "-" : choice.connector->route.name,
                                 choice.would == NULL ? "-" : choice.would->route.name);
        cr_assert_lt(size, capacity);
    }
}

Test(outbound, the_order_in_the_file_has_no_meaning)
{
    static char sections[SECTIONS][512], text[SECTIONS * 512], first[1 << 16], again[1 << 16];
    for (uint64_t seed = 1; seed <= FEWER(25); seed++) {
        struct random random;
        unsigned order[SECTIONS];
        random_seed(&random, seed);
        for (unsigned i = 0; i < SECTIONS; i++) {
            section_write(&random, i, sections[i]);
            order[i] = i;
        }
        for (unsigned k = 0; k < ORDERS; k++) {
            size_t size = (size_t)snprintf(text, sizeof(text), HEAD);
            for (unsigned i = 0; i < SECTIONS; i++)
                size +=
                    (size_t)snprintf(text + size, sizeof(text) - size, "%s", sections[order[i]]);
            choices_write(set_of(text), k == 0 ? first : again, sizeof(first));
            if (k > 0)
                cr_assert_str_eq(first, again, "seed %lu", seed);
            shuffle(&random, order, SECTIONS);
        }
    }
}

/* Each of many is found, by its domain and by its name. */
Test(outbound, ten_thousand_connectors)
{
    enum { MANY = 10'000 };
    static char text[MANY * 128];
    size_t size = (size_t)snprintf(text, sizeof(text), HEAD);
    for (unsigned i = 0; i < MANY; i++)
        size +=
            (size_t)snprintf(text + size, sizeof(text) - size,
                             "outbound c%u { type = own state = enforce hosts = { h } domains = "
                             "{ d%u.test, *.d%u.test } }\n",
                             i, i, i);
    const struct outbound_set *set = set_of(text);
    cr_assert_eq(set->count, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        char domain[64], name[16];
        snprintf(domain, sizeof(domain), "%sd%u.test", i % 2 == 0 ? "mail." : "", i);
        snprintf(name, sizeof(name), "c%u", i);
        struct outbound_facts facts = to(domain);
        outbound_select(set, &facts, &chosen);
        cr_assert_eq(chosen.verdict, OUTBOUND_CONNECTOR);
        cr_assert_str_eq(chosen.connector->route.name, name);
        cr_assert_eq(outbound_named(set, slice_of_string(name)), chosen.connector);
    }
    cr_assert_null(outbound_named(set, SLICE("c")));
    cr_assert_null(outbound_named(set, SLICE("c10000")));
}
