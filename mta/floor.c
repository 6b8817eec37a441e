/*
 * floor.c - comparing what a host offers with what it has been capable of, and learning that
 *
 * A run is learned from when it is long enough in both respects: its weakest is what the host can
 * be held to, and the next run begins with the observation that ended it.
 */
#include "mta/floor.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"

enum floor_level floor_level(const struct floor_facts *facts)
{
    if (facts->version == 0)
        return FLOOR_NONE;
    if (!facts->chain)
        return FLOOR_ENCRYPT;
    return facts->name ? FLOOR_NAME : FLOOR_CHAIN;
}

static struct floor_facts lesser(const struct floor_facts *a, const struct floor_facts *b)
{
    return (struct floor_facts) {
        .version = MIN(a->version, b->version),
        .group = MIN(a->group, b->group),
        .secrecy = a->secrecy && b->secrecy,
        .chain = a->chain && b->chain,
        .name = a->name && b->name,
        .dane = a->dane && b->dane,
    };
}

static struct floor_facts greater(const struct floor_facts *a, const struct floor_facts *b)
{
    return (struct floor_facts) {
        .version = MAX(a->version, b->version),
        .group = MAX(a->group, b->group),
        .secrecy = a->secrecy || b->secrecy,
        .chain = a->chain || b->chain,
        .name = a->name || b->name,
        .dane = a->dane || b->dane,
    };
}

static bool same(const struct floor_facts *a, const struct floor_facts *b)
{
    return a->version == b->version && a->group == b->group && a->secrecy == b->secrecy &&
           a->chain == b->chain && a->name == b->name && a->dane == b->dane;
}

static void note(struct floor_record *record, enum floor_event_kind kind, unsigned less,
                 int64_t now)
{
    if (record->events_count == FLOOR_EVENTS_MAX)
        memmove(record->events, record->events + 1,
                (FLOOR_EVENTS_MAX - 1) * sizeof(record->events[0]));
    else
        record->events_count++;
    record->events[record->events_count - 1] =
        (struct floor_event) { .at = now, .kind = (uint8_t)kind, .less = (uint8_t)less };
}

/* ---- comparing ---- */

static bool too_old(const struct floor_record *record, int64_t now, const struct floor_rules *rules)
{
    return now - record->best_last > rules->forget_s;
}

bool floor_known(const struct floor_record *record, int64_t now, const struct floor_rules *rules)
{
    return record->best.version != 0 && !too_old(record, now, rules);
}

unsigned floor_compare(const struct floor_record *record, const struct floor_facts *observed,
                       const char *issuer, int64_t now, const struct floor_rules *rules)
{
    const struct floor_facts *best = &record->best;
    if (!floor_known(record, now, rules))
        return 0;
    if (observed->version == 0)
        return FLOOR_LESS_TLS;
    bool hybrid = observed->group == FLOOR_GROUP_HYBRID;
    bool other = *record->issuer != '\0' && *issuer != '\0' && strcmp(record->issuer, issuer) != 0;
    return (observed->version < best->version ? FLOOR_LESS_VERSION : 0U) |
           (best->secrecy && !observed->secrecy ? FLOOR_LESS_SECRECY : 0U) |
           (best->group == FLOOR_GROUP_HYBRID && !hybrid ? FLOOR_LESS_HYBRID : 0U) |
           (best->chain && !observed->chain ? FLOOR_LESS_CHAIN : 0U) |
           (best->name && !observed->name ? FLOOR_LESS_NAME : 0U) |
           (best->dane && !observed->dane ? FLOOR_LESS_DANE : 0U) | (other ? FLOOR_ISSUER : 0U);
}

enum floor_finding floor_finding(const struct floor_record *record,
                                 const struct floor_facts *observed, unsigned less, int64_t now,
                                 const struct floor_rules *rules)
{
    if (!floor_known(record, now, rules))
        return FLOOR_NEW;
    if (less & FLOOR_LESS_ANY)
        return FLOOR_LESS;
    const struct floor_facts most = greater(&record->best, observed);
    return same(&most, &record->best) ? FLOOR_SAME : FLOOR_BETTER;
}

enum floor_way floor_way(const struct floor_record *record, enum floor_action action, unsigned less,
                         int64_t now, const struct floor_rules *rules)
{
    if ((less & FLOOR_LESS_ANY) == 0 || action < FLOOR_DEFER)
        return FLOOR_GO;
    if (action == FLOOR_HOLD || record->kept || record->less == 0)
        return FLOOR_SKIP;
    return now - record->less_since < rules->hold_s ? FLOOR_SKIP : FLOOR_GO_RELEARN;
}

/* ---- learning ---- */

static void run_begin(struct floor_record *record, const struct floor_facts *observed, int64_t now)
{
    record->run = *observed;
    record->run_first = now;
    record->run_count = 1;
}

/* True: best is more than it was. */
static bool run_add(struct floor_record *record, const struct floor_facts *observed, int64_t now,
                    const struct floor_rules *rules)
{
    if (record->run_count == 0) {
        run_begin(record, observed, now);
    } else {
        record->run = lesser(&record->run, observed);
        record->run_count++;
    }
    if (record->run_count < rules->learn_count || now - record->run_first < rules->learn_s)
        return false;
    struct floor_facts best = greater(&record->best, &record->run);
    bool more = !same(&best, &record->best);
    if (more) {
        record->best = best;
        record->best_first = record->run_first;
        record->ever = greater(&record->ever, &best);
    }
    run_begin(record, observed, now);
    return more;
}

static void best_forget(struct floor_record *record)
{
    record->best = (struct floor_facts) { 0 };
    record->best_first = 0;
    record->best_last = 0;
    record->run_count = 0;
    record->less = 0;
    record->less_since = 0;
    record->kept = false;
}

/* The observation is less than best, or as good again. */
static unsigned less_change(struct floor_record *record, unsigned less, int64_t now)
{
    unsigned before = record->less;
    record->less = (uint8_t)less;
    if (less == 0)
        record->best_last = now;
    if (less == before)
        return 0;
    if (less == 0) {
        record->less_since = 0;
        record->kept = false;
        note(record, FLOOR_EVENT_BACK, before, now);
        return 1U << FLOOR_EVENT_BACK;
    }
    if (before == 0)
        record->less_since = now;
    record->regressions++;
    note(record, FLOOR_EVENT_LESS, less, now);
    return 1U << FLOOR_EVENT_LESS;
}

unsigned floor_learn(struct floor_record *record, const struct floor_facts *observed,
                     const char *issuer, int64_t now, const struct floor_rules *rules)
{
    unsigned events = 0;
    now = MAX(now, record->last);
    if (record->count > 0 && now - record->last > rules->forget_s)
        *record = (struct floor_record) { 0 };
    if (record->count == 0)
        record->first = now;
    if (record->best.version != 0 && too_old(record, now, rules)) {
        best_forget(record);
        note(record, FLOOR_EVENT_FORGOTTEN, 0, now);
        events |= 1U << FLOOR_EVENT_FORGOTTEN;
    }
    unsigned less = floor_compare(record, observed, issuer, now, rules);
    events |= less_change(record, less & FLOOR_LESS_ANY, now);
    if (less & FLOOR_ISSUER) {
        note(record, FLOOR_EVENT_ISSUER, 0, now);
        events |= 1U << FLOOR_EVENT_ISSUER;
    }
    if (run_add(record, observed, now, rules)) {
        note(record, FLOOR_EVENT_LEARNED, 0, now);
        events |= 1U << FLOOR_EVENT_LEARNED;
    }
    record->now = *observed;
    record->last = now;
    record->count += record->count < UINT32_MAX;
    if (*issuer != '\0')
        snprintf(record->issuer, sizeof(record->issuer), "%s", issuer);
    return events;
}

/* ---- decisions ---- */

void floor_accept(struct floor_record *record, int64_t now)
{
    const struct floor_facts offered = record->now;
    best_forget(record);
    record->best = offered;
    record->best_first = record->last;
    record->best_last = MAX(now, record->last);
    record->decided = now;
    run_begin(record, &offered, now);
    note(record, FLOOR_EVENT_ACCEPTED, 0, now);
}

void floor_keep(struct floor_record *record, int64_t now)
{
    record->kept = true;
    record->decided = now;
    note(record, FLOOR_EVENT_KEPT, 0, now);
}

void floor_relearn(struct floor_record *record, int64_t now)
{
    best_forget(record);
    note(record, FLOOR_EVENT_RELEARNING, 0, now);
}

/* ---- words ---- */

const char *const floor_action_names[FLOOR_ACTIONS + 1] = {
    [FLOOR_OFF] = "off",     [FLOOR_OBSERVE] = "observe", [FLOOR_ALERT] = "alert",
    [FLOOR_DEFER] = "defer", [FLOOR_HOLD] = "hold",       NULL,
};

const char *floor_level_name(enum floor_level level)
{
    static const char *const names[] = { "none", "encrypt", "chain", "name" };
    CHECK(level < ARRAY_COUNT(names));
    return names[level];
}

const char *floor_group_name(enum floor_group group)
{
    static const char *const names[] = { "none", "classic", "hybrid" };
    CHECK(group < ARRAY_COUNT(names));
    return names[group];
}

const char *floor_finding_name(enum floor_finding finding)
{
    static const char *const names[FLOOR_FINDINGS] = {
        [FLOOR_UNASKED] = NULL,    [FLOOR_NEW] = "new",   [FLOOR_SAME] = "same",
        [FLOOR_BETTER] = "better", [FLOOR_LESS] = "less",
    };
    CHECK(finding < FLOOR_FINDINGS);
    return names[finding];
}

const char *floor_event_name(enum floor_event_kind kind)
{
    static const char *const names[FLOOR_EVENT_KINDS] = {
        [FLOOR_EVENT_LEARNED] = "learned",
        [FLOOR_EVENT_LESS] = "less",
        [FLOOR_EVENT_BACK] = "back",
        [FLOOR_EVENT_ISSUER] = "issuer",
        [FLOOR_EVENT_ACCEPTED] = "accepted",
        [FLOOR_EVENT_KEPT] = "kept",
        [FLOOR_EVENT_RELEARNING] = "relearning",
        [FLOOR_EVENT_FORGOTTEN] = "forgotten",
    };
    CHECK(kind < FLOOR_EVENT_KINDS && names[kind] != NULL);
    return names[kind];
}

void floor_facts_text(const struct floor_facts *facts, char out[static FLOOR_TEXT_MAX])
{
    if (facts->version == 0) {
        snprintf(out, FLOOR_TEXT_MAX, "no TLS");
        return;
    }
    snprintf(out, FLOOR_TEXT_MAX, "TLS %u.%u%s%s%s%s%s", facts->version / 10U, facts->version % 10U,
             facts->group == FLOOR_GROUP_HYBRID ? ", hybrid" : "",
             facts->secrecy ? "" : ", no forward secrecy",
             facts->chain ? ", valid certificate" : ", certificate not valid",
             facts->name ? ", name fits" : "", facts->dane ? ", DANE" : "");
}

void floor_less_text(unsigned less, char out[static FLOOR_TEXT_MAX])
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        { FLOOR_LESS_TLS, "tls" },
        { FLOOR_LESS_VERSION, "version" },
        { FLOOR_LESS_SECRECY, "forward secrecy" },
        { FLOOR_LESS_HYBRID, "hybrid" },
        { FLOOR_LESS_CHAIN, "chain" },
        { FLOOR_LESS_NAME, "name" },
        { FLOOR_LESS_DANE, "dane" },
    };
    size_t size = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (less & names[i].bit)
            size += (size_t)snprintf(out + size, FLOOR_TEXT_MAX - size, "%s%s",
                                     size > 0 ? ", " : "", names[i].name);
}
