/*
 * tls_hosts.c - one small value for each host, the last used ones
 *
 *   host: absent --put--> known --lifetime without a put, forget, evicted--> absent
 *   step: put, believed --step_until_ms--> 0
 *
 * Bounds: count. One thread.
 */
#include "tls/tls_hosts.h"

#include <errno.h>

#include "core/check.h"

struct host_entry {
    struct tls_lru_entry lru;
    struct tls_host host;
};

static struct host_entry *entry_of(struct tls_lru_entry *entry)
{
    return entry == NULL ? NULL : container_of(entry, struct host_entry, lru);
}

int tls_hosts_init(struct tls_hosts *hosts, uint32_t count, uint64_t lifetime_ms)
{
    *hosts = (struct tls_hosts) { .lifetime_ms = lifetime_ms };
    list_init(&hosts->lru.used);
    if (lifetime_ms == 0)
        return -EINVAL;
    return tls_lru_init(&hosts->lru, "tls hosts", sizeof(struct host_entry), count);
}

void tls_hosts_free(struct tls_hosts *hosts)
{
    tls_lru_free(&hosts->lru);
}

static void entry_drop(struct tls_hosts *hosts, struct host_entry *entry)
{
    tls_lru_remove(&hosts->lru, &entry->lru);
    metric_sub(&hosts->numbers.hosts, 1);
}

/* Known, and not for too long; else NULL, and forgotten. */
static struct host_entry *entry_find(struct tls_hosts *hosts, const struct tls_lru_key *key,
                                     uint64_t now_ms)
{
    struct host_entry *entry = entry_of(tls_lru_find(&hosts->lru, key));
    if (entry == NULL || now_ms - MIN(now_ms, entry->host.seen_ms) < hosts->lifetime_ms)
        return entry;
    entry_drop(hosts, entry);
    metric_add(&hosts->numbers.expired, 1);
    return NULL;
}

bool tls_hosts_get(struct tls_hosts *hosts, const struct tls_lru_key *key, uint64_t now_ms,
                   struct tls_host *host)
{
    const struct host_entry *entry = entry_find(hosts, key, now_ms);
    metric_add(entry != NULL ? &hosts->numbers.hits : &hosts->numbers.misses, 1);
    *host = entry != NULL ? entry->host : (struct tls_host) { 0 };
    if (now_ms >= host->step_until_ms) {
        host->step = 0;
        host->refuses_less = false;
    }
    return entry != NULL;
}

static struct host_entry *entry_add(struct tls_hosts *hosts, const struct tls_lru_key *key)
{
    struct host_entry *oldest = entry_of(tls_lru_oldest_when_full(&hosts->lru));
    if (oldest != NULL) {
        entry_drop(hosts, oldest);
        metric_add(&hosts->numbers.evicted, 1);
    }
    struct host_entry *entry = entry_of(tls_lru_add(&hosts->lru, key));
    entry->host = (struct tls_host) { 0 };
    metric_add(&hosts->numbers.hosts, 1);
    return entry;
}

void tls_hosts_put(struct tls_hosts *hosts, const struct tls_lru_key *key, uint64_t now_ms,
                   const struct tls_host *host)
{
    CHECK(host->step < TLS_HOSTS_STEPS_MAX);
    struct host_entry *entry = entry_find(hosts, key, now_ms);
    if (entry == NULL)
        entry = entry_add(hosts, key);
    uint16_t version_best = MAX(entry->host.version_best, host->version_best);
    entry->host = *host;
    entry->host.version_best = version_best;
    entry->host.seen_ms = now_ms;
}

void tls_hosts_forget(struct tls_hosts *hosts, const struct tls_lru_key *key)
{
    struct host_entry *entry = entry_of(tls_lru_find(&hosts->lru, key));
    if (entry != NULL)
        entry_drop(hosts, entry);
}

/* ---- numbers ---- */

#define HOSTS_NUMBER(field, name, label, words, type)                                              \
    {                                                                                              \
        "ringpost_tls_" name, label, words, type, 0, offsetof(struct tls_hosts_numbers, field)     \
    }

/* clang-format off */
const struct metric tls_hosts_metrics_table[] = {
    HOSTS_NUMBER(hits, "hosts_lookups_total", "result=\"hit\"", "Hosts looked up in the memory of handshakes", METRIC_COUNTER),
    HOSTS_NUMBER(misses, "hosts_lookups_total", "result=\"miss\"", "Hosts looked up in the memory of handshakes", METRIC_COUNTER),
    HOSTS_NUMBER(expired, "hosts_expired_total", NULL, "Hosts that were not seen for too long", METRIC_COUNTER),
    HOSTS_NUMBER(evicted, "hosts_evicted_total", NULL, "Hosts that made room for another", METRIC_COUNTER),
    HOSTS_NUMBER(hosts, "hosts", NULL, "Hosts whose last handshake is remembered", METRIC_GAUGE),
};
/* clang-format on */
const unsigned tls_hosts_metrics_count = ARRAY_COUNT(tls_hosts_metrics_table);
