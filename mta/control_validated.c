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
