/*
 * control_connector_sums.c - daily sums of connectors: gathered once a minute, reported in pages
 *
 *   rows of all shards, less what they were a minute ago --> the record of today --> durable
 *
 * Owns the store. Trouble with it loses numbers, is counted and told when it begins; a file that is
 * not what was written makes it begin anew. What was counted around midnight is of the day in which
 * it was gathered.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

enum {
    GATHER_MS = 60'000,
    US_IN_S = 1'000'000,
    S_IN_DAY = 86'400,
    PAGE_RECORDS = 500,
    PAGE_LOOKED_AT = 5'000, /* for one page: the thread has other things to do */
};

static uint32_t today(const struct control *control)
{
    return (uint32_t)(control->shard.wall_us / US_IN_S / S_IN_DAY);
}

/* ---- trouble ---- */

static void log_trouble(struct control *control, const char *event, const char *why,
                        const char *moved)
{
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, event);
    log_string(&line, "file", control->connectors.sums.path);
    log_string(&line, "why", why);
    if (moved != NULL)
        log_string(&line, "moved_to", moved);
    log_end(&line);
}

static void look_at(struct control *control, int r)
{
    struct control_sums *sums = &control->connectors.sums;
    if (r >= 0 || r == -ENOENT)
        return;
    if (r == -EBADMSG) {
        r = store_renew(&sums->store, &sums->report);
        log_trouble(control, "connector_sums_damaged", sums->report.why, sums->report.aside);
    }
    if (r >= 0 || sums->failing)
        return;
    sums->failing = true;
    log_trouble(control, "connector_sums_failed", strerror(-r), NULL);
}

/* ---- gathering ---- */

static uint64_t total(const struct connector_traffic *t, enum connector_result result)
{
    uint64_t sum = 0;
    for (unsigned tls = 0; tls < CONNECTOR_TLS_KINDS; tls++)
        sum += t->messages[tls][0][result] + t->messages[tls][1][result];
    return sum;
}

static void traffic_sums(const struct connector_traffic *t, struct connector_sums *sums)
{
    static const enum sums_kind kinds[] = { [CONNECTOR_TLS_NONE] = SUMS_CLEAR,
                                            [CONNECTOR_TLS_12] = SUMS_TLS_12,
                                            [CONNECTOR_TLS_13] = SUMS_TLS_13 };
    for (unsigned forced = 0; forced < 2; forced++) {
        for (unsigned tls = 0; tls < CONNECTOR_TLS_KINDS; tls++)
            sums->messages[kinds[tls]][forced] = t->messages[tls][forced][CONNECTOR_DONE];
        /* A shard goes on counting while it is read. */
        uint64_t hybrid = MIN(t->hybrid[forced], sums->messages[SUMS_TLS_13][forced]);
        sums->messages[SUMS_TLS_13][forced] -= hybrid;
        sums->messages[SUMS_HYBRID][forced] = hybrid;
    }
    sums->bytes = t->bytes;
    sums->deferred = total(t, CONNECTOR_DEFERRED);
    sums->refused = total(t, CONNECTOR_REFUSED);
}

static void subtract(void *from, const void *what, size_t bytes)
{
    uint64_t *to = from;
    const uint64_t *less = what;
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        to[i] -= less[i];
}

static void put(struct control *control, enum connector_direction direction, uint32_t slot,
                const struct connector_sums *sums)
{
    struct sums_key key = { .day = today(control), .direction = direction };
    snprintf(key.name, sizeof(key.name), "%s", control->connectors.slots[direction].names[slot]);
    int r = connector_sums_add(control->connectors.sums.store, &key, sums);
    look_at(control, r);
}

static void gather_in(struct control *control, uint32_t slot)
{
    struct connector_in_row *before = &control->connectors.sums.in[slot];
    struct connector_in_row now;
    struct connector_sums sums = { .day = today(control) };
    control_connectors_in(control, slot, &now);
    if (now.traffic.events == 0 || now.traffic.events == before->traffic.events)
        return;
    struct connector_in_row delta = now;
    subtract(&delta, before, sizeof(delta));
    *before = now;
    traffic_sums(&delta.traffic, &sums);
    for (unsigned token = TOKEN_NONE + 1; token < TOKENS; token++)
        connector_sums_token(&sums, connector_token_name(token), delta.refused[token]);
    put(control, CONNECTOR_IN, slot, &sums);
}

static void gather_out(struct control *control, uint32_t slot)
{
    struct connector_out_row *before = &control->connectors.sums.out[slot];
    struct connector_out_row now;
    struct connector_sums sums = { .day = today(control) };
    control_connectors_out(control, slot, &now);
    if (now.traffic.events == 0 || now.traffic.events == before->traffic.events)
        return;
    struct connector_out_row delta = now;
    subtract(&delta, before, sizeof(delta));
    *before = now;
    traffic_sums(&delta.traffic, &sums);
    for (unsigned token = FAULT_NONE + 1; token < OUTBOUND_TOKENS; token++)
        connector_sums_token(&sums, outbound_token_name(token), delta.failures[token]);
    put(control, CONNECTOR_OUT, slot, &sums);
}

/* The store may go away on the way. */
static void gather(struct control *control)
{
    struct control_sums *sums = &control->connectors.sums;
    const struct connector_slots *slots = control->connectors.slots;
    for (uint32_t slot = 0; sums->store != NULL && slot < slots[CONNECTOR_IN].count; slot++)
        gather_in(control, slot);
    for (uint32_t slot = 0; sums->store != NULL && slot < slots[CONNECTOR_OUT].count; slot++)
        gather_out(control, slot);
    if (sums->store != NULL && today(control) > SUMS_DAYS_MAX)
        look_at(control, connector_sums_forget(sums->store, today(control) - SUMS_DAYS_MAX));
    if (sums->store == NULL)
        return;
    int r = store_commit(sums->store);
    look_at(control, r);
    if (r == 0)
        sums->failing = false;
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, connectors.sums.timer);
    gather(control);
    shard_timer_arm(&control->shard, timer, GATHER_MS);
}

void control_sums_clear(struct control *control, enum connector_direction direction, uint32_t slot)
{
    struct control_sums *sums = &control->connectors.sums;
    if (direction == CONNECTOR_IN && sums->in != NULL)
        sums->in[slot] = (struct connector_in_row) { 0 };
    if (direction == CONNECTOR_OUT && sums->out != NULL)
        sums->out[slot] = (struct connector_out_row) { 0 };
}

/* ---- life ---- */

int control_sums_open(struct control *control, const struct config *config)
{
    struct control_sums *sums = &control->connectors.sums;
    timer_init(&sums->timer, on_timer);
    snprintf(sums->path, sizeof(sums->path), "%s/connectors.mdb", config->spool.directory);
    sums->in = calloc(CONNECTOR_SLOTS_MAX, sizeof(*sums->in));
    sums->out = calloc(CONNECTOR_SLOTS_MAX, sizeof(*sums->out));
    if (sums->in == NULL || sums->out == NULL)
        return -ENOMEM;
    int r = connector_sums_open(sums->path, &sums->store, &sums->report);
    if (r < 0)
        fprintf(stderr, "ringpost: daily sums of connectors %s: %s\n", sums->path, strerror(-r));
    /* A full disk keeps no mail from being taken or delivered. */
    return r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

void control_sums_start(struct control *control)
{
    struct control_sums *sums = &control->connectors.sums;
    if (sums->report.damaged)
        log_trouble(control, "connector_sums_damaged", sums->report.why, sums->report.aside);
    if (sums->store == NULL)
        look_at(control, -ENOSPC);
    shard_timer_arm(&control->shard, &sums->timer, GATHER_MS);
}

void control_sums_close(struct control *control)
{
    struct control_sums *sums = &control->connectors.sums;
    timer_disarm(&control->shard.timers, &sums->timer);
    if (sums->in != NULL && sums->out != NULL)
        gather(control);
    store_close(sums->store);
    sums->store = NULL;
    free(sums->in);
    free(sums->out);
}

/* ---- reports ---- */

static json_t *record_json(const struct sums_key *key, const struct connector_sums *sums)
{
    json_t *messages = json_object();
    json_t *forced = json_object();
    json_t *tokens = json_object();
    for (unsigned kind = 0; kind < SUMS_KINDS; kind++) {
        json_object_set_new(messages, sums_kind_name(kind),
                            json_integer((json_int_t)sums->messages[kind][0]));
        json_object_set_new(forced, sums_kind_name(kind),
                            json_integer((json_int_t)sums->messages[kind][1]));
    }
    for (uint64_t i = 0; i < sums->tokens_count; i++)
        json_object_set_new(tokens, sums->tokens[i].word,
                            json_integer((json_int_t)sums->tokens[i].count));
    return json_pack("{s:I, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:o}", "day", (json_int_t)key->day,
                     "direction", connector_direction_name(key->direction), "connector", key->name,
                     "messages", messages, "forced", forced, "bytes", (json_int_t)sums->bytes,
                     "deferred", (json_int_t)sums->deferred, "refused", (json_int_t)sums->refused,
                     "tokens", tokens);
}

json_t *control_sums_report(struct control *control, const char *name, unsigned days,
                            struct sums_key *key)
{
    struct store **store = &control->connectors.sums.store;
    struct connector_sums sums;
    json_t *list = json_array();
    gather(control);
    const uint32_t first = today(control) - MIN(days, today(control)) + 1;
    int r = *store == NULL ? -ENOENT : 0;
    if (key->day < first)
        *key = (struct sums_key) { .day = first };
    for (unsigned i = 0; r == 0 && i < PAGE_LOOKED_AT && json_array_size(list) < PAGE_RECORDS;
         i++) {
        r = connector_sums_next(*store, key, &sums);
        if (r == 0 && (name == NULL || strcmp(name, key->name) == 0))
            json_array_append_new(list, record_json(key, &sums));
    }
    look_at(control, r);
    json_t *page = json_pack("{s:o}", "records", list);
    if (r == 0)
        json_object_set_new(page, "next",
                            json_pack("{s:I, s:s, s:s}", "day", (json_int_t)key->day, "direction",
                                      connector_direction_name(key->direction), "connector",
                                      key->name));
    return page;
}
