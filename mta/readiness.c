/*
 * readiness.c - sets of eight by a keyed hash, changed under a sequence number
 *
 * Every word of an entry is read and written atomically, relaxed: what is torn between two words is
 * told by the sequence, which is odd while a set is changed.
 */
#define XXH_INLINE_ALL
#include "mta/readiness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "core/check.h"

enum { V4_BITS = 96 + 24, V6_BITS = 64, ENTRY_WORDS = sizeof(struct readiness_entry) / 8 };
static_assert(sizeof(struct readiness_entry) % sizeof(uint64_t) == 0);

int readiness_init(struct readiness *readiness, uint64_t seed)
{
    void *memory = mmap(NULL, sizeof(*readiness->sets) * READINESS_SETS, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *readiness = (struct readiness) { .seed = seed };
    if (memory == MAP_FAILED)
        return -ENOMEM;
    readiness->sets = memory;
    return 0;
}

void readiness_free(struct readiness *readiness)
{
    if (readiness->sets != NULL)
        munmap(readiness->sets, sizeof(*readiness->sets) * READINESS_SETS);
    readiness->sets = NULL;
}

static void copy(void *to, const void *from)
{
    uint64_t *out = to;
    const uint64_t *in = from;
    for (unsigned i = 0; i < ENTRY_WORDS; i++)
        __atomic_store_n(&out[i], __atomic_load_n(&in[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

/* Of those that say whose it is, not of the counts. */
static int order_of(const struct readiness_entry *a, const struct readiness_entry *b)
{
    size_t begin = offsetof(struct readiness_entry, connector);
    return memcmp((const uint8_t *)a + begin, (const uint8_t *)b + begin, sizeof(*a) - begin);
}

static uint64_t name_hash(const char *connector)
{
    return XXH3_64bits(connector, strlen(connector));
}

void readiness_add(struct readiness *readiness, const char *connector,
                   const struct net_address *peer, struct slice domain, enum connector_token token)
{
    if (readiness->sets == NULL)
        return;
    struct readiness_entry entry;
    memset(&entry, 0, sizeof(entry)); /* it is hashed and compared as octets */
    entry.count = 1;
    entry.connector = name_hash(connector);
    entry.token = token;
    entry.bits = net_is_v4(peer) ? V4_BITS : V6_BITS;
    const struct net_address network = net_masked(peer, entry.bits);
    memcpy(entry.network, network.octets, sizeof(entry.network));
    slice_to_string(slice_part(domain, 0, READINESS_DOMAIN_MAX - 1), entry.domain,
                    sizeof(entry.domain));
    size_t begin = offsetof(struct readiness_entry, connector);
    uint64_t hash = XXH3_64bits_withSeed((const uint8_t *)&entry + begin, sizeof(entry) - begin,
                                         readiness->seed);
    struct readiness_set *set = &readiness->sets[hash % READINESS_SETS];
    struct readiness_entry *least = &set->ways[0];
    for (unsigned i = 0; i < READINESS_WAYS; i++) {
        struct readiness_entry *way = &set->ways[i];
        if (way->count > 0 && order_of(way, &entry) == 0) {
            __atomic_store_n(&way->count, way->count + 1, __ATOMIC_RELAXED);
            return;
        }
        if (way->count < least->count)
            least = way;
    }
    entry.over = least->count;
    entry.count = least->count + 1;
    __atomic_store_n(&set->sequence, set->sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    copy(least, &entry);
    __atomic_store_n(&set->sequence, set->sequence + 1, __ATOMIC_RELEASE);
}

unsigned readiness_gather(const struct readiness *readiness, const char *connector,
                          struct readiness_entry *out)
{
    const uint64_t wanted = name_hash(connector);
    unsigned count = 0;
    for (unsigned i = 0; readiness->sets != NULL && i < READINESS_SETS; i++) {
        const struct readiness_set *set = &readiness->sets[i];
        uint64_t sequence;
        unsigned found;
        do {
            sequence = __atomic_load_n(&set->sequence, __ATOMIC_ACQUIRE);
            found = 0;
            for (unsigned k = 0; sequence > 0 && k < READINESS_WAYS; k++) {
                copy(&out[count + found], &set->ways[k]);
                found += out[count + found].count > 0 && out[count + found].connector == wanted;
            }
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
        } while (sequence % 2 != 0 ||
                 sequence != __atomic_load_n(&set->sequence, __ATOMIC_RELAXED));
        count += found;
    }
    return count;
}

static int by_key(const void *left, const void *right)
{
    return order_of(left, right);
}

static int by_count(const void *left, const void *right)
{
    const struct readiness_entry *a = left;
    const struct readiness_entry *b = right;
    return a->count == b->count ? order_of(a, b) : a->count < b->count ? 1 : -1;
}

unsigned readiness_merge(struct readiness_entry *entries, unsigned count)
{
    unsigned kept = 0;
    if (count == 0)
        return 0;
    qsort(entries, count, sizeof(*entries), by_key);
    for (unsigned i = 1; i < count; i++) {
        if (order_of(&entries[kept], &entries[i]) != 0) {
            entries[++kept] = entries[i];
            continue;
        }
        entries[kept].count += entries[i].count;
        entries[kept].over += entries[i].over;
    }
    kept++;
    qsort(entries, kept, sizeof(*entries), by_count);
    return kept;
}
