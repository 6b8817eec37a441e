/*
 * control_clock.c - steps of the wall clock: told, counted, and remembered over restarts
 *
 *   start: the file's times and the clock --clock_resume--> what all shards call steady time
 *   a step was seen | KEEP_MS | stop --> the file
 *
 * Each shard sees steps for itself (core/shard.h), control tells of them once. A kill loses what
 * happened since the file was written last: a step in these minutes counts as time that has passed.
 * A file that cannot be read or written is told, and keeps nobody from starting.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "mta/control.h"

enum { KEEP_MS = 600'000, US_IN_S = 1'000'000 };

static void begin_line(const struct control *control, struct log_line *line, const char *event)
{
    log_begin(line, control->shard.log, LOG_WARNING, control->shard.wall_us, event);
}

static void keep(struct control *control)
{
    struct control_clock *c = &control->clock;
    const struct clock_kept now = { control->shard.wall_us, control->shard.steady_us };
    int r = clock_kept_write(c->path, &now);
    if (r < 0 && !c->told) {
        struct log_line line;
        begin_line(control, &line, "clock_unkept");
        log_string(&line, "file", c->path);
        log_string(&line, "why", strerror(-r));
        log_end(&line);
    }
    c->told = r < 0;
}

static void on_keep(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, clock.timer);
    keep(control);
    shard_timer_arm(&control->shard, timer, KEEP_MS);
}

static int64_t ahead_us(const struct control *control)
{
    return control->shard.wall_us - control->shard.steady_us;
}

/* At the end of each step of the loop. */
static void on_step(struct hook *hook)
{
    struct control *control = container_of(hook, struct control, clock.hook);
    struct control_clock *c = &control->clock;
    const struct shard_clock *clock = &control->shard.clock;
    const uint64_t steps = metric_get(&clock->steps);
    if (steps == c->steps)
        return;
    struct log_line line;
    begin_line(control, &line, "clock_step");
    log_number(&line, "step_s", clock->step_us / US_IN_S);
    log_number(&line, "ahead_s", ahead_us(control) / US_IN_S);
    log_end(&line);
    metric_set(&c->steps, steps);
    metric_set(&c->ahead_s, (uint64_t)(ahead_us(control) / US_IN_S));
    keep(control);
}

void control_clock_open(struct control *control, const struct config *config)
{
    struct control_clock *c = &control->clock;
    int64_t steady_us = control->shard.wall_us;
    snprintf(c->path, sizeof(c->path), "%s/" CLOCK_FILE, config->spool.directory);
    c->read = clock_kept_read(c->path, &c->kept);
    if (c->read == 0)
        c->verdict = clock_resume(&c->kept, control->shard.wall_us, &steady_us);
    const int64_t ahead = control->shard.wall_us - steady_us;
    shard_clock_begin(&control->shard, ahead);
    for (unsigned i = 0; i < control->servers_count; i++)
        shard_clock_begin(&control->servers[i].shard, ahead);
}

static const struct metric clock_metrics[] = {
    { "ringpost_clock_steps_total", NULL,
      "Times that the wall clock was set anew, by more than a second, while the server ran",
      METRIC_COUNTER, 0, offsetof(struct control_clock, steps) },
    { "ringpost_clock_ahead_seconds", NULL,
      "What steps of the wall clock add up to, ages of mail do not have them", METRIC_GAUGE, 0,
      offsetof(struct control_clock, ahead_s) },
};

void control_clock_start(struct control *control)
{
    struct control_clock *c = &control->clock;
    struct log_line line;
    if (c->read == -EBADMSG) {
        begin_line(control, &line, "clock_unkept");
        log_string(&line, "file", c->path);
        log_string(&line, "why", "it is not what was written: ages are taken from the clock");
        log_end(&line);
    } else if (c->verdict != CLOCK_FITS) {
        begin_line(control, &line,
                   c->verdict == CLOCK_IS_AHEAD ? "clock_is_ahead" : "clock_is_behind");
        log_number(&line, "of_last_run_s", (control->shard.wall_us - c->kept.wall_us) / US_IN_S);
        log_number(&line, "ahead_s", ahead_us(control) / US_IN_S);
        log_end(&line);
    }
    metric_set(&c->ahead_s, (uint64_t)(ahead_us(control) / US_IN_S));
    metrics_add_source(&control->metrics, &c->source, clock_metrics, ARRAY_COUNT(clock_metrics), c,
                       -1);
    shard_hook(&control->shard, &c->hook, on_step);
    timer_init(&c->timer, on_keep);
    on_keep(&c->timer);
}

void control_clock_stop(struct control *control)
{
    if (control->clock.timer.fired == NULL)
        return;
    timer_disarm(&control->shard.timers, &control->clock.timer);
    keep(control);
}
