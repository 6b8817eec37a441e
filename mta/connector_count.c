/*
 * connector_count.c - rows of numbers, reserved as address space
 */
#include "mta/connector_count.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/check.h"

static_assert(sizeof(struct connector_in_row) % sizeof(uint64_t) == 0);
static_assert(sizeof(struct connector_out_row) % sizeof(uint64_t) == 0);

static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* A huge page for one busy connector would be memory for a thousand idle ones. */
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

int connector_counts_init(struct connector_counts *counts, uint64_t seed)
{
    counts->in = reserve(sizeof(*counts->in) * CONNECTOR_SLOTS_MAX);
    counts->out = reserve(sizeof(*counts->out) * CONNECTOR_SLOTS_MAX);
    if (counts->in != NULL && counts->out != NULL && readiness_init(&counts->readiness, seed) == 0)
        return 0;
    connector_counts_free(counts);
    return -ENOMEM;
}

void connector_counts_free(struct connector_counts *counts)
{
    if (counts->in != NULL)
        munmap(counts->in, sizeof(*counts->in) * CONNECTOR_SLOTS_MAX);
    if (counts->out != NULL)
        munmap(counts->out, sizeof(*counts->out) * CONNECTOR_SLOTS_MAX);
    readiness_free(&counts->readiness);
    *counts = (struct connector_counts) { .in = NULL };
}

bool connector_take_one(uint64_t *full_us, uint64_t now_us, uint32_t many, uint64_t period_us)
{
    const uint64_t one_us = MAX(period_us / many, (uint64_t)1);
    uint64_t full = __atomic_load_n(full_us, __ATOMIC_RELAXED);
    for (;;) {
        const uint64_t next = MAX(full, now_us) + one_us;
        if (next > now_us + many * one_us)
            return false;
        if (__atomic_compare_exchange_n(full_us, &full, next, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return true;
    }
}

struct connector_now *connector_now_new(void)
{
    return reserve(sizeof(struct connector_now) * CONNECTOR_SLOTS_MAX);
}

void connector_now_free(struct connector_now *now)
{
    if (now != NULL)
        munmap(now, sizeof(*now) * CONNECTOR_SLOTS_MAX);
}

const char *connector_direction_name(enum connector_direction direction)
{
    static const char *const names[] = { [CONNECTOR_IN] = "in", [CONNECTOR_OUT] = "out" };
    static_assert(ARRAY_COUNT(names) == CONNECTOR_DIRECTIONS);
    CHECK(direction < CONNECTOR_DIRECTIONS);
    return names[direction];
}

const char *connector_result_name(enum connector_direction direction, enum connector_result result)
{
    static const char *const names[CONNECTOR_DIRECTIONS][CONNECTOR_RESULTS] = {
        [CONNECTOR_IN] = { [CONNECTOR_DONE] = "accept",
                           [CONNECTOR_DEFERRED] = "defer",
                           [CONNECTOR_REFUSED] = "reject" },
        [CONNECTOR_OUT] = { [CONNECTOR_DONE] = "delivered",
                            [CONNECTOR_DEFERRED] = "deferred",
                            [CONNECTOR_REFUSED] = "bounced" },
    };
    CHECK(direction < CONNECTOR_DIRECTIONS);
    CHECK(result < CONNECTOR_RESULTS);
    return names[direction][result];
}

const char *connector_clear_name(enum connector_clear clear)
{
    static const char *const names[] = { [CONNECTOR_CLEAR_WANTED] = "none",
                                         [CONNECTOR_CLEAR_NO_OFFER] = "no-offer",
                                         [CONNECTOR_CLEAR_HANDSHAKE] = "handshake-failed" };
    static_assert(ARRAY_COUNT(names) == CONNECTOR_CLEARS);
    CHECK(clear < CONNECTOR_CLEARS);
    return names[clear];
}

const char *connector_tls_name(enum connector_tls tls)
{
    static const char *const names[] = {
        [CONNECTOR_TLS_NONE] = "none", [CONNECTOR_TLS_12] = "1.2", [CONNECTOR_TLS_13] = "1.3"
    };
    static_assert(ARRAY_COUNT(names) == CONNECTOR_TLS_KINDS);
    CHECK(tls < CONNECTOR_TLS_KINDS);
    return names[tls];
}
