/*
 * control_wire.c - one wire trace at a time: told to the shards, fetched, and taken away again
 *
 *   none --begin--> GOING --count is used up and all have ended, time is up, nobody asks, end-->
 *     ENDING --each shard has let go, all lines were fetched or nobody asks--> none
 *
 * A shard gets its watch by a handoff and gives it back by a word in it, which the timer looks at:
 * nothing waits for anybody. Bounds: wire.h's, for each shard.
 */
#include "mta/control_wire.h"

#include <stdio.h>

#include "mta/control.h"

enum { TICK_MS = 250, MS_IN_S = 1'000 };

static_assert(SHARDS_MAX <= 64, "a bit for each in behind");

/* ---- shards ---- */

/* To those that have not heard yet: watch, or stop watching. */
static void tell_shards(struct control *control)
{
    struct control_wire *w = &control->wire;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_WIRE,
                                         .number = w->ending,
                                         .pointer = w->watches[i] };
        if ((w->behind >> i & 1) != 0 && shard_handoff(&control->shard, i, handoff) == 0)
            w->behind &= ~(UINT64_C(1) << i);
    }
}

static bool all_released(const struct control *control)
{
    for (unsigned i = 0; i < control->servers_count; i++)
        if (!wire_watch_released(control->wire.watches[i]))
            return false;
    return control->wire.behind == 0;
}

static uint32_t sessions_open(const struct control *control)
{
    uint32_t open = 0;
    for (unsigned i = 0; i < control->servers_count; i++)
        open += wire_watch_open(control->wire.watches[i]);
    return open;
}

static void forget(struct control *control)
{
    struct control_wire *w = &control->wire;
    for (unsigned i = 0; i < control->servers_count; i++) {
        wire_watch_free(w->watches[i]);
        w->watches[i] = NULL;
    }
    w->going = w->ending = false;
}

static void begin_end(struct control *control)
{
    struct control_wire *w = &control->wire;
    if (w->ending)
        return;
    if (w->behind != 0) { /* a shard that has not begun does not have to stop: it begins first */
        tell_shards(control);
        if (w->behind != 0)
            return;
    }
    w->ending = true;
    w->behind = (UINT64_C(1) << control->servers_count) - 1;
    tell_shards(control);
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, wire.timer);
    struct control_wire *w = &control->wire;
    const uint64_t now_ms = control->shard.now_ms;
    const bool forgotten = now_ms > w->asked_ms + WIRE_PATIENCE_MS;
    if (!w->going)
        return;
    shard_timer_arm(&control->shard, timer, TICK_MS);
    tell_shards(control);
    const bool used_up = __atomic_load_n(&w->left, __ATOMIC_RELAXED) == 0;
    if (forgotten || now_ms >= w->until_ms || (used_up && sessions_open(control) == 0))
        begin_end(control);
    if (w->ending && forgotten && all_released(control))
        forget(control);
}

/* ---- for the admin ---- */

json_t *control_wire_begin(struct control *control, const struct wire_wish *wish, uint32_t count,
                           uint32_t seconds, const char **why)
{
    struct control_wire *w = &control->wire;
    *why = "another trace is under way; it ends by itself when nobody fetches its lines";
    if (w->going)
        return NULL;
    *why = "stopping";
    if (control->stopping)
        return NULL;
    *why = "no memory";
    w->left = count;
    w->going = true;
    for (unsigned i = 0; i < control->servers_count; i++) {
        w->watches[i] = wire_watch_new(wish, &w->left);
        if (w->watches[i] != NULL)
            continue;
        forget(control);
        return NULL;
    }
    w->number++;
    w->behind = (UINT64_C(1) << control->servers_count) - 1;
    w->asked_ms = control->shard.now_ms;
    w->until_ms = w->asked_ms + (uint64_t)seconds * MS_IN_S;
    tell_shards(control);
    shard_timer_arm(&control->shard, &w->timer, TICK_MS);
    return json_pack("{s:I}", "trace", (json_int_t)w->number);
}

bool control_wire_end(struct control *control, uint64_t number)
{
    struct control_wire *w = &control->wire;
    if (!w->going || number != w->number)
        return false;
    w->until_ms = control->shard.now_ms;
    begin_end(control);
    return true;
}

/* What is not UTF-8 octet by octet: nothing that was said is lost. */
static json_t *text_of(const uint8_t *text, size_t size)
{
    json_t *whole = json_stringn((const char *)text, size);
    if (whole != NULL)
        return whole;
    static char escaped[4 * WIRE_LINE_MAX + 1];
    size_t at = 0;
    for (size_t i = 0; i < size; i++)
        at += (size_t)snprintf(escaped + at, sizeof(escaped) - at,
                               text[i] < 0x80 && text[i] >= ' ' ? "%c" : "\\x%02x", text[i]);
    return json_stringn(escaped, at);
}

static json_t *line_of(const struct wire_line *line, const uint8_t *text)
{
    static const char *const kinds[] = {
        [WIRE_BEGIN] = "begin",   [WIRE_CLIENT] = "client",   [WIRE_SERVER] = "server",
        [WIRE_HEADER] = "header", [WIRE_CONTENT] = "content", [WIRE_TLS] = "tls",
        [WIRE_END] = "end",       [WIRE_LOST] = "lost",
    };
    json_t *object = json_pack("{s:I, s:I, s:s}", "t_us", (json_int_t)line->wall_us, "session",
                               (json_int_t)line->session, "what", kinds[line->kind]);
    if (line->kind == WIRE_CONTENT || line->kind == WIRE_END || line->kind == WIRE_LOST)
        json_object_set_new(object, "number", json_integer((json_int_t)line->number));
    else
        json_object_set_new(object, "text", text_of(text, line->size));
    if (line->cut)
        json_object_set_new(object, "cut", json_true());
    return object;
}

json_t *control_wire_page(struct control *control, uint64_t number)
{
    struct control_wire *w = &control->wire;
    if (!w->going || number != w->number)
        return NULL;
    w->asked_ms = control->shard.now_ms;
    const bool ended = w->ending && all_released(control);
    json_t *lines = json_array();
    uint64_t lost = 0;
    bool more = false;
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct wire_line line;
        const uint8_t *text;
        while (!more && wire_read(w->watches[i], &line, &text)) {
            json_array_append_new(lines, line_of(&line, text));
            more = json_array_size(lines) >= WIRE_PAGE;
        }
        lost += wire_watch_lost(w->watches[i]);
    }
    const bool over = ended && !more;
    json_t *page = json_pack("{s:o, s:I, s:b, s:b, s:I}", "lines", lines, "open",
                             (json_int_t)sessions_open(control), "more", more, "ended", over,
                             "lost", (json_int_t)lost);
    if (over)
        forget(control);
    return page;
}

/* ---- life ---- */

void control_wire_start(struct control *control)
{
    timer_init(&control->wire.timer, on_timer);
}

void control_wire_stop(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->wire.timer);
    if (control->wire.going)
        forget(control);
}
