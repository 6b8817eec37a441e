/*
 * control_connector_marks.c - blocking a connector, and letting it work again
 *
 *   block   --durable--> the mark's bit --> the next MAIL is refused; due mail waits
 *   unblock --durable--> no bit --------> shards are told, for mail that waits needs a push
 *
 * The bit goes by the slot of the name, so it holds in all generations at once. A mark whose
 * connector is not in the file any more is kept: when it comes back it is blocked as it was.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

enum { UNTOLD_MS = 20, US_IN_S = 1'000'000 };
static_assert(SHARDS_MAX <= 64);

static const char *const adjectives[] = {
    [CONNECTOR_IN] = "inbound", [CONNECTOR_OUT] = "outbound"
};

/* ---- bits ---- */

static void bit_set(struct control *control, enum connector_direction direction, const char *name,
                    bool blocked)
{
    struct control_connectors *c = &control->connectors;
    uint32_t slot = connector_slots_find(&c->slots[direction], name);
    if (slot == 0)
        return;
    if (!blocked) /* it begins with a clean slate, or the next answer would block it again */
        __atomic_store_n(&c->now[direction][slot].abuse_us, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->now[direction][slot].blocked, blocked, __ATOMIC_RELEASE);
}

static void tell_untold(struct control *control)
{
    struct control_connectors *c = &control->connectors;
    for (unsigned i = 0; i < control->servers_count; i++)
        if ((c->untold & (uint64_t)1 << i) != 0 &&
            shard_handoff(&control->shard, i, (struct handoff) { .kind = HANDOFF_UNBLOCKED }) == 0)
            c->untold &= ~((uint64_t)1 << i);
    if (c->untold != 0)
        shard_timer_arm(&control->shard, &c->untold_timer, UNTOLD_MS);
}

static void on_untold(struct timer *timer)
{
    tell_untold(container_of(timer, struct control, connectors.untold_timer));
}

/* ---- life ---- */

int control_marks_open(struct control *control, const struct config *config)
{
    char path[CONNECTOR_MARKS_PATH_MAX];
    char why[CONNECTOR_MARKS_WHY_MAX];
    snprintf(path, sizeof(path), "%s/connector-marks.json", config->spool.directory);
    timer_init(&control->connectors.untold_timer, on_untold);
    int r = connector_marks_read(&control->connectors.marks, path, why);
    if (r < 0)
        fprintf(stderr,
                "ringpost: %s: %s; it says which connectors are blocked: mend it, or remove it and "
                "block them again (ringpost connector block)\n",
                path, why);
    return r;
}

void control_marks_close(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->connectors.untold_timer);
    connector_marks_free(&control->connectors.marks);
}

static void log_mark(const struct control *control, const char *event, enum log_level level,
                     const struct connector_mark *mark, const char *by)
{
    struct log_line line;
    log_begin(&line, control->shard.log, level, control->shard.wall_us, event);
    log_string(&line, "connector", mark->name);
    log_string(&line, "dir", connector_direction_name(mark->direction));
    log_string(&line, "by", by);
    log_string(&line, "reason", mark->reason);
    log_end(&line);
}

void control_marks_apply(struct control *control, const struct config *config)
{
    const struct connector_marks *marks = &control->connectors.marks;
    for (unsigned i = 0; i < marks->count; i++) {
        const struct connector_mark *mark = &marks->marks[i];
        bit_set(control, mark->direction, mark->name, true);
        if (!control_connectors_has(config, mark->direction, mark->name))
            log_mark(control, "connector_mark_unused", LOG_WARNING, mark, mark->by);
    }
}

/* ---- the operator's word ---- */

/* Which one of that name is meant, of those that is_one says yes to. False: words. */
static bool find_direction(struct control *control, const struct control_order *order,
                           bool (*is_one)(const struct control *, enum connector_direction,
                                          const char *),
                           const char *what, enum connector_direction *direction,
                           char words[static CONTROL_ORDER_WORDS])
{
    unsigned found = 0;
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++) {
        if (order->direction != NULL &&
            strcmp(order->direction, connector_direction_name((enum connector_direction)d)) != 0)
            continue;
        if (!is_one(control, (enum connector_direction)d, order->name))
            continue;
        *direction = (enum connector_direction)d;
        found++;
    }
    if (found == 0)
        snprintf(words, CONTROL_ORDER_WORDS, "%.64s: no such %sconnector%s\n", order->name,
                 order->direction == NULL               ? ""
                 : strcmp(order->direction, "in") == 0  ? "inbound "
                 : strcmp(order->direction, "out") == 0 ? "outbound "
                                                        : "(--direction is in, or out) ",
                 what);
    if (found > 1)
        snprintf(words, CONTROL_ORDER_WORDS,
                 "%.64s: there is an inbound and an outbound one; say --direction in, or out\n",
                 order->name);
    return found == 1;
}

static bool is_configured(const struct control *control, enum connector_direction direction,
                          const char *name)
{
    return control_connectors_has(control->config, direction, name);
}

static bool is_marked(const struct control *control, enum connector_direction direction,
                      const char *name)
{
    return connector_marks_find(&control->connectors.marks, direction, name) != NULL;
}

static enum connector_state state_of(const struct config *config,
                                     enum connector_direction direction, const char *name)
{
    const struct slice title = slice_of_string(name);
    return direction == CONNECTOR_IN ? inbound_named(config->inbound, title)->state
                                     : outbound_named(&config->outbound, title)->state;
}

static bool reason_fits(const char *reason, char words[static CONTROL_ORDER_WORDS])
{
    json_t *text = reason == NULL ? NULL : json_string(reason);
    bool fits = text != NULL && *reason != '\0' && strlen(reason) < CONNECTOR_REASON_MAX;
    json_decref(text);
    if (!fits)
        snprintf(words, CONTROL_ORDER_WORDS, "a reason is needed, of at most %d octets of UTF-8\n",
                 CONNECTOR_REASON_MAX - 1);
    return fits;
}

static int mark_set(struct control *control, const struct connector_mark *mark,
                    char words[static CONTROL_ORDER_WORDS])
{
    int r = connector_marks_set(&control->connectors.marks, mark);
    if (r < 0) {
        snprintf(words, CONTROL_ORDER_WORDS, "%.64s: not blocked, the mark cannot be written: %s\n",
                 mark->name, strerror(-r));
        return -EINVAL;
    }
    bit_set(control, mark->direction, mark->name, true);
    log_mark(control, "connector_blocked", LOG_WARNING, mark, mark->by);
    bool enforced = state_of(control->config, mark->direction, mark->name) == CONNECTOR_ENFORCE;
    snprintf(words, CONTROL_ORDER_WORDS, "%s connector %s is blocked: %s%s\n",
             adjectives[mark->direction], mark->name,
             mark->direction == CONNECTOR_IN ? "its mail is refused from the next MAIL on"
                                             : "its mail waits",
             enforced ? "" : "; it is not enforced now, so this begins when it is");
    return 0;
}

int control_connectors_block(struct control *control, const struct control_order *order,
                             char words[static CONTROL_ORDER_WORDS])
{
    struct connector_mark mark = { .at = control->shard.wall_us / US_IN_S };
    if (!reason_fits(order->reason, words) ||
        !find_direction(control, order, is_configured, "", &mark.direction, words))
        return -EINVAL;
    snprintf(mark.name, sizeof(mark.name), "%s", order->name);
    snprintf(mark.reason, sizeof(mark.reason), "%s", order->reason);
    snprintf(mark.by, sizeof(mark.by), "%s", order->by);
    return mark_set(control, &mark, words);
}

int control_connectors_unblock(struct control *control, const struct control_order *order,
                               char words[static CONTROL_ORDER_WORDS])
{
    struct control_connectors *c = &control->connectors;
    enum connector_direction direction;
    if (!find_direction(control, order, is_marked, " is blocked", &direction, words))
        return -EINVAL;
    const struct connector_mark mark = *connector_marks_find(&c->marks, direction, order->name);
    int r = connector_marks_clear(&c->marks, direction, order->name);
    if (r < 0) {
        snprintf(words, CONTROL_ORDER_WORDS,
                 "%.64s: still blocked, the file cannot be written: %s\n", mark.name, strerror(-r));
        return -EINVAL;
    }
    bit_set(control, direction, mark.name, false);
    log_mark(control, "connector_unblocked", LOG_WARNING, &mark, order->by);
    if (direction == CONNECTOR_OUT) {
        c->untold =
            control->servers_count == 64 ? UINT64_MAX : ((uint64_t)1 << control->servers_count) - 1;
        tell_untold(control);
    }
    snprintf(words, CONTROL_ORDER_WORDS, "%s connector %s works again\n", adjectives[direction],
             mark.name);
    return 0;
}

/* ---- abuse-limit ---- */

/* Several shards may have found it out at the same time. */
static void on_abuse(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct control_connectors *c = &control->connectors;
    const uint32_t slot = (uint32_t)handoff->number;
    struct connector_mark mark = { .direction = CONNECTOR_IN, .at = shard->wall_us / US_IN_S };
    char words[CONTROL_ORDER_WORDS];
    snprintf(mark.name, sizeof(mark.name), "%s", c->slots[CONNECTOR_IN].names[slot]);
    const struct inbound *from =
        inbound_named(control->config->inbound, slice_of_string(mark.name));
    if (from == NULL || from->abuse_max == 0 || c->now[CONNECTOR_IN][slot].blocked != 0)
        return;
    snprintf(mark.by, sizeof(mark.by), "abuse-limit");
    snprintf(mark.reason, sizeof(mark.reason),
             "more than %u answers 5yz within an hour to mail that came by it", from->abuse_max);
    if (mark_set(control, &mark, words) < 0)
        log_mark(control, "connector_not_blocked", LOG_ERROR, &mark, mark.by);
}

void control_marks_start(struct control *control)
{
    shard_handle(&control->shard, HANDOFF_ABUSE, on_abuse);
}
