/*
 * control_memory.c - how much memory the process has, once a second, and what follows
 *
 *   used <= limits { memory-max }   mail is taken
 *   used >  it                      SHORT: new connections hear 421 4.3.2, MAIL 452 4.3.1
 *   used <= it less RELIEF_PERCENT  mail is taken again
 *
 * Pools cannot grow beyond what was planned (memory_plan.c), and a full one refuses by itself; this
 * is for what is no pool, the TLS library's memory above all, which sessions take and give back.
 * Memory shared with other processes and files does not count.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/memory.h"
#include "mta/control.h"

enum { LOOK_MS = 1'000, STATM_BYTES = 128, RELIEF_PERCENT = 2, PERCENT = 100 };

static const struct metric memory_metrics[] = {
    { "ringpost_memory_used_bytes", NULL, "Memory of the process that is not shared", METRIC_GAUGE,
      0, offsetof(struct control_memory, used) },
    { "ringpost_memory_reserved_bytes", NULL,
      "What pools, caches and buffers can take at most; taken as they are used", METRIC_GAUGE, 0,
      offsetof(struct control_memory, reserved) },
    { "ringpost_memory_heap_bytes", "kind=\"allocated\"",
      "Of the allocator: what is held, and what is resident for that and to come", METRIC_GAUGE, 0,
      offsetof(struct control_memory, heap.allocated) },
    { "ringpost_memory_heap_bytes", "kind=\"resident\"",
      "Of the allocator: what is held, and what is resident for that and to come", METRIC_GAUGE, 0,
      offsetof(struct control_memory, heap.resident) },
    { "ringpost_memory_max_bytes", NULL, "limits { memory-max }; 0: none", METRIC_GAUGE, 0,
      offsetof(struct control_memory, max) },
    { "ringpost_memory_short", NULL, "1: over the maximum, no mail is taken", METRIC_GAUGE, 0,
      offsetof(struct control_memory, is_short) },
};

/* Resident pages less those of files and shared memory; 0: not known. */
static uint64_t memory_used(int statm)
{
    char text[STATM_BYTES];
    unsigned long long size, resident, shared;
    ssize_t n = statm < 0 ? -1 : pread(statm, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3 || shared > resident)
        return 0;
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void memory_tell(const struct control *control)
{
    const struct control_memory *m = &control->memory;
    const struct shard *shard = &control->shard;
    struct log_line line;
    log_begin(&line, shard->log, m->is_short ? LOG_ERROR : LOG_INFO, shard->wall_us, "memory");
    log_bool(&line, "short", m->is_short);
    log_number(&line, "used", (int64_t)m->used);
    log_number(&line, "max", (int64_t)m->max);
    log_end(&line);
}

static void memory_look(struct control *control)
{
    struct control_memory *m = &control->memory;
    metric_set(&m->used, memory_used(m->statm));
    metric_set(&m->reserved, memory_reserved());
    m->heap = heap_look(); /* read by this thread alone */
    const uint64_t most = m->is_short ? m->max - m->max / PERCENT * RELIEF_PERCENT : m->max;
    const bool is_short = m->max != 0 && m->used > most;
    if (is_short != (m->is_short != 0)) {
        metric_set(&m->is_short, is_short);
        memory_tell(control);
    }
    shard_timer_arm(&control->shard, &m->timer, LOOK_MS);
}

static void memory_on_timer(struct timer *timer)
{
    memory_look(container_of(timer, struct control, memory.timer));
}

void control_memory_start(struct control *control)
{
    struct control_memory *m = &control->memory;
    m->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    m->max = control->config->limits.memory_max_bytes;
    timer_init(&m->timer, memory_on_timer);
    metrics_add_source(&control->metrics, &m->source, memory_metrics, ARRAY_COUNT(memory_metrics),
                       m, -1);
    for (unsigned i = 0; i < control->servers_count; i++)
        control->servers[i].service.memory_short = &m->is_short;
    memory_look(control);
}

void control_memory_stop(struct control *control)
{
    struct control_memory *m = &control->memory;
    shard_timer_disarm(&control->shard, &m->timer);
    if (m->statm >= 0)
        close(m->statm);
}
