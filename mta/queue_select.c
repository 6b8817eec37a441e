/*
 * queue_select.c - criteria read and compared
 */
#include "mta/queue_select.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/route.h"
#include "mta/smtp_server.h"

enum { US_IN_MS = 1'000, SECOND_MS = 1'000, MINUTE_MS = 60'000, HOUR_MS = 3'600'000 };
#define DAYS_MAX UINT64_C(36'500)

/* ---- reading ---- */

void queue_select_init(struct queue_selection *s)
{
    *s = (struct queue_selection) { .arrived_from_us = INT64_MIN, .arrived_to_us = INT64_MAX };
}

int queue_age_read(const char *text, uint64_t *ms)
{
    static const struct {
        char letter;
        uint64_t ms;
    } units[] = { { 's', SECOND_MS }, { 'm', MINUTE_MS }, { 'h', HOUR_MS }, { 'd', 24 * HOUR_MS } };
    const struct slice all = slice_of_string(text);
    if (all.size == 0)
        return -EINVAL;
    uint64_t unit = SECOND_MS;
    struct slice digits = all;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (all.data[all.size - 1] != (uint8_t)units[i].letter)
            continue;
        unit = units[i].ms;
        digits = slice_part(all, 0, all.size - 1);
    }
    uint64_t number;
    if (slice_to_u64(digits, DAYS_MAX * 24 * HOUR_MS / unit, &number) < 0)
        return -EINVAL;
    *ms = number * unit;
    return 0;
}

static int ids_read(struct queue_selection *s, const char *value, char why[static SELECT_WHY_MAX])
{
    struct slice rest = slice_of_string(value);
    for (;;) {
        const ptrdiff_t comma = slice_find(rest, ',');
        const struct slice one = comma < 0 ? rest : slice_part(rest, 0, (size_t)comma);
        if (s->ids_count == SELECT_IDS_MAX) {
            snprintf(why, SELECT_WHY_MAX, "more than %d ids at a time", SELECT_IDS_MAX);
            return -EINVAL;
        }
        if (smtp_id_read(one, &s->ids[s->ids_count]) < 0) {
            snprintf(why, SELECT_WHY_MAX, "%.*s: not a message id: 13 characters, as in the 250",
                     (int)MIN(one.size, (size_t)40), (const char *)one.data);
            return -EINVAL;
        }
        s->ids_count++;
        if (comma < 0)
            return 0;
        rest = slice_from(rest, (size_t)comma + 1);
    }
}

static int state_read(struct queue_selection *s, const char *value, char why[static SELECT_WHY_MAX])
{
    static const struct {
        const char *name;
        unsigned bits;
    } states[] = {
        { "ready", 1U << UNIT_READY },
        { "active", 1U << UNIT_ACTIVE | 1U << UNIT_SETTLING },
        { "deferred", 1U << UNIT_DEFERRED },
        { "held", 1U << UNIT_HELD },
    };
    for (size_t i = 0; i < ARRAY_COUNT(states); i++) {
        if (strcmp(states[i].name, value) != 0)
            continue;
        s->states |= states[i].bits;
        return 0;
    }
    snprintf(why, SELECT_WHY_MAX, "state is ready, active, deferred or held");
    return -EINVAL;
}

static int age_read(int64_t *limit_us, const char *value, int64_t now_us,
                    char why[static SELECT_WHY_MAX])
{
    uint64_t ms;
    if (queue_age_read(value, &ms) < 0) {
        snprintf(why, SELECT_WHY_MAX,
                 "%.40s: not an age: a number with s, m, h or d behind it, as in 4h", value);
        return -EINVAL;
    }
    *limit_us = now_us - (int64_t)ms * US_IN_MS;
    return 0;
}

int queue_select_add(struct queue_selection *s, const char *key, const char *value, int64_t now_us,
                     char why[static SELECT_WHY_MAX])
{
    const struct {
        const char *key;
        char *text;
        bool *given;
        bool may_be_empty;
    } texts[] = {
        { "sender", s->sender, &s->by_sender, true },
        { "recipient", s->recipient, &s->by_recipient, false },
        { "destination", s->destination, &s->by_destination, false },
        { "connector", s->connector, &s->by_connector, true },
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        if (strcmp(texts[i].key, key) != 0)
            continue;
        if (strlen(value) >= SELECT_TEXT_MAX || (*value == '\0' && !texts[i].may_be_empty)) {
            snprintf(why, SELECT_WHY_MAX, "%s: %s", key,
                     *value == '\0' ? "nothing was named" : "too long");
            return -EINVAL;
        }
        *texts[i].given = true;
        snprintf(texts[i].text, SELECT_TEXT_MAX, "%s", strcmp(value, "<>") == 0 ? "" : value);
        return 0;
    }
    if (strcmp(key, "id") == 0)
        return ids_read(s, value, why);
    if (strcmp(key, "state") == 0)
        return state_read(s, value, why);
    if (strcmp(key, "older") == 0)
        return age_read(&s->arrived_to_us, value, now_us, why);
    if (strcmp(key, "younger") == 0)
        return age_read(&s->arrived_from_us, value, now_us, why);
    if (strcmp(key, "all") != 0)
        return -ENOENT;
    s->all = true;
    return 0;
}

bool queue_select_is_empty(const struct queue_selection *s)
{
    return !s->all && !s->by_sender && !s->by_recipient && !s->by_destination && !s->by_connector &&
           s->states == 0 && s->ids_count == 0 && s->arrived_from_us == INT64_MIN &&
           s->arrived_to_us == INT64_MAX;
}

/* ---- comparing ---- */

bool queue_glob(struct slice pattern, struct slice text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX; /* behind the last one that was passed */
    size_t from = 0;        /* and where in the text it is tried to end */
    while (t < text.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star = ++p;
            from = t;
        } else if (p < pattern.size && ascii_lower(pattern.data[p]) == ascii_lower(text.data[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}

/* local@domain, with stars; a domain by itself stands for all of its addresses. */
static bool address_fits(const char *pattern, struct slice address)
{
    const struct slice wanted = slice_of_string(pattern);
    if (wanted.size == 0 || address.size == 0)
        return wanted.size == address.size;
    if (slice_find(wanted, '@') >= 0 || slice_equal(wanted, SLICE("*")))
        return queue_glob(wanted, address);
    size_t at = address.size;
    while (at > 0 && address.data[at - 1] != '@')
        at--;
    return queue_glob(wanted, slice_from(address, at));
}

/* A key up to what its mail wishes: "outbound:NAME:DOMAIN" of "outbound:NAME:DOMAIN!name". */
static struct slice key_stem(const char *key)
{
    return slice_of(key, strcspn(key, "!+"));
}

static bool connector_fits(const char *name, const char *key)
{
    const struct slice stem = key_stem(key);
    if (*name == '\0')
        return slice_starts_nocase(stem, SLICE("mx:"));
    if (!slice_starts_nocase(stem, SLICE("outbound:")))
        return false;
    struct slice title = slice_from(stem, 9);
    const ptrdiff_t colon = slice_find(title, ':');
    if (colon >= 0)
        title = slice_part(title, 0, (size_t)colon);
    return slice_equal(title, slice_of_string(name));
}

/* The whole key, or the domain in it, or all of the key but for what its mail wishes. */
static bool destination_fits(const char *pattern, const char *key)
{
    const struct slice wanted = slice_of_string(pattern);
    const struct slice stem = key_stem(key);
    if (slice_find(wanted, ':') >= 0)
        return queue_glob(wanted, slice_of_string(key)) || queue_glob(wanted, stem);
    size_t at = stem.size;
    while (at > 0 && stem.data[at - 1] != ':')
        at--;
    const bool has_hosts = slice_starts_nocase(stem, SLICE("outbound:")) && at == 9;
    return !has_hosts && queue_glob(wanted, slice_from(stem, at));
}

bool queue_select_needs_envelope(const struct queue_selection *s)
{
    return s->by_recipient || (s->by_sender && *s->sender != '\0');
}

bool queue_select_message(const struct queue_selection *s, const struct message *m)
{
    if (m->arrival_us > s->arrived_to_us || m->arrival_us < s->arrived_from_us)
        return false;
    if (s->by_sender && m->null_sender != (*s->sender == '\0') && strcmp(s->sender, "*") != 0)
        return false;
    for (unsigned i = 0; i < s->ids_count; i++)
        if (s->ids[i] == m->stored.id)
            return true;
    return s->ids_count == 0;
}

bool queue_select_destination(const struct queue_selection *s, const char *key)
{
    return !s->by_destination || destination_fits(s->destination, key);
}

bool queue_select_key(const struct queue_selection *s, const char *key)
{
    return (!s->by_connector || connector_fits(s->connector, key)) &&
           queue_select_destination(s, key);
}

bool queue_select_state(const struct queue_selection *s, const struct unit *unit)
{
    return s->states == 0 || (s->states >> unit->state & 1) != 0;
}

bool queue_select_unit(const struct queue_selection *s, const struct unit *unit)
{
    return queue_select_state(s, unit) && queue_select_key(s, unit->destination->key);
}

bool queue_select_sender(const struct queue_selection *s, struct slice sender)
{
    return !s->by_sender || address_fits(s->sender, sender) || strcmp(s->sender, "*") == 0;
}

bool queue_select_recipient(const struct queue_selection *s, struct slice address)
{
    return !s->by_recipient || address_fits(s->recipient, address);
}

enum { BITS = 64 };

bool queue_select_envelope(const struct queue_selection *s, const struct envelope *envelope,
                           struct queue_recipients *wanted)
{
    struct recipient recipient;
    size_t cursor = 0;
    bool some = !s->by_recipient;
    if (!queue_select_sender(s, envelope->sender))
        return false;
    wanted->all = !s->by_recipient;
    if (s->by_recipient)
        memset(wanted->bits, 0, sizeof(wanted->bits));
    for (uint32_t i = 0; s->by_recipient && envelope_next(envelope, &cursor, &recipient); i++) {
        if (!queue_select_recipient(s, recipient.address))
            continue;
        wanted->bits[i / BITS] |= UINT64_C(1) << i % BITS;
        some = true;
    }
    return some;
}

bool queue_select_wants(const struct queue_recipients *wanted, uint32_t recipient)
{
    return wanted->all || (wanted->bits[recipient / BITS] >> recipient % BITS & 1) != 0;
}

void queue_select_drop(struct queue_recipients *wanted, uint32_t recipient)
{
    if (wanted->all)
        memset(wanted->bits, 0xff, sizeof(wanted->bits));
    wanted->all = false;
    wanted->bits[recipient / BITS] &= ~(UINT64_C(1) << recipient % BITS);
}

uint32_t queue_select_count(const struct queue_recipients *wanted, const struct unit *unit)
{
    uint32_t count = 0;
    uint32_t place = unit->first;
    uint32_t recipient;
    if (wanted->all)
        return unit->count;
    while (unit_next(unit, &place, &recipient))
        count += queue_select_wants(wanted, recipient);
    return count;
}
