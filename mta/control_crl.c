/*
 * control_crl.c - lists of revoked certificates: known, fetched ahead of need, given to the shards
 *
 *   a shard misses one --HANDOFF_CRL_WANTED--> MISSING --fetched, signed, current--> GOOD
 *     GOOD --half of the time to its next update, at most REFRESH_MAX_S--> fetched again
 *     a fetch fails --> the list that we have stays; again after RETRY_MIN_S, doubled each time
 *     GOOD --next update is over--> OLD, asked for as if it was missing
 *     nobody asked for FORGET_S, or another needs the room --> gone
 *
 * Each change makes a new set, of which every shard gets a reference. URLs come from certificates
 * that strangers present, so: only of a chain that leads to a root and fits a connector of ours
 * (mta/inbound.c, tls/tls_client.c); only so many fetches at a time and in a minute; special
 * addresses only where delivery { private-networks } says so (mta/control_fetch.c).
 *
 * A list is read, verified and written on the fetcher's thread: it may have 16 MiB, and the loop
 * has other things to do. One that is older than what we have, or over, is refused as if it had not
 * come. Bounds: crl { lists, bytes }. A disk that fails costs a fetch after the next start, and is
 * told.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/check.h"
#include "mta/control.h"

enum {
    TICK_MS = 1'000,
    US_IN_S = 1'000'000,
    REFRESH_MIN_S = 300,
    REFRESH_MAX_S = 12 * 3'600,
    RETRY_MIN_S = 60,
    RETRY_DOUBLINGS = 6, /* about an hour */
    FORGET_S = 30 * 86'400,
    KEEP_S = 3'600, /* who was asked for since makes no room */
    FETCHING_MAX = 4,
    TOKENS_MAX = 30, /* one comes with each tick */
    FETCH_MS = 60'000,
    RESULT_UNUSABLE = FETCH_RESULTS,
};

struct entry {
    struct list node;
    struct control *control;
    struct tls_crl_pointer *pointer;
    struct tls_crl *list; /* NULL: missing */
    size_t bytes;         /* of it, as it was fetched */
    struct fetch_request request;
    int64_t seen_at, fetched_at, due_at; /* unix seconds */
    unsigned failures;                   /* in a row */
    char why[TLS_WHY_MAX];               /* of the last one */
};

static int64_t now_s(const struct control *control)
{
    return control->shard.wall_us / US_IN_S;
}

static bool is_good(const struct entry *e, int64_t now)
{
    return e->list != NULL && now <= tls_crl_next_update(e->list) &&
           now >= tls_crl_this_update(e->list);
}

/* ---- the log ---- */

static void log_entry(const struct entry *e, enum log_level level, const char *event)
{
    struct shard *shard = &e->control->shard;
    struct log_line line;
    char day[TLS_TEXT_DATE_BYTES];
    log_begin(&line, shard->log, level, shard->wall_us, event);
    log_string(&line, "url", e->pointer->url);
    if (e->pointer->connector[0] != '\0')
        log_string(&line, "connector", e->pointer->connector);
    if (e->list != NULL) {
        tls_text_date(tls_crl_next_update(e->list), day);
        log_string(&line, "issuer", tls_crl_issuer(e->list));
        log_number(&line, "entries", tls_crl_count(e->list));
        log_string(&line, "next_update", day);
    }
    if (e->failures > 0) {
        log_string(&line, "why", e->why);
        log_number(&line, "failures", e->failures);
        log_number(&line, "again_in_s", e->due_at - now_s(e->control));
    }
    log_end(&line);
}

static void disk_failed(struct control *control, int error)
{
    struct log_line line;
    metric_add(&control->crl.errors, 1);
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "crl_disk");
    log_string(&line, "directory", control->crl.path);
    log_string(&line, "why", strerror(-error));
    log_end(&line);
}

/* ---- what shards have ---- */

static void send_set(struct control *control)
{
    struct control_crl *crl = &control->crl;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_CRLS, .pointer = crl->set };
        if ((crl->behind & UINT64_C(1) << i) == 0)
            continue;
        tls_crls_use(crl->set);
        if (shard_handoff(&control->shard, i, handoff) == 0)
            crl->behind &= ~(UINT64_C(1) << i);
        else
            tls_crls_drop(crl->set); /* the next tick tries again */
    }
}

/* A set of the lists that there are now. False: no memory, and the old one stays. */
static bool make_set(struct control *control)
{
    struct control_crl *crl = &control->crl;
    struct tls_crl **lists = calloc(MAX(crl->count, 1U), sizeof(*lists));
    struct tls_crls *set = NULL;
    unsigned count = 0;
    if (lists == NULL)
        return false;
    list_each (node, &crl->entries) {
        const struct entry *e = container_of(node, struct entry, node);
        if (e->list != NULL)
            lists[count++] = e->list;
    }
    int r = tls_crls_make(lists, count, &set);
    free((void *)lists);
    if (r < 0)
        return false;
    tls_crls_drop(crl->set);
    crl->set = set;
    return true;
}

static void count_states(struct control *control, int64_t now)
{
    struct control_crl *crl = &control->crl;
    uint64_t good = 0, old = 0, missing = 0, entries = 0;
    list_each (node, &crl->entries) {
        const struct entry *e = container_of(node, struct entry, node);
        if (e->list == NULL)
            missing++;
        else if (is_good(e, now))
            good++;
        else
            old++;
        entries += e->list == NULL ? 0 : tls_crl_count(e->list);
    }
    metric_set(&crl->lists_good, good);
    metric_set(&crl->lists_old, old);
    metric_set(&crl->lists_missing, missing);
    metric_set(&crl->entries_count, entries);
    metric_set(&crl->bytes_now, crl->bytes);
}

static void lists_changed(struct control *control)
{
    struct control_crl *crl = &control->crl;
    crl->changed = true;
    count_states(control, now_s(control));
    if (!make_set(control))
        return;
    crl->behind = UINT64_MAX;
    send_set(control);
}

/* ---- entries ---- */

static struct entry *entry_find(const struct control_crl *crl,
                                const uint8_t id[static TLS_DIGEST_BYTES])
{
    list_each (node, &crl->entries) {
        struct entry *e = container_of(node, struct entry, node);
        if (memcmp(e->pointer->id, id, TLS_DIGEST_BYTES) == 0)
            return e;
    }
    return NULL;
}

static void on_fetched(struct fetch_request *request, const struct fetch_answer *answer);

/* Takes the pointer. NULL: no memory, it is gone. */
static struct entry *entry_make(struct control *control, struct tls_crl_pointer *pointer)
{
    struct entry *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        free(pointer);
        return NULL;
    }
    e->control = control;
    e->pointer = pointer;
    e->request.fetched = on_fetched;
    e->due_at = e->seen_at = now_s(control);
    list_push(&control->crl.entries, &e->node);
    control->crl.count++;
    return e;
}

static void entry_free(struct entry *e)
{
    struct control_crl *crl = &e->control->crl;
    if (e->request.job != NULL)
        crl->fetching--;
    fetch_forget(&e->request);
    list_remove(&e->node);
    crl->count--;
    crl->bytes -= e->bytes;
    tls_crl_drop(e->list);
    free(e->pointer);
    free(e);
}

static void entry_drop(struct entry *e)
{
    struct control_crl *crl = &e->control->crl;
    crl_store_remove(crl->path, e->pointer->id);
    metric_add(&crl->dropped, 1);
    entry_free(e);
}

/* The one that nobody has asked for longest, but in the last hour; NULL: none. */
static struct entry *entry_oldest(const struct control *control, const struct entry *but)
{
    struct entry *oldest = NULL;
    list_each (node, &control->crl.entries) {
        struct entry *e = container_of(node, struct entry, node);
        if (e != but && (oldest == NULL || e->seen_at < oldest->seen_at))
            oldest = e;
    }
    return oldest != NULL && now_s(control) - oldest->seen_at >= KEEP_S ? oldest : NULL;
}

/* Room for one more list of that many bytes. Changes the set, which is for the caller to tell. */
static bool make_room(struct control *control, const struct entry *e, size_t bytes)
{
    struct control_crl *crl = &control->crl;
    while (crl->bytes - e->bytes + bytes > control->config->crl.bytes_max) {
        struct entry *oldest = entry_oldest(control, e);
        if (oldest == NULL)
            return false;
        entry_drop(oldest);
    }
    return true;
}

static void on_wanted(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct control_crl *crl = &control->crl;
    struct tls_crl_pointer *pointer = handoff->pointer;
    int64_t now = now_s(control);
    struct entry *e = entry_find(crl, pointer->id);
    if (e != NULL) {
        if (pointer->connector[0] != '\0') /* an outbound one says nothing */
            memcpy(e->pointer->connector, pointer->connector, sizeof(pointer->connector));
        free(pointer);
        e->seen_at = now;
        if (!is_good(e, now) && e->failures == 0)
            e->due_at = MIN(e->due_at, now);
        return;
    }
    if (crl->count >= control->config->crl.lists_max) {
        struct entry *oldest = entry_oldest(control, NULL);
        if (oldest == NULL) {
            metric_add(&crl->full, 1);
            free(pointer);
            return;
        }
        entry_drop(oldest);
        lists_changed(control);
    }
    (void)entry_make(control, pointer);
    crl->changed = true;
}

/* ---- fetching ---- */

static int64_t spread(struct control *control, int64_t seconds)
{
    return seconds - (int64_t)random_below(&control->shard.random, (uint64_t)seconds / 8 + 1);
}

/* From when it was fetched until it is fetched again. */
static int64_t refresh_s(const struct entry *e)
{
    int64_t left = tls_crl_next_update(e->list) - e->fetched_at;
    return MIN(MAX(left / 2, (int64_t)REFRESH_MIN_S), (int64_t)REFRESH_MAX_S);
}

static void failed(struct entry *e, const char *format, ...) PRINTF_LIKE(2, 3);

static void failed(struct entry *e, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(e->why, sizeof(e->why), format, list);
    va_end(list);
    int64_t wait = (int64_t)RETRY_MIN_S << MIN(e->failures, (unsigned)RETRY_DOUBLINGS);
    e->failures++;
    e->due_at = now_s(e->control) + spread(e->control, wait);
    e->control->crl.changed = true;
    log_entry(e, LOG_WARNING, "crl_failed");
}

/* On the fetcher's thread: a list may have 16 MiB, and the loop has other things to do. Knows
 * copies, and nothing of control's. */
struct crl_look {
    struct fetch_look look;
    struct tls_crl_pointer *pointer;
    struct tls_crl *list; /* what came; NULL: it is no better than what we have, and why */
    int64_t than;         /* this update of what we have; 0: nothing */
    int64_t seen_at, fetched_at;
    size_t bytes;
    int disk; /* of writing it: 0 or errno */
    char path[CRL_STORE_PATH_MAX];
    char why[TLS_WHY_MAX];
};

static void look_drop(struct fetch_look *look)
{
    struct crl_look *l = container_of(look, struct crl_look, look);
    tls_crl_drop(l->list);
    free(l->pointer);
    free(l);
}

static void look_read(struct crl_look *l, struct slice body)
{
    struct tls_crl *list;
    char why[TLS_WHY_MAX], day[TLS_TEXT_DATE_BYTES];
    struct slice issuer = slice_of(l->pointer->issuer, l->pointer->issuer_size);
    if (tls_crl_read(body, l->pointer->url, issuer, &list, why) < 0) {
        tls_why(l->why, "what is there %s", why);
        return;
    }
    if (l->fetched_at > tls_crl_next_update(list)) {
        tls_text_date(tls_crl_next_update(list), day);
        tls_why(l->why, "what is there is over since %s", day);
    } else if (l->than != 0 && tls_crl_this_update(list) < l->than) {
        tls_text_date(tls_crl_this_update(list), day);
        tls_why(l->why, "what is there is of %s, and older than what we have", day);
    } else {
        l->list = list;
        return;
    }
    tls_crl_drop(list);
}

static void look_run(struct fetch_look *look, struct slice body)
{
    struct crl_look *l = container_of(look, struct crl_look, look);
    l->fetched_at = time(NULL);
    l->bytes = body.size;
    look_read(l, body);
    if (l->list == NULL)
        return;
    const struct crl_record record = {
        .url = l->pointer->url,
        .connector = l->pointer->connector,
        .issuer = slice_of(l->pointer->issuer, l->pointer->issuer_size),
        .list = body,
        .fetched_at = l->fetched_at,
        .seen_at = l->seen_at,
    };
    l->disk = crl_store_write(l->path, l->pointer->id, &record);
}

/* NULL: no memory. */
static struct crl_look *look_make(const struct entry *e)
{
    struct crl_look *l = calloc(1, sizeof(*l));
    const size_t size = sizeof(*e->pointer) + e->pointer->issuer_size;
    struct tls_crl_pointer *pointer = malloc(size);
    if (l == NULL || pointer == NULL) {
        free(l);
        free(pointer);
        return NULL;
    }
    memcpy(pointer, e->pointer, size);
    l->look = (struct fetch_look) { .run = look_run, .drop = look_drop };
    l->pointer = pointer;
    l->than = e->list == NULL ? 0 : tls_crl_this_update(e->list);
    l->seen_at = e->seen_at;
    snprintf(l->path, sizeof(l->path), "%s", e->control->crl.path);
    return l;
}

static void take_list(struct entry *e, struct crl_look *l)
{
    struct control *control = e->control;
    control->crl.bytes += l->bytes - e->bytes;
    e->bytes = l->bytes;
    tls_crl_drop(e->list);
    e->list = l->list;
    l->list = NULL;
    e->fetched_at = l->fetched_at;
    e->failures = 0;
    e->why[0] = '\0';
    e->due_at = now_s(control) + spread(control, refresh_s(e));
    if (l->disk < 0)
        disk_failed(control, l->disk);
    log_entry(e, LOG_INFO, "crl_fetched");
    lists_changed(control);
}

/* False: it is not taken, and the entry says why. */
static bool take_look(struct entry *e, struct crl_look *l)
{
    if (l->list == NULL) {
        failed(e, "%s", l->why);
        return false;
    }
    if (!make_room(e->control, e, l->bytes)) {
        failed(e, "there is no room for %zu bytes (crl { bytes })", l->bytes);
        if (e->list == NULL)
            crl_store_remove(e->control->crl.path, e->pointer->id);
        return false;
    }
    take_list(e, l);
    return true;
}

static void on_fetched(struct fetch_request *request, const struct fetch_answer *answer)
{
    struct entry *e = container_of(request, struct entry, request);
    struct control_crl *crl = &e->control->crl;
    struct crl_look *l = container_of(answer->look, struct crl_look, look);
    crl->fetching--;
    if (answer->result != FETCH_DONE) {
        metric_add(&crl->fetched[answer->result], 1);
        failed(e, "%s", answer->why);
    } else {
        const bool taken = take_look(e, l);
        metric_add(&crl->fetched[taken ? (int)FETCH_DONE : (int)RESULT_UNUSABLE], 1);
    }
    look_drop(&l->look);
}

static void fetch(struct entry *e)
{
    struct control *control = e->control;
    e->request.url = e->pointer->url;
    e->request.bytes_max = TLS_CRL_BYTES_MAX;
    e->request.timeout_ms = FETCH_MS;
    struct crl_look *l = look_make(e);
    e->request.look = l == NULL ? NULL : &l->look;
    int r = l == NULL ? -ENOMEM : fetch_start(control->fetcher, &e->request);
    if (r < 0 && l != NULL)
        look_drop(&l->look);
    if (r == 0) {
        control->crl.fetching++;
        control->crl.tokens--;
    } else {
        metric_add(&control->crl.fetched[FETCH_LOCAL], 1);
        failed(e, "%s", strerror(-r));
    }
}

/* ---- the clock ---- */

static void write_state(struct control *control)
{
    json_t *state = control_crl_report(control);
    int r = crl_store_write_state(control->crl.path, state);
    json_decref(state);
    control->crl.changed = false;
    if (r < 0)
        disk_failed(control, r);
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, crl.timer);
    struct control_crl *crl = &control->crl;
    int64_t now = now_s(control);
    crl->tokens = MIN(crl->tokens + 1, (unsigned)TOKENS_MAX);
    bool dropped = false;
    list_each_safe(node, &crl->entries)
    {
        struct entry *e = container_of(node, struct entry, node);
        if (e->list != NULL)
            e->seen_at = MAX(e->seen_at, tls_crl_asked_at(e->list));
        if (now - e->seen_at >= FORGET_S) {
            entry_drop(e);
            dropped = true;
        } else if (now >= e->due_at && e->request.job == NULL && crl->fetching < FETCHING_MAX &&
                   crl->tokens > 0 && !control->stopping) {
            fetch(e);
        }
    }
    if (dropped)
        lists_changed(control);
    if (crl->set != NULL)
        send_set(control);
    count_states(control, now);
    if (crl->changed)
        write_state(control);
    shard_timer_arm(&control->shard, timer, TICK_MS);
}

/* ---- life ---- */

static bool on_record(void *owner, const struct crl_record *record)
{
    struct control *control = owner;
    struct control_crl *crl = &control->crl;
    char why[TLS_WHY_MAX];
    struct tls_crl *list;
    if (crl->count >= control->config->crl.lists_max ||
        crl->bytes + record->list.size > control->config->crl.bytes_max ||
        tls_crl_read(record->list, record->url, record->issuer, &list, why) < 0)
        return false;
    struct tls_crl_pointer *pointer = tls_crl_pointer_make(record->url, record->issuer);
    struct entry *e = pointer == NULL ? NULL : entry_make(control, pointer);
    if (e == NULL) {
        tls_crl_drop(list);
        return false;
    }
    snprintf(pointer->connector, sizeof(pointer->connector), "%s", record->connector);
    e->list = list;
    e->bytes = record->list.size;
    e->seen_at = record->seen_at;
    e->fetched_at = record->fetched_at;
    e->due_at = e->fetched_at + spread(control, refresh_s(e));
    crl->bytes += e->bytes;
    return true;
}

#define FETCHES(result, label)                                                                     \
    {                                                                                              \
        "ringpost_crl_fetches_total", "result=\"" label "\"",                                      \
            "Lists of revoked certificates that were asked for", METRIC_COUNTER, 0,                \
            offsetof(struct control_crl, fetched) + (result) * sizeof(uint64_t)                    \
    }
#define LISTS(field, label)                                                                        \
    {                                                                                              \
        "ringpost_crl_lists", "state=\"" label "\"",                                               \
            "Lists of revoked certificates that partners' certificates point to", METRIC_GAUGE, 0, \
            offsetof(struct control_crl, field)                                                    \
    }

static_assert((int)CRL_FETCH_RESULTS == 10); /* a row for each */
static const struct metric crl_metrics_table[] = {
    LISTS(lists_good, "good"),
    LISTS(lists_old, "old"),
    LISTS(lists_missing, "missing"),
    { "ringpost_crl_entries", NULL, "Revoked certificates on them", METRIC_GAUGE, 0,
      offsetof(struct control_crl, entries_count) },
    { "ringpost_crl_bytes", NULL, "Their size", METRIC_GAUGE, 0,
      offsetof(struct control_crl, bytes_now) },
    FETCHES(FETCH_DONE, "done"),
    FETCHES(FETCH_DNS, "dns"),
    FETCHES(FETCH_CONNECT, "connect"),
    FETCHES(FETCH_TLS, "tls"),
    FETCHES(FETCH_CERTIFICATE, "certificate"),
    FETCHES(FETCH_HTTP, "http"),
    FETCHES(FETCH_TOO_LARGE, "too_large"),
    FETCHES(FETCH_TIMEOUT, "timeout"),
    FETCHES(FETCH_LOCAL, "local"),
    FETCHES(RESULT_UNUSABLE, "unusable"),
    { "ringpost_crl_dropped_total", NULL, "Lists that nobody asked for any more, or that made room",
      METRIC_COUNTER, 0, offsetof(struct control_crl, dropped) },
    { "ringpost_crl_full_total", NULL, "Lists that there was no room for", METRIC_COUNTER, 0,
      offsetof(struct control_crl, full) },
    { "ringpost_crl_damaged_total", NULL, "Files of lists that were of no use at start",
      METRIC_COUNTER, 0, offsetof(struct control_crl, damaged) },
    { "ringpost_crl_disk_errors_total", NULL, "Writes of lists that failed", METRIC_COUNTER, 0,
      offsetof(struct control_crl, errors) },
};

static void tell_damaged(struct control *control, unsigned damaged)
{
    struct log_line line;
    metric_set(&control->crl.damaged, damaged);
    if (damaged == 0)
        return;
    log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us, "crl_damaged");
    log_string(&line, "directory", control->crl.path);
    log_number(&line, "removed", damaged);
    log_end(&line);
}

int control_crl_start(struct control *control)
{
    struct control_crl *crl = &control->crl;
    unsigned damaged = 0;
    list_init(&crl->entries);
    timer_init(&crl->timer, on_timer);
    crl->tokens = TOKENS_MAX;
    crl_store_path(control->config, crl->path);
    int r = crl_store_open(crl->path);
    if (r == 0)
        r = crl_store_read(crl->path, on_record, control, &damaged);
    if (r < 0 && r != -ENOSPC && r != -EDQUOT) { /* a full disk keeps no mail from coming */
        fprintf(stderr, "ringpost: crl: directory: %s: %s\n", crl->path, strerror(-r));
        return r;
    }
    tell_damaged(control, damaged);
    if (!make_set(control))
        return -ENOMEM;
    shard_handle(&control->shard, HANDOFF_CRL_WANTED, on_wanted);
    for (unsigned i = 0; i < control->servers_count; i++) {
        tls_crl_watch_take(&control->servers[i].tls.crls, tls_crls_use(crl->set));
        server_shard_crls(&control->servers[i]);
    }
    count_states(control, now_s(control));
    crl->changed = true;
    metrics_add_source(&control->metrics, &crl->source, crl_metrics_table,
                       ARRAY_COUNT(crl_metrics_table), crl, -1);
    shard_timer_arm(&control->shard, &crl->timer, TICK_MS);
    return 0;
}

void control_crl_stop(struct control *control)
{
    struct control_crl *crl = &control->crl;
    timer_disarm(&control->shard.timers, &crl->timer);
    if (crl->changed)
        write_state(control);
    while (!list_empty(&crl->entries))
        entry_free(container_of(crl->entries.next, struct entry, node));
    tls_crls_drop(crl->set);
    crl->set = NULL;
}

/* ---- what operators see and say ---- */

static json_t *entry_json(const struct entry *e, int64_t now)
{
    char id[TLS_DIGEST_HEX_BYTES];
    const struct tls_crl *list = e->list;
    tls_text_hex(slice_of(e->pointer->id, TLS_DIGEST_BYTES), id, sizeof(id));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:s}",
                     "id", id, "url", e->pointer->url, "connector", e->pointer->connector, "state",
                     list == NULL      ? "missing"
                     : is_good(e, now) ? "good"
                                       : "old",
                     "issuer", list == NULL ? "" : tls_crl_issuer(list), "this_update",
                     (json_int_t)(list == NULL ? 0 : tls_crl_this_update(list)), "next_update",
                     (json_int_t)(list == NULL ? 0 : tls_crl_next_update(list)), "entries",
                     (json_int_t)(list == NULL ? 0 : tls_crl_count(list)), "bytes",
                     (json_int_t)e->bytes, "fetched", (json_int_t)e->fetched_at, "seen",
                     (json_int_t)e->seen_at, "due", (json_int_t)e->due_at, "fetching",
                     (int)(e->request.job != NULL), "failures", (json_int_t)e->failures, "error",
                     e->why);
}

json_t *control_crl_report(struct control *control)
{
    json_t *lists = json_array();
    list_each (node, &control->crl.entries)
        json_array_append_new(lists,
                              entry_json(container_of(node, struct entry, node), now_s(control)));
    return json_pack("{s:o}", "lists", lists);
}

int control_crl_fetch(struct control *control, const char *url,
                      char words[static CONTROL_WORDS_MAX])
{
    unsigned count = 0;
    list_each (node, &control->crl.entries) {
        struct entry *e = container_of(node, struct entry, node);
        if (url != NULL && strcmp(url, e->pointer->url) != 0)
            continue;
        e->due_at = now_s(control);
        count++;
    }
    if (count == 0) {
        snprintf(words, CONTROL_WORDS_MAX, "%s: no certificate pointed to it yet\n",
                 url == NULL ? "no list" : url);
        return -EINVAL;
    }
    snprintf(words, CONTROL_WORDS_MAX, "%u list%s fetched now\n", count,
             count == 1 ? " is" : "s are");
    return 0;
}
