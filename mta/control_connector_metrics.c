/*
 * control_connector_metrics.c - connectors in /metrics: one series a number that is not 0
 *
 * Idle connectors have no series, and a busy one only those that happened: ten thousand connectors
 * cost a scrape what the busy ones of them do. Labels come from the configuration, never from
 * peers. Shards are added up.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/control.h"

enum { LABELS_BYTES = 256, STATE_BLOCKED = 3 };

struct view {
    struct control *control;
    struct metrics_text *text;
    const char *family;
    unsigned count[CONNECTOR_DIRECTIONS];
    uint32_t *slots[CONNECTOR_DIRECTIONS]; /* of the busy ones, and their sums */
    struct connector_in_row *in;
    struct connector_out_row *out;
};

static const char *const words_01[] = { "0", "1" };

static const char *name_of(const struct view *v, enum connector_direction direction, unsigned i)
{
    return v->control->connectors.slots[direction].names[v->slots[direction][i]];
}

static const struct connector_traffic *traffic_of(const struct view *v,
                                                  enum connector_direction direction, unsigned i)
{
    return direction == CONNECTOR_IN ? &v->in[i].traffic : &v->out[i].traffic;
}

/* ---- gathering ---- */

static bool is_busy(const struct control *control, enum connector_direction direction,
                    uint32_t slot)
{
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct connector_counts *counts = &control->servers[i].connectors;
        const struct connector_traffic *traffic =
            direction == CONNECTOR_IN ? &counts->in[slot].traffic : &counts->out[slot].traffic;
        if (metric_get(&traffic->events) != 0)
            return true;
    }
    return false;
}

static bool view_open(struct view *v)
{
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++) {
        const uint32_t slots = v->control->connectors.slots[d].count;
        v->slots[d] = calloc(slots, sizeof(*v->slots[d]));
        for (uint32_t slot = 0; v->slots[d] != NULL && slot < slots; slot++)
            if (is_busy(v->control, d, slot))
                v->slots[d][v->count[d]++] = slot;
    }
    v->in = calloc(v->count[CONNECTOR_IN] + 1, sizeof(*v->in));
    v->out = calloc(v->count[CONNECTOR_OUT] + 1, sizeof(*v->out));
    if (v->slots[CONNECTOR_IN] == NULL || v->slots[CONNECTOR_OUT] == NULL || v->in == NULL ||
        v->out == NULL)
        return false;
    for (unsigned i = 0; i < v->count[CONNECTOR_IN]; i++)
        control_connectors_in(v->control, v->slots[CONNECTOR_IN][i], &v->in[i]);
    for (unsigned i = 0; i < v->count[CONNECTOR_OUT]; i++)
        control_connectors_out(v->control, v->slots[CONNECTOR_OUT][i], &v->out[i]);
    return true;
}

static void view_close(struct view *v)
{
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
        free(v->slots[d]);
    free(v->in);
    free(v->out);
}

/* ---- writing ---- */

static void family(struct view *v, const char *name, const char *help, enum metric_type type)
{
    v->family = name;
    metrics_text_family(v->text, name, help, type);
}

static void number(struct view *v, uint64_t value, const char *format, ...) PRINTF_LIKE(3, 4);
static void number(struct view *v, uint64_t value, const char *format, ...)
{
    char labels[LABELS_BYTES];
    if (value == 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(labels, sizeof(labels), format, arguments);
    va_end(arguments);
    CHECK(size > 0 && (size_t)size < sizeof(labels));
    metrics_text_number(v->text, v->family, labels, value);
}

static void messages_of(struct view *v, enum connector_direction d, unsigned i)
{
    const struct connector_traffic *t = traffic_of(v, d, i);
    for (unsigned tls = 0; tls < CONNECTOR_TLS_KINDS; tls++)
        for (unsigned forced = 0; forced < 2; forced++)
            for (unsigned result = 0; result < CONNECTOR_RESULTS; result++)
                number(v, t->messages[tls][forced][result],
                       "dir=\"%s\",connector=\"%s\",tls=\"%s\",forced=\"%s\",result=\"%s\"",
                       connector_direction_name(d), name_of(v, d, i), connector_tls_name(tls),
                       words_01[forced], connector_result_name(d, result));
}

static void traffic(struct view *v)
{
    family(v, "ringpost_connector_messages_total",
           "Inbound: messages taken, and commands refused; outbound: attempts by what became of "
           "them. By connector and protection",
           METRIC_COUNTER);
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
        for (unsigned i = 0; i < v->count[d]; i++)
            messages_of(v, d, i);
    family(v, "ringpost_connector_bytes_total", "Bytes of messages taken, or delivered",
           METRIC_COUNTER);
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
        for (unsigned i = 0; i < v->count[d]; i++)
            number(v, traffic_of(v, d, i)->bytes, "dir=\"%s\",connector=\"%s\"",
                   connector_direction_name(d), name_of(v, d, i));
    family(v, "ringpost_connector_hybrid_handshakes_total",
           "Connections that carried mail, with a post-quantum hybrid key exchange",
           METRIC_COUNTER);
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
        for (unsigned i = 0; i < v->count[d]; i++)
            number(v, traffic_of(v, d, i)->hybrid_handshakes, "dir=\"%s\",connector=\"%s\"",
                   connector_direction_name(d), name_of(v, d, i));
}

static void inbound(struct view *v)
{
    family(v, "ringpost_connector_refusals_total",
           "Commands that inbound connectors refused (enforce), or would have refused (test)",
           METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_IN]; i++)
        for (unsigned token = TOKEN_NONE + 1; token < TOKENS; token++) {
            static const char format[] = "connector=\"%s\",token=\"%s\",state=\"%s\"";
            const char *name = name_of(v, CONNECTOR_IN, i);
            number(v, v->in[i].refused[token], format, name, connector_token_name(token),
                   "enforce");
            number(v, v->in[i].would[token], format, name, connector_token_name(token), "test");
        }
    family(v, "ringpost_connector_would_accept_total",
           "Recipients that a connector in test would have let pass, or granted something",
           METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_IN]; i++)
        number(v, v->in[i].would[TOKEN_NONE], "connector=\"%s\"", name_of(v, CONNECTOR_IN, i));
    family(v, "ringpost_connector_identified_total",
           "Messages whose sending host a connector knew, and by what", METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_IN]; i++) {
        const char *name = name_of(v, CONNECTOR_IN, i);
        number(v, v->in[i].by_certificate, "connector=\"%s\",how=\"cert\"", name);
        number(v, v->in[i].by_address, "connector=\"%s\",how=\"address\"", name);
    }
}

static void outbound(struct view *v)
{
    family(v, "ringpost_connector_tls_failures_total",
           "Connections that could not be protected as wanted", METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_OUT]; i++)
        for (unsigned token = FAULT_NONE + 1; token < OUTBOUND_TOKENS; token++)
            number(v, v->out[i].failures[token], "connector=\"%s\",token=\"%s\"",
                   name_of(v, CONNECTOR_OUT, i), outbound_token_name(token));
    family(v, "ringpost_connector_cleartext_total",
           "Connections that carried mail in clear, by why", METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_OUT]; i++)
        for (unsigned clear = 0; clear < CONNECTOR_CLEARS; clear++)
            number(v, v->out[i].clear[clear], "connector=\"%s\",reason=\"%s\"",
                   name_of(v, CONNECTOR_OUT, i), connector_clear_name(clear));
    family(v, "ringpost_connector_memory_regressions_total",
           "Connections that offered less than is remembered, by what followed", METRIC_COUNTER);
    for (unsigned i = 0; i < v->count[CONNECTOR_OUT]; i++)
        for (unsigned action = FLOOR_OFF + 1; action < FLOOR_ACTIONS; action++)
            number(v, v->out[i].regressions[action], "connector=\"%s\",action=\"%s\"",
                   name_of(v, CONNECTOR_OUT, i), floor_action_names[action]);
}

/* Of those that did something, and those that are blocked. */
static void queued(struct view *v)
{
    static const char format[] = "connector=\"%s\",forced=\"%s\"";
    const struct connector_slots *slots = &v->control->connectors.slots[CONNECTOR_OUT];
    struct control_waiting q;
    family(v, "ringpost_connector_queue_recipients",
           "Recipients that wait, by outbound connector, and whether it demands TLS; counted every "
           "10 seconds, large queues more seldom",
           METRIC_GAUGE);
    for (uint32_t slot = 0; slot < slots->count; slot++) {
        control_waiting_of(v->control, slot, &q);
        number(v, q.recipients, format, slots->names[slot], words_01[q.forced]);
    }
    family(v, "ringpost_connector_queue_oldest_seconds", "Age of the oldest of them", METRIC_GAUGE);
    for (uint32_t slot = 0; slot < slots->count; slot++) {
        control_waiting_of(v->control, slot, &q);
        number(v, q.oldest_s, format, slots->names[slot], words_01[q.forced]);
    }
}

static void states(struct view *v)
{
    const struct config *config = v->control->config;
    const struct connector_marks *marks = &v->control->connectors.marks;
    family(v, "ringpost_connector_state", "0 off, 1 test, 2 enforce, 3 blocked", METRIC_GAUGE);
    for (unsigned i = 0; i < marks->count; i++)
        number(v, STATE_BLOCKED, "dir=\"%s\",connector=\"%s\"",
               connector_direction_name(marks->marks[i].direction), marks->marks[i].name);
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
        for (unsigned i = 0; i < v->count[d]; i++) {
            const char *name = name_of(v, d, i);
            const struct slice title = slice_of_string(name);
            if (connector_is_blocked(&v->control->servers[0].connectors, d, v->slots[d][i]) ||
                !control_connectors_has(config, d, name))
                continue;
            number(v,
                   d == CONNECTOR_IN ? inbound_named(config->inbound, title)->state
                                     : outbound_named(&config->outbound, title)->state,
                   "dir=\"%s\",connector=\"%s\"", connector_direction_name(d), name);
        }
}

void control_connectors_write(struct metrics_writer *writer, struct metrics_text *text)
{
    struct view v = { .control = container_of(writer, struct control, connectors.writer),
                      .text = text };
    if (view_open(&v)) {
        traffic(&v);
        inbound(&v);
        outbound(&v);
        queued(&v);
        states(&v);
    }
    view_close(&v);
}
