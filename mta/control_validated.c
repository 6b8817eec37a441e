/*
 * control_validated.c - what `connector validate` found: kept, told, and asked about by a reload
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

enum { US_IN_S = 1'000'000 };

int control_validated_open(struct control *control, const struct config *config)
{
    struct control_validated *v = &control->validated;
    connector_validated_path(config, v->path);
    v->all = connector_validated_read(v->path);
    return v->all == NULL ? -ENOMEM : 0;
}

static void validated_write(struct metrics_writer *writer, struct metrics_text *text)
{
    static const char *const names[] = { "ringpost_connector_last_validation_timestamp",
                                         "ringpost_connector_validated" };
    static const char *const words[] = {
        "When `connector validate` was last run for it, seconds since the epoch",
        "1: the last validation was good, and the connector is still as it was then"
    };
    const struct control *control = container_of(writer, struct control, validated.writer);
    const struct outbound_set *set = &control->config->outbound;
    const json_t *all = control->validated.all;
    for (unsigned family = 0; family < ARRAY_COUNT(names); family++) {
        metrics_text_family(text, names[family], words[family], METRIC_GAUGE);
        for (unsigned i = 0; i < set->count; i++) {
            const struct outbound *c = &set->connectors[i];
            char labels[CONNECTOR_NAME_MAX + 16];
            int64_t at = connector_validated_at(all, c->route.name);
            if (at == 0)
                continue;
            snprintf(labels, sizeof(labels), "connector=\"%s\"", c->route.name);
            bool good = connector_validated_state(all, c) == VALIDATED_GOOD;
            metrics_text_number(text, names[family], labels, family == 0 ? (uint64_t)at : good);
        }
    }
}

void control_validated_start(struct control *control)
{
    control->validated.writer.write = validated_write;
    metrics_add_writer(&control->metrics, &control->validated.writer);
}

void control_validated_close(struct control *control)
{
    json_decref(control->validated.all);
    control->validated.all = NULL;
}

int control_validated_put(struct control *control, const struct validation *found,
                          char words[static CONTROL_WORDS_MAX])
{
    struct control_validated *v = &control->validated;
    const struct outbound *connector =
        outbound_named(&control->config->outbound, slice_of_string(found->name));
    if (connector == NULL) {
        snprintf(words, CONTROL_WORDS_MAX, "there is no outbound connector \"%.64s\" here\n",
                 found->name);
        return -EINVAL;
    }
    struct validation kept = *found;
    kept.at = control->shard.wall_us / US_IN_S;
    kept.generation = control->config->generation;
    json_t *next = json_deep_copy(v->all);
    int r = next == NULL ? -ENOMEM : connector_validated_set(next, &kept);
    if (r == 0)
        r = connector_validated_write(v->path, next);
    if (r < 0) {
        json_decref(next);
        snprintf(words, CONTROL_WORDS_MAX, "%s: %s\n", v->path, strerror(-r));
        return -EINVAL;
    }
    json_decref(v->all);
    v->all = next;
    struct log_line line;
    log_begin(&line, control->shard.log, found->good ? LOG_INFO : LOG_WARNING,
              control->shard.wall_us, "connector_validated");
    log_string(&line, "connector", found->name);
    log_bool(&line, "good", found->good);
    log_string(&line, "why", found->why);
    log_end(&line);
    snprintf(words, CONTROL_WORDS_MAX, "recorded: %s\n",
             connector_validated_name(connector_validated_state(v->all, connector)));
    return 0;
}

int control_validated_demand(const struct control *control, const struct config *next,
                             char words[static CONTROL_WORDS_MAX])
{
    size_t size = 0;
    words[0] = '\0';
    for (unsigned i = 0; i < next->outbound.count; i++) {
        const struct outbound *c = &next->outbound.connectors[i];
        enum validated state = connector_validated_state(control->validated.all, c);
        if (c->state != CONNECTOR_ENFORCE || state == VALIDATED_GOOD)
            continue;
        int more = snprintf(words + size, CONTROL_WORDS_MAX - size,
                            "outbound \"%s\": unvalidated (%s); run ringpost connector validate "
                            "%s\n",
                            c->route.name, connector_validated_name(state), c->route.name);
        size = MIN(size + (size_t)more, (size_t)CONTROL_WORDS_MAX - 1);
    }
    return size == 0 ? 0 : -EINVAL;
}
