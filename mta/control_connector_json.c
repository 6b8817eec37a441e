/*
 * control_connector_json.c - connectors as JSON: a line of each, or all that is known of one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "mta/control.h"

enum { PAGE = 500, READINESS_ROWS = 50 };

static const char *const types[] = { [CONNECTOR_PARTNER] = "partner", [CONNECTOR_OWN] = "own" };
static const char *const states[] = {
    [CONNECTOR_OFF] = "off", [CONNECTOR_TEST] = "test", [CONNECTOR_ENFORCE] = "enforce"
};

/* ---- what both directions have ---- */

static json_t *mark_json(const struct connector_mark *mark)
{
    if (mark == NULL)
        return json_null();
    return json_pack("{s:s, s:s, s:I}", "reason", mark->reason, "by", mark->by, "at",
                     (json_int_t)mark->at);
}

static void number(json_t *object, const char *key, uint64_t value)
{
    if (value != 0)
        json_object_set_new(object, key, json_integer((json_int_t)value));
}

static uint64_t total(const struct connector_traffic *t, enum connector_result result)
{
    uint64_t sum = 0;
    for (unsigned tls = 0; tls < CONNECTOR_TLS_KINDS; tls++)
        sum += t->messages[tls][0][result] + t->messages[tls][1][result];
    return sum;
}

static json_t *messages_json(enum connector_direction direction, const struct connector_traffic *t)
{
    json_t *list = json_array();
    for (unsigned tls = 0; tls < CONNECTOR_TLS_KINDS; tls++)
        for (unsigned forced = 0; forced < 2; forced++)
            for (unsigned result = 0; result < CONNECTOR_RESULTS; result++)
                if (t->messages[tls][forced][result] != 0)
                    json_array_append_new(
                        list,
                        json_pack("{s:s, s:b, s:s, s:I}", "tls", connector_tls_name(tls), "forced",
                                  (int)forced, "result", connector_result_name(direction, result),
                                  "count", (json_int_t)t->messages[tls][forced][result]));
    return list;
}

static json_t *entry_of(struct control *control, enum connector_direction direction,
                        const char *name, enum connector_type type, enum connector_state state,
                        const struct connector_traffic *t)
{
    const struct connector_mark *mark =
        connector_marks_find(&control->connectors.marks, direction, name);
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", name, "direction",
                              connector_direction_name(direction), "type", types[type], "state",
                              states[state], "blocked", mark_json(mark));
    json_t *sums = json_object();
    for (unsigned result = 0; result < CONNECTOR_RESULTS; result++)
        json_object_set_new(sums, connector_result_name(direction, result),
                            json_integer((json_int_t)total(t, result)));
    json_object_set_new(entry, "totals", sums);
    json_object_set_new(entry, "bytes", json_integer((json_int_t)t->bytes));
    return entry;
}

static void details(json_t *entry, enum connector_direction direction, uint32_t line, uint32_t cost,
                    const char *label, const struct connector_traffic *t)
{
    json_object_set_new(entry, "line", json_integer(line));
    json_object_set_new(entry, "cost", json_integer(cost));
    json_object_set_new(entry, "label", json_string(label));
    json_object_set_new(entry, "messages", messages_json(direction, t));
    json_object_set_new(entry, "hybrid",
                        json_integer((json_int_t)t->hybrid[0] + (json_int_t)t->hybrid[1]));
    json_object_set_new(entry, "hybrid_handshakes", json_integer((json_int_t)t->hybrid_handshakes));
}

/* ---- inbound ---- */

static json_t *tokens_json(const uint64_t numbers[static TOKENS])
{
    json_t *object = json_object();
    for (unsigned token = TOKEN_NONE + 1; token < TOKENS; token++)
        number(object, connector_token_name(token), numbers[token]);
    return object;
}

static json_t *inbound_json(struct control *control, unsigned index, bool all)
{
    const struct config *config = control->config;
    const struct inbound *c = inbound_at(config->inbound, index);
    struct connector_in_row row;
    control_connectors_in(control, config->inbound_slots[index], &row);
    json_t *entry = entry_of(control, CONNECTOR_IN, c->name, c->type, c->state, &row.traffic);
    if (!all)
        return entry;
    details(entry, CONNECTOR_IN, c->line, c->cost, c->label, &row.traffic);
    json_t *would = tokens_json(row.would);
    number(would, "accept", row.would[TOKEN_NONE]);
    json_object_set_new(entry, "refusals", tokens_json(row.refused));
    json_object_set_new(entry, "would", would);
    json_object_set_new(entry, "identified",
                        json_pack("{s:I, s:I}", "cert", (json_int_t)row.by_certificate, "address",
                                  (json_int_t)row.by_address));
    return entry;
}

/* ---- outbound ---- */

static json_t *outbound_json(struct control *control, unsigned index, bool all)
{
    const struct config *config = control->config;
    const struct outbound *c = &config->outbound.connectors[index];
    struct connector_out_row row;
    control_connectors_out(control, config->outbound_slots[index], &row);
    json_t *entry =
        entry_of(control, CONNECTOR_OUT, c->route.name, c->type, c->state, &row.traffic);
    const json_t *validated = control->validated.all;
    json_object_set_new(
        entry, "validation",
        json_string(connector_validated_name(connector_validated_state(validated, c))));
    if (!all)
        return entry;
    json_object_set_new(entry, "validated_at",
                        json_integer(connector_validated_at(validated, c->route.name)));
    details(entry, CONNECTOR_OUT, c->route.line, c->cost, c->label, &row.traffic);
    json_t *failures = json_object();
    for (unsigned token = FAULT_NONE + 1; token < OUTBOUND_TOKENS; token++)
        number(failures, outbound_token_name(token), row.failures[token]);
    json_t *clear = json_object();
    for (unsigned why = 0; why < CONNECTOR_CLEARS; why++)
        number(clear, connector_clear_name(why), row.clear[why]);
    json_t *regressions = json_object();
    for (unsigned action = FLOOR_OFF + 1; action < FLOOR_ACTIONS; action++)
        number(regressions, floor_action_names[action], row.regressions[action]);
    json_object_set_new(entry, "tls_failures", failures);
    json_object_set_new(entry, "cleartext", clear);
    json_object_set_new(entry, "memory_regressions", regressions);
    return entry;
}

/* ---- marks of connectors that are gone ---- */

static void gone_json(struct control *control, const char *name, json_t *list)
{
    const struct connector_marks *marks = &control->connectors.marks;
    for (unsigned i = 0; i < marks->count; i++) {
        const struct connector_mark *m = &marks->marks[i];
        if ((name != NULL && strcmp(m->name, name) != 0) ||
            control_connectors_has(control->config, m->direction, m->name))
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "name", m->name, "direction",
                                              connector_direction_name(m->direction), "state",
                                              "gone", "blocked", mark_json(m)));
    }
}

/* ---- pages ---- */

json_t *control_connectors_list(struct control *control, enum connector_direction direction,
                                unsigned from)
{
    const struct config *config = control->config;
    const unsigned counts[] = {
        [CONNECTOR_IN] = inbound_count(config->inbound), [CONNECTOR_OUT] = config->outbound.count
    };
    json_t *list = json_array();
    for (; direction < CONNECTOR_DIRECTIONS; direction++, from = 0)
        for (unsigned at = from; at < counts[direction]; at++) {
            if (json_array_size(list) == PAGE)
                return json_pack("{s:o, s:{s:s, s:i}}", "connectors", list, "next", "direction",
                                 connector_direction_name(direction), "from", (int)at);
            json_array_append_new(list, direction == CONNECTOR_IN
                                            ? inbound_json(control, at, false)
                                            : outbound_json(control, at, false));
        }
    gone_json(control, NULL, list);
    return json_pack("{s:o}", "connectors", list);
}

json_t *control_connectors_show(struct control *control, const char *name)
{
    const struct config *config = control->config;
    const struct slice title = slice_of_string(name);
    const struct inbound *in = inbound_named(config->inbound, title);
    const struct outbound *out = outbound_named(&config->outbound, title);
    json_t *list = json_array();
    if (in != NULL)
        json_array_append_new(list,
                              inbound_json(control, inbound_index(config->inbound, in), true));
    if (out != NULL)
        json_array_append_new(list, outbound_json(control, out->route.index, true));
    gone_json(control, name, list);
    return json_pack("{s:o}", "connectors", list);
}

/* ---- readiness ---- */

static json_t *row_json(const struct readiness_entry *entry)
{
    struct net_address network = { .port = 0 };
    char text[NET_TEXT_MAX];
    char with_bits[NET_TEXT_MAX + 8];
    memcpy(network.octets, entry->network, sizeof(network.octets));
    net_text(&network, false, text);
    snprintf(with_bits, sizeof(with_bits), "%s/%u", text,
             net_is_v4(&network) ? entry->bits - 96 : entry->bits);
    return json_pack("{s:s, s:s, s:s, s:I, s:I}", "network", with_bits, "domain", entry->domain,
                     "token", connector_token_name((enum connector_token)entry->token), "count",
                     (json_int_t)entry->count, "over", (json_int_t)entry->over);
}

static json_t *rows_json(const struct control *control, const char *name)
{
    json_t *rows = json_array();
    const size_t room = (size_t)READINESS_SETS * READINESS_WAYS;
    struct readiness_entry *entries = calloc(room * control->servers_count, sizeof(*entries));
    unsigned count = 0;
    for (unsigned i = 0; entries != NULL && i < control->servers_count; i++)
        count += readiness_gather(&control->servers[i].connectors.readiness, name, entries + count);
    if (entries != NULL)
        count = readiness_merge(entries, count);
    for (unsigned i = 0; i < MIN(count, (unsigned)READINESS_ROWS); i++)
        json_array_append_new(rows, row_json(&entries[i]));
    free(entries);
    return rows;
}

json_t *control_connectors_readiness(struct control *control, const char *name)
{
    const struct config *config = control->config;
    const struct inbound *c = inbound_named(config->inbound, slice_of_string(name));
    const struct outbound *out = outbound_named(&config->outbound, slice_of_string(name));
    struct connector_in_row row;
    if (c == NULL)
        return out == NULL ? NULL : control_probes_readiness(control, out);
    control_connectors_in(control, config->inbound_slots[inbound_index(config->inbound, c)], &row);
    uint64_t refused = 0;
    for (unsigned token = TOKEN_NONE + 1; token < TOKENS; token++)
        refused += row.would[token];
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "connector", name, "state", states[c->state],
                     "accept", (json_int_t)row.would[TOKEN_NONE], "refuse", (json_int_t)refused,
                     "rows", rows_json(control, name));
}
