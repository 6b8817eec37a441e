/*
 * test_floor.c - what is learned of a host and when, what is less, and what never lowers it
 */
#include "mta/floor.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/random.h"

enum { HOUR = 3'600, DAY = 24 * HOUR, START = 1'700'000'000, SEEDS = 200, STEPS = 400 };

static const struct floor_rules rules = {
    .learn_count = 3, .learn_s = DAY, .forget_s = 90 * DAY, .hold_s = 4 * HOUR
};
static const struct floor_facts none = { 0 };
static const struct floor_facts full = { 13, FLOOR_GROUP_HYBRID, true, true, true, true };

static unsigned see(struct floor_record *r, const struct floor_facts *facts, int64_t now)
{
    return floor_learn(r, facts, facts->version == 0 ? "" : "CN=A", now, &rules);
}

/* Three observations over a day; the time after the last one. */
static int64_t teach(struct floor_record *r, const struct floor_facts *facts, int64_t now)
{
    for (unsigned i = 0; i < 3; i++)
        see(r, facts, now + i * 12 * HOUR);
    return now + DAY;
}

static unsigned compare(const struct floor_record *r, const struct floor_facts *facts, int64_t now)
{
    return floor_compare(r, facts, "", now, &rules);
}

/* ---- learning ---- */

Test(floor, one_observation_teaches_nothing)
{
    struct floor_record r = { 0 };
    see(&r, &full, START);
    cr_assert_not(floor_known(&r, START, &rules));
    cr_assert_eq(compare(&r, &none, START), 0);
    cr_assert_eq(compare(&r, &none, START + 30 * DAY), 0);
}

Test(floor, two_over_a_long_time_teach_nothing)
{
    struct floor_record r = { 0 };
    see(&r, &full, START);
    see(&r, &full, START + 30 * DAY);
    cr_assert_not(floor_known(&r, START + 30 * DAY, &rules));
}

Test(floor, many_within_a_day_teach_nothing)
{
    struct floor_record r = { 0 };
    for (unsigned i = 0; i < 1'000; i++)
        see(&r, &full, START + i * 86);
    cr_assert_not(floor_known(&r, START + DAY, &rules));
    cr_assert_eq(compare(&r, &none, START + DAY), 0);
}

Test(floor, three_over_a_day_teach)
{
    struct floor_record r = { 0 };
    see(&r, &full, START);
    see(&r, &full, START + HOUR);
    unsigned events = see(&r, &full, START + DAY);
    cr_assert_eq(events, 1U << FLOOR_EVENT_LEARNED);
    cr_assert(floor_known(&r, START + DAY, &rules));
    cr_assert_eq(floor_level(&r.best), FLOOR_NAME);
    cr_assert_eq(r.best_first, START);
    cr_assert_eq(r.best_last, START + DAY);
    cr_assert_eq(r.count, 3);
}

Test(floor, a_run_teaches_its_weakest)
{
    struct floor_record r = { 0 };
    const struct floor_facts old = { 12, FLOOR_GROUP_CLASSIC, true, false, true, false };
    see(&r, &full, START);
    see(&r, &old, START + 12 * HOUR);
    see(&r, &full, START + DAY);
    cr_assert_eq(r.best.version, 12);
    cr_assert_eq(r.best.group, FLOOR_GROUP_CLASSIC);
    cr_assert_not(r.best.chain);
    cr_assert(r.best.name);
    cr_assert_eq(floor_level(&r.best), FLOOR_ENCRYPT);
    cr_assert_eq(compare(&r, &old, START + DAY), 0);
}

/* Behind one name a machine with TLS and one without: nothing can be held against it. */
Test(floor, a_host_that_flaps_is_not_held_to_it)
{
    struct floor_record r = { 0 };
    for (unsigned i = 0; i < 100; i++) {
        see(&r, i % 2 == 0 ? &full : &none, START + i * 6 * HOUR);
        cr_assert_not(floor_known(&r, r.last, &rules));
    }
}

Test(floor, more_is_learned_later)
{
    struct floor_record r = { 0 };
    const struct floor_facts old = { 12, FLOOR_GROUP_CLASSIC, true, false, false, false };
    int64_t now = teach(&r, &old, START);
    cr_assert_eq(r.best.version, 12);
    now = teach(&r, &full, now + HOUR);
    now = teach(&r, &full, now + HOUR);
    cr_assert_eq(r.best.version, 13);
    cr_assert_eq(floor_level(&r.best), FLOOR_NAME);
    cr_assert_eq(r.less, 0);
    cr_assert_eq(r.regressions, 0);
}

/* ---- in a word ---- */

static enum floor_finding find(const struct floor_record *r, const struct floor_facts *facts,
                               int64_t now)
{
    return floor_finding(r, facts, floor_compare(r, facts, "CN=B", now, &rules), now, &rules);
}

Test(floor, what_is_found_in_a_word)
{
    struct floor_record r = { 0 };
    const struct floor_facts plain = { 12, FLOOR_GROUP_CLASSIC, true, true, false, false };
    cr_assert_eq(find(&r, &none, START), FLOOR_NEW);
    cr_assert_eq(find(&r, &full, START), FLOOR_NEW);
    int64_t now = teach(&r, &plain, START);
    cr_assert_eq(find(&r, &plain, now), FLOOR_SAME, "another issuer is not less");
    cr_assert_eq(find(&r, &none, now), FLOOR_LESS);
    cr_assert_eq(find(&r, &full, now), FLOOR_BETTER);
    struct floor_facts mixed = full;
    mixed.chain = false; /* more does not make up for less */
    cr_assert_eq(find(&r, &mixed, now), FLOOR_LESS);
    cr_assert_eq(find(&r, &plain, now + rules.forget_s + DAY), FLOOR_NEW);
    for (unsigned i = FLOOR_NEW; i < FLOOR_FINDINGS; i++)
        cr_assert_not_null(floor_finding_name((enum floor_finding)i));
    cr_assert_null(floor_finding_name(FLOOR_UNASKED));
}

/* ---- less ---- */

Test(floor, each_kind_of_less)
{
    static const struct {
        struct floor_facts facts;
        unsigned less;
    } kinds[] = {
        { { 13, FLOOR_GROUP_HYBRID, true, true, true, true }, 0 },
        { { 0, FLOOR_GROUP_NONE, false, false, false, false }, FLOOR_LESS_TLS },
        { { 12, FLOOR_GROUP_HYBRID, true, true, true, true }, FLOOR_LESS_VERSION },
        { { 13, FLOOR_GROUP_CLASSIC, true, true, true, true }, FLOOR_LESS_HYBRID },
        { { 13, FLOOR_GROUP_HYBRID, false, true, true, true }, FLOOR_LESS_SECRECY },
        { { 13, FLOOR_GROUP_HYBRID, true, false, true, true }, FLOOR_LESS_CHAIN },
        { { 13, FLOOR_GROUP_HYBRID, true, true, false, true }, FLOOR_LESS_NAME },
        { { 13, FLOOR_GROUP_HYBRID, true, true, true, false }, FLOOR_LESS_DANE },
        { { 12, FLOOR_GROUP_NONE, false, false, false, false },
          FLOOR_LESS_ANY & ~(unsigned)FLOOR_LESS_TLS },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
        struct floor_record r = { 0 };
        int64_t now = teach(&r, &full, START) + HOUR;
        cr_assert_eq(compare(&r, &kinds[i].facts, now), kinds[i].less, "%u", i);
        unsigned events = see(&r, &kinds[i].facts, now);
        cr_assert_eq(events, kinds[i].less == 0 ? 0 : 1U << FLOOR_EVENT_LESS, "%u", i);
        cr_assert_eq(r.less, kinds[i].less);
        cr_assert_eq(r.less_since, kinds[i].less == 0 ? 0 : now);
        cr_assert_eq(r.regressions, kinds[i].less != 0);
        cr_assert(floor_known(&r, now, &rules));
        cr_assert_eq(memcmp(&r.best, &full, sizeof(full)), 0);
        cr_assert_eq(see(&r, &kinds[i].facts, now + HOUR), 0, "the same again is no news");
    }
}

Test(floor, another_issuer_is_an_event_and_not_less)
{
    struct floor_record r = { 0 };
    int64_t now = teach(&r, &full, START) + HOUR;
    cr_assert_eq(floor_compare(&r, &full, "CN=B", now, &rules), FLOOR_ISSUER);
    cr_assert_eq(floor_learn(&r, &full, "CN=B", now, &rules), 1U << FLOOR_EVENT_ISSUER);
    cr_assert_eq(r.less, 0);
    cr_assert_str_eq(r.issuer, "CN=B");
    cr_assert_eq(floor_learn(&r, &full, "CN=B", now + HOUR, &rules), 0);
    for (enum floor_action action = 0; action < FLOOR_ACTIONS; action++)
        cr_assert_eq(floor_way(&r, action, FLOOR_ISSUER, now, &rules), FLOOR_GO);
}

Test(floor, met_again)
{
    struct floor_record r = { 0 };
    int64_t now = teach(&r, &full, START) + HOUR;
    see(&r, &none, now);
    cr_assert_eq(r.less, FLOOR_LESS_TLS);
    cr_assert_eq(see(&r, &full, now + HOUR), 1U << FLOOR_EVENT_BACK);
    cr_assert_eq(r.less, 0);
    cr_assert_eq(r.less_since, 0);
    cr_assert_eq(r.best_last, now + HOUR);
}

/* ---- time ---- */

Test(floor, best_is_forgotten_when_it_was_not_met_for_90_days)
{
    struct floor_record r = { 0 };
    int64_t last = teach(&r, &full, START);
    cr_assert_neq(compare(&r, &none, last + rules.forget_s), 0);
    cr_assert_eq(compare(&r, &none, last + rules.forget_s + 1), 0);
    unsigned events = 0;
    int64_t now = last;
    while (now <= last + rules.forget_s + DAY) {
        now += DAY;
        events |= see(&r, &none, now);
    }
    cr_assert(events & 1U << FLOOR_EVENT_FORGOTTEN);
    cr_assert_not(floor_known(&r, now, &rules));
    cr_assert_eq(r.less, 0);
    cr_assert_eq(floor_level(&r.ever), FLOOR_NAME, "and yet it is told");
}

Test(floor, a_host_not_seen_for_90_days_begins_anew)
{
    struct floor_record r = { 0 };
    int64_t last = teach(&r, &full, START);
    see(&r, &none, last + rules.forget_s + 1);
    cr_assert_eq(r.count, 1);
    cr_assert_eq(r.first, last + rules.forget_s + 1);
    cr_assert_eq(r.regressions, 0);
}

Test(floor, a_clock_that_goes_back_changes_nothing)
{
    struct floor_record r = { 0 };
    int64_t last = teach(&r, &full, START);
    see(&r, &none, START - 400 * (int64_t)DAY);
    cr_assert_eq(r.last, last);
    cr_assert_eq(r.less, FLOOR_LESS_TLS);
    cr_assert_eq(memcmp(&r.best, &full, sizeof(full)), 0);
}

/* ---- what follows ---- */

Test(floor, ways)
{
    struct floor_record r = { 0 };
    int64_t now = teach(&r, &full, START) + HOUR;
    for (enum floor_action action = 0; action < FLOOR_ACTIONS; action++) {
        cr_assert_eq(floor_way(&r, action, 0, now, &rules), FLOOR_GO);
        cr_assert_eq(floor_way(&r, action, FLOOR_LESS_TLS, now, &rules),
                     action < FLOOR_DEFER ? FLOOR_GO : FLOOR_SKIP);
    }
    see(&r, &none, now);
    int64_t over = now + rules.hold_s;
    cr_assert_eq(floor_way(&r, FLOOR_DEFER, FLOOR_LESS_TLS, over - 1, &rules), FLOOR_SKIP);
    cr_assert_eq(floor_way(&r, FLOOR_DEFER, FLOOR_LESS_TLS, over, &rules), FLOOR_GO_RELEARN);
    cr_assert_eq(floor_way(&r, FLOOR_HOLD, FLOOR_LESS_TLS, over + 80 * DAY, &rules), FLOOR_SKIP);
    floor_keep(&r, now);
    cr_assert_eq(floor_way(&r, FLOOR_DEFER, FLOOR_LESS_TLS, over, &rules), FLOOR_SKIP);
    cr_assert_eq(floor_way(&r, FLOOR_ALERT, FLOOR_LESS_TLS, over, &rules), FLOOR_GO);
}

Test(floor, accepted)
{
    struct floor_record r = { 0 };
    const struct floor_facts old = { 12, FLOOR_GROUP_CLASSIC, true, true, true, false };
    int64_t now = teach(&r, &full, START) + HOUR;
    see(&r, &old, now);
    floor_accept(&r, now + 1);
    cr_assert_eq(r.less, 0);
    cr_assert_eq(compare(&r, &old, now + HOUR), 0);
    cr_assert_eq(compare(&r, &none, now + HOUR), FLOOR_LESS_TLS, "what was accepted is held");
    cr_assert_eq(r.ever.version, 13);
    see(&r, &none, now + HOUR);
    floor_accept(&r, now + HOUR);
    cr_assert_eq(compare(&r, &none, now + 2 * HOUR), 0);
    cr_assert_eq(r.events[r.events_count - 1].kind, FLOOR_EVENT_ACCEPTED);
}

Test(floor, kept_until_it_is_met_again)
{
    struct floor_record r = { 0 };
    int64_t now = teach(&r, &full, START) + HOUR;
    see(&r, &none, now);
    floor_keep(&r, now);
    see(&r, &none, now + DAY);
    cr_assert(r.kept);
    see(&r, &full, now + 2 * DAY);
    cr_assert_not(r.kept);
}

Test(floor, learned_anew_after_the_hold)
{
    struct floor_record r = { 0 };
    const struct floor_facts old = { 12, FLOOR_GROUP_CLASSIC, true, false, false, false };
    int64_t now = teach(&r, &full, START) + HOUR;
    see(&r, &old, now);
    floor_relearn(&r, now + rules.hold_s);
    cr_assert_not(floor_known(&r, now + rules.hold_s, &rules));
    teach(&r, &old, now + rules.hold_s);
    cr_assert_eq(r.best.version, 12);
    cr_assert_eq(r.ever.version, 13);
}

/* ---- whatever happens ---- */

static struct floor_facts any_facts(struct random *random)
{
    if (random_below(random, 4) == 0)
        return none;
    return (struct floor_facts) {
        .version = (uint8_t)(12 + random_below(random, 2)),
        .group = (uint8_t)(1 + random_below(random, 2)),
        .secrecy = random_below(random, 8) > 0,
        .chain = random_below(random, 2) > 0,
        .name = random_below(random, 2) > 0,
        .dane = random_below(random, 2) > 0,
    };
}

static bool holds(const struct floor_facts *a, const struct floor_facts *b)
{
    return a->version >= b->version && a->group >= b->group && a->secrecy >= b->secrecy &&
           a->chain >= b->chain && a->name >= b->name && a->dane >= b->dane;
}

/* Observations at random: best only rises, only to what was met without a gap for long enough and
 * often enough, and what is less is told whenever it is. */
Test(floor, learning_never_lowers)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct floor_record r = { 0 };
        struct floor_facts seen[STEPS];
        int64_t times[STEPS];
        struct floor_facts usual = any_facts(&random);
        int64_t now = START;
        for (unsigned i = 0; i < STEPS; i++) {
            if (random_below(&random, 40) == 0)
                usual = any_facts(&random);
            now += (int64_t)random_below(&random, 20 * HOUR);
            seen[i] = random_below(&random, 10) == 0 ? any_facts(&random) : usual;
            times[i] = now;
            const struct floor_record before = r;
            unsigned less = compare(&before, &seen[i], now);
            bool known = floor_known(&before, now, &rules);
            unsigned events = floor_learn(&r, &seen[i], "", now, &rules);
            cr_assert_eq(less == 0, !known || holds(&seen[i], &before.best));
            cr_assert_eq(compare(&r, &r.best, now), 0);
            cr_assert(holds(&r.ever, &r.best));
            cr_assert_eq(r.less, less);
            cr_assert_leq(r.events_count, FLOOR_EVENTS_MAX);
            if (known)
                cr_assert(holds(&r.best, &before.best), "seed %lu: best was lowered", seed);
            if (!(events & 1U << FLOOR_EVENT_LEARNED)) {
                cr_assert(!known || memcmp(&r.best, &before.best, sizeof(r.best)) == 0);
                continue;
            }
            /* each property that is more now was there in all of the last ones, long enough */
            unsigned run = i + 1;
            while (run > 0 && times[run - 1] >= r.best_first)
                run--;
            cr_assert_geq(i + 1 - run, rules.learn_count);
            cr_assert_geq(now - r.best_first, rules.learn_s);
            for (unsigned k = run; k <= i; k++) {
                cr_assert(r.best.version == before.best.version ||
                          seen[k].version >= r.best.version);
                cr_assert(r.best.group == before.best.group || seen[k].group >= r.best.group);
                cr_assert(r.best.chain == before.best.chain || seen[k].chain);
                cr_assert(r.best.name == before.best.name || seen[k].name);
            }
        }
    }
}

Test(floor, words)
{
    char text[FLOOR_TEXT_MAX];
    floor_facts_text(&none, text);
    cr_assert_str_eq(text, "no TLS");
    floor_facts_text(&full, text);
    cr_assert_str_eq(text, "TLS 1.3, hybrid, valid certificate, name fits, DANE");
    floor_less_text(FLOOR_LESS_VERSION | FLOOR_LESS_HYBRID, text);
    cr_assert_str_eq(text, "version, hybrid");
    floor_less_text(FLOOR_LESS_ANY, text);
    cr_assert_str_eq(text, "tls, version, forward secrecy, hybrid, chain, name, dane");
}
