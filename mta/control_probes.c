/*
 * control_probes.c - outbound connectors in test: their hosts are met, and what came of it is kept
 *
 *   every LOOK_MS: a connector in test that is due --HANDOFF_PROBE--> shard 0
 *     <--HANDOFF_PROBED-- rows --> all[connector].hosts: good or not, and since when
 *
 * Ready: all hosts have been good for READY_S. That outlives restarts by a file beside the spool; a
 * host that was not met for GAP_S begins anew. A connector that was changed does, too. Bounds:
 * CONTROL_PROBES under way; PROBE_ROWS_MAX hosts of a connector; a connector is due PROBE_HOST_MS
 * after it was, and some seconds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"
#include "mta/outbound_probe.h"

enum {
    LOOK_MS = 5'000,
    JITTER_MS = 60'000,
    READY_S = 86'400,
    GAP_S = 4 * 3'600,
    WRITE_S = 600,
    US_IN_S = 1'000'000,
    DIGEST_TEXT = 17,
    KEY_BYTES = PROBE_HOST_TEXT + 8,
};

static int64_t now_s(const struct control *control)
{
    return control->shard.wall_us / US_IN_S;
}

static int64_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static bool is_good(const json_t *host)
{
    return json_is_true(json_object_get(host, "good"));
}

static void digest_text(uint64_t digest, char out[static DIGEST_TEXT])
{
    snprintf(out, DIGEST_TEXT, "%016llx", (unsigned long long)digest);
}

/* What is known of it as it is now; NULL: nothing. */
static json_t *entry_of(const struct control *control, const struct outbound *connector)
{
    char digest[DIGEST_TEXT];
    json_t *entry = json_object_get(control->probes.all, connector->route.name);
    const char *text = json_string_value(json_object_get(entry, "digest"));
    digest_text(connector->digest, digest);
    return text != NULL && strcmp(text, digest) == 0 ? entry : NULL;
}

/* ---- keeping ---- */

/* Those that are not in test any more are forgotten. */
static void keep_file(struct control *control, bool now)
{
    struct control_probes *p = &control->probes;
    const char *name;
    json_t *entry;
    void *next;
    if (!p->changed || (!now && now_s(control) - p->written_s < WRITE_S))
        return;
    json_object_foreach_safe(p->all, next, name, entry)
    {
        const struct outbound *c =
            outbound_named(&control->config->outbound, slice_of_string(name));
        if (c == NULL || c->state != CONNECTOR_TEST)
            json_object_del(p->all, name);
    }
    p->written_s = now_s(control);
    p->changed = false;
    int r = connector_validated_write(p->path, p->all);
    if (r == 0)
        return;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "probes_unkept");
    log_string(&line, "file", p->path);
    log_string(&line, "why", strerror(-r));
    log_end(&line);
}

static void tell(struct control *control, const char *connector, const struct probe_row *row)
{
    struct log_line line;
    log_begin(&line, control->shard.log, row->good ? LOG_INFO : LOG_WARNING, control->shard.wall_us,
              "connector_probe");
    log_string(&line, "connector", connector);
    log_string(&line, "host", row->host);
    log_string(&line, "address", row->address);
    log_bool(&line, "good", row->good);
    log_string(&line, "tls", row->version);
    log_string(&line, "group", row->group);
    log_string(&line, "why", row->why);
    log_end(&line);
}

/* What is known of a host after this row; a reference. */
static json_t *host_after(struct control *control, const char *connector, json_t *before,
                          const struct probe_row *row)
{
    const int64_t now = now_s(control);
    if (!row->met)
        return before != NULL ? json_incref(before)
                              : json_pack("{s:s, s:i, s:b, s:s}", "host", row->host, "port",
                                          (int)row->port, "good", 0, "why", "not met yet");
    const bool goes_on = before != NULL && number_of(before, "at") != 0 &&
                         is_good(before) == row->good && now - number_of(before, "at") < GAP_S;
    metric_add(row->good ? &control->probes.good : &control->probes.bad, 1);
    if (!goes_on)
        tell(control, connector, row);
    control->probes.written_s = goes_on ? control->probes.written_s : 0;
    json_t *why = json_string(row->why);
    return json_pack("{s:s, s:i, s:s, s:b, s:o, s:s, s:s, s:I, s:I}", "host", row->host, "port",
                     (int)row->port, "address", row->address, "good", row->good, "why",
                     why == NULL ? json_string("") : why, "version", row->version, "group",
                     row->group, "at", (json_int_t)now, "since",
                     (json_int_t)(goes_on ? number_of(before, "since") : now));
}

static void take_rows(struct control *control, const struct outbound *connector,
                      const struct outbound_probe *probe)
{
    const char *name = connector->route.name;
    const json_t *entry = entry_of(control, connector);
    const json_t *before = json_object_get(entry, "hosts");
    /* What was not reached this time stays as it was. */
    json_t *hosts = probe->whole || before == NULL ? json_object() : json_copy((json_t *)before);
    json_t *seen = json_object(); /* in this probe: a host of two domains is met once */
    char digest[DIGEST_TEXT];
    for (unsigned i = 0; i < probe->rows_count; i++) {
        const struct probe_row *row = &probe->rows[i];
        char key[KEY_BYTES];
        snprintf(key, sizeof(key), "%s:%u", row->host, row->port);
        if (json_object_get(seen, key) != NULL)
            continue;
        json_object_set_new(seen, key, json_true());
        json_object_set_new(hosts, key,
                            host_after(control, name, json_object_get(before, key), row));
    }
    json_decref(seen);
    digest_text(connector->digest, digest);
    json_object_set_new(control->probes.all, name,
                        json_pack("{s:s, s:o}", "digest", digest, "hosts", hosts));
    control->probes.changed = true;
}

/* ---- probing ---- */

static void on_probed(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct control_probes *p = &control->probes;
    const struct outbound_probe *probe = handoff->pointer;
    const struct outbound *connector =
        outbound_named(&control->config->outbound, slice_of_string(probe->name));
    if (connector != NULL && connector->state == CONNECTOR_TEST && probe->digest != 0 &&
        probe->digest == connector->digest)
        take_rows(control, connector, probe);
    p->busy[probe - p->probes] = false;
    keep_file(control, false);
}

static bool begin(struct control *control, const struct outbound *connector, uint64_t *due_ms)
{
    struct control_probes *p = &control->probes;
    unsigned i = 0;
    while (i < CONTROL_PROBES && p->busy[i])
        i++;
    if (i == CONTROL_PROBES)
        return false;
    struct outbound_probe *probe = &p->probes[i];
    snprintf(probe->name, sizeof(probe->name), "%s", connector->route.name);
    probe->recent = p->recent;
    list_init(&probe->node);
    const struct handoff handoff = { .kind = HANDOFF_PROBE, .pointer = probe };
    if (shard_handoff(&control->shard, 0, handoff) < 0)
        return false;
    p->busy[i] = true;
    *due_ms =
        control->shard.now_ms + PROBE_HOST_MS + random_below(&control->shard.random, JITTER_MS);
    return true;
}

/* From where the last look ended: with many of them each has its turn. */
static void look(struct control *control)
{
    struct control_probes *p = &control->probes;
    const struct outbound_set *set = &control->config->outbound;
    for (unsigned i = 0; i < set->count; i++) {
        const unsigned index = (p->next + i) % set->count;
        const struct outbound *connector = &set->connectors[index];
        uint64_t *due_ms = &p->due_ms[control->config->outbound_slots[index]];
        if (connector->state != CONNECTOR_TEST || *due_ms > control->shard.now_ms)
            continue;
        if (!begin(control, connector, due_ms)) {
            p->next = index;
            return;
        }
    }
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, probes.timer);
    if (!control->stopping)
        look(control);
    shard_timer_arm(&control->shard, timer, LOOK_MS);
}

/* ---- what is told of it ---- */

static int by_key(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Ready; else *left_s: all are good, and will have been for a day in so many; or 0. */
static bool is_ready(const struct control *control, const json_t *hosts, int64_t *left_s)
{
    const int64_t now = now_s(control);
    const char *key;
    json_t *host;
    *left_s = 0;
    if (json_object_size(hosts) == 0)
        return false;
    json_object_foreach((json_t *)hosts, key, host)
    {
        if (!is_good(host) || now - number_of(host, "at") >= GAP_S) {
            *left_s = 0;
            return false;
        }
        *left_s = MAX(*left_s, number_of(host, "since") + READY_S - now);
    }
    *left_s = MAX(*left_s, (int64_t)0);
    return *left_s == 0;
}

static json_t *hosts_json(const struct control *control, const json_t *hosts)
{
    const char *keys[PROBE_ROWS_MAX * 2], *key;
    unsigned count = 0;
    json_t *list = json_array(), *host;
    json_object_foreach((json_t *)hosts, key, host)
    {
        if (count < ARRAY_COUNT(keys))
            keys[count++] = key;
    }
    qsort(keys, count, sizeof(*keys), by_key);
    for (unsigned i = 0; i < count; i++) {
        json_t *copy = json_copy(json_object_get(hosts, keys[i]));
        const int64_t since = number_of(copy, "since");
        json_object_set_new(copy, "for_s", json_integer(since == 0 ? 0 : now_s(control) - since));
        json_array_append_new(list, copy);
    }
    return list;
}

json_t *control_probes_readiness(const struct control *control, const struct outbound *connector)
{
    static const char *const states[] = {
        [CONNECTOR_OFF] = "off", [CONNECTOR_TEST] = "test", [CONNECTOR_ENFORCE] = "enforce"
    };
    const json_t *hosts = json_object_get(entry_of(control, connector), "hosts");
    int64_t left_s = 0;
    const bool test = connector->state == CONNECTOR_TEST;
    const bool ready = test && is_ready(control, hosts, &left_s);
    return json_pack("{s:s, s:s, s:s, s:b, s:I, s:o}", "connector", connector->route.name,
                     "direction", "out", "state", states[connector->state], "ready", ready,
                     "left_s", (json_int_t)left_s, "hosts",
                     test ? hosts_json(control, hosts) : json_array());
}

static const struct metric metrics_table[] = {
    { "ringpost_connector_probes_total", "result=\"good\"",
      "Hosts of outbound connectors in test that were met", METRIC_COUNTER, 0,
      offsetof(struct control_probes, good) },
    { "ringpost_connector_probes_total", "result=\"bad\"",
      "Hosts of outbound connectors in test that were met", METRIC_COUNTER, 0,
      offsetof(struct control_probes, bad) },
};

static void ready_write(struct metrics_writer *writer, struct metrics_text *text)
{
    static const char name[] = "ringpost_connector_ready";
    const struct control *control = container_of(writer, struct control, probes.writer);
    const struct outbound_set *set = &control->config->outbound;
    metrics_text_family(text, name,
                        "1: an outbound connector in test whose hosts have all been good for a day",
                        METRIC_GAUGE);
    for (unsigned i = 0; i < set->count; i++) {
        const struct outbound *c = &set->connectors[i];
        char labels[CONNECTOR_NAME_MAX + 16];
        int64_t left_s;
        if (c->state != CONNECTOR_TEST)
            continue;
        const json_t *hosts = json_object_get(entry_of(control, c), "hosts");
        snprintf(labels, sizeof(labels), "connector=\"%s\"", c->route.name);
        metrics_text_number(text, name, labels, is_ready(control, hosts, &left_s));
    }
}

/* ---- life ---- */

int control_probes_start(struct control *control)
{
    struct control_probes *p = &control->probes;
    snprintf(p->path, sizeof(p->path), "%s/probes.json", control->config->spool.directory);
    p->all = connector_validated_read(p->path);
    p->probes = calloc(CONTROL_PROBES, sizeof(*p->probes));
    p->recent = calloc(1, sizeof(*p->recent));
    p->due_ms = calloc(CONNECTOR_SLOTS_MAX, sizeof(*p->due_ms));
    if (p->all == NULL || p->probes == NULL || p->recent == NULL || p->due_ms == NULL)
        return -ENOMEM;
    shard_handle(&control->shard, HANDOFF_PROBED, on_probed);
    metrics_add_source(&control->metrics, &p->source, metrics_table, ARRAY_COUNT(metrics_table), p,
                       -1);
    p->writer.write = ready_write;
    metrics_add_writer(&control->metrics, &p->writer);
    timer_init(&p->timer, on_timer);
    shard_timer_arm(&control->shard, &p->timer, LOOK_MS);
    return 0;
}

void control_probes_stop(struct control *control)
{
    struct control_probes *p = &control->probes;
    shard_timer_disarm(&control->shard, &p->timer);
    keep_file(control, true);
    json_decref(p->all);
    free(p->probes);
    free(p->recent);
    free(p->due_ms);
    *p = (struct control_probes) { .all = NULL };
}
