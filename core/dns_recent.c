/*
 * dns_recent.c - one place for each hash of name and type
 */
#include "core/dns_recent.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/check.h"

static_assert((DNS_RECENT_MAX & (DNS_RECENT_MAX - 1)) == 0);

static size_t place_of(const char *name, enum dns_type type)
{
    return XXH3_64bits_withSeed(name, strlen(name), (uint64_t)type) & (DNS_RECENT_MAX - 1);
}

static size_t octets_of(enum dns_type type)
{
    return type == DNS_A ? 4 : type == DNS_AAAA ? 16 : 0;
}

void dns_recent_put(struct dns_recent *recent, const char *name, enum dns_type type,
                    const struct dns_answer *answer, uint64_t now_ms)
{
    const size_t octets = octets_of(type);
    if (octets == 0 || (answer->status != DNS_OK && answer->status != DNS_NODATA) || answer->cut ||
        answer->count > DNS_RECENT_RECORDS || answer->ttl_s == 0)
        return;
    struct dns_recent_entry *e = &recent->entries[place_of(name, type)];
    const uint64_t ttl_ms = (uint64_t)answer->ttl_s * 1'000;
    *e = (struct dns_recent_entry) {
        .until_ms = now_ms + MIN(ttl_ms, (uint64_t)DNS_RECENT_MS),
        .expires_ms = now_ms + ttl_ms,
        .type = type,
        .status = answer->status,
        .secure = answer->secure,
        .cnames = answer->cnames,
        .count = answer->count,
    };
    for (unsigned i = 0; i < answer->count; i++) {
        CHECK(answer->records[i].size == octets);
        memcpy(e->octets[i], answer->records[i].data, octets);
    }
    snprintf(e->name, sizeof(e->name), "%s", name);
    snprintf(e->canonical, sizeof(e->canonical), "%s", answer->canonical);
}

bool dns_recent_get(const struct dns_recent *recent, const char *name, enum dns_type type,
                    uint64_t now_ms, struct dns_record records[static DNS_RECENT_RECORDS],
                    struct dns_answer *answer)
{
    const size_t octets = octets_of(type);
    const struct dns_recent_entry *e = &recent->entries[place_of(name, type)];
    if (octets == 0 || e->type != type || now_ms >= e->until_ms || strcmp(e->name, name) != 0)
        return false;
    for (unsigned i = 0; i < e->count; i++)
        records[i] = (struct dns_record) { .size = (uint16_t)octets, .data = e->octets[i] };
    *answer = (struct dns_answer) {
        .status = e->status,
        .secure = e->secure,
        .ttl_s = (uint32_t)((e->expires_ms - now_ms) / 1'000),
        .cnames = e->cnames,
        .count = e->count,
        .records = records,
        .canonical = e->canonical,
    };
    return true;
}
