/*
 * id_cache_hammer.c - puts sessions that can be told to be whole, from all sides at once
 *
 * A session is words that all follow from its id and the first word, a version. Any mix of two
 * sessions, of two ids, or of a size and another one's bytes shows.
 */
#include "tests/tls/id_cache_hammer.h"

#include <pthread.h>
#include <string.h>

#include "core/check.h"
#include "core/random.h"
#include "tls/tls_id_cache_inside.h"

enum { SLOTS = 16, IDS = 64, NOW_MS = 1000, LIFETIME_S = 60, WORDS_MAX = SESSION_WORDS };

struct hammer {
    pthread_t thread;
    struct tls_id_cache *cache;
    struct random random;
    unsigned rounds;
    uint64_t broken;
    struct tls_id_cache_numbers numbers;
};

/* A simple mix: another word for another id, version or place. */
static uint64_t word_of(uint64_t id, uint64_t version, uint64_t place)
{
    return (id * 1'000'003 + version) * 0x9e3779b97f4a7c15 + place;
}

static unsigned words_of(uint64_t version)
{
    return 2 + (unsigned)(version % (WORDS_MAX - 1));
}

static struct slice id_make(uint64_t number, uint64_t id[ID_WORDS])
{
    for (unsigned i = 0; i < ID_WORDS; i++)
        id[i] = word_of(number, 0, i);
    return slice_of(id, ID_BYTES_MAX);
}

static void put(struct hammer *hammer, uint64_t number, struct slice id)
{
    uint64_t words[WORDS_MAX];
    uint64_t version = random_next(&hammer->random);
    unsigned count = words_of(version);
    words[0] = version;
    for (unsigned i = 1; i < count; i++)
        words[i] = word_of(number, version, i);
    id_cache_put(hammer->cache, id, slice_of(words, count * sizeof(words[0])), NOW_MS,
                 &hammer->numbers);
}

static bool is_whole(uint64_t number, const uint64_t *words, size_t size)
{
    unsigned count = words_of(words[0]);
    if (size != count * sizeof(words[0]))
        return false;
    for (unsigned i = 1; i < count; i++)
        if (words[i] != word_of(number, words[0], i))
            return false;
    return true;
}

static void get(struct hammer *hammer, uint64_t number, struct slice id)
{
    uint64_t words[WORDS_MAX];
    size_t size = id_cache_get(hammer->cache, id, NOW_MS, (uint8_t *)words, &hammer->numbers);
    if (size > 0 && !is_whole(number, words, size))
        hammer->broken++;
}

static void *hammer_run(void *argument)
{
    struct hammer *hammer = argument;
    for (unsigned round = 0; round < hammer->rounds; round++) {
        uint64_t id[ID_WORDS];
        uint64_t number = random_below(&hammer->random, IDS);
        struct slice name = id_make(number, id);
        uint64_t what = random_below(&hammer->random, 1000);
        if (what < 300)
            put(hammer, number, name);
        else if (what < 980)
            get(hammer, number, name);
        else if (what < 999)
            id_cache_remove(hammer->cache, name, &hammer->numbers);
        else
            tls_id_cache_forget(hammer->cache);
    }
    return NULL;
}

static void numbers_add(struct tls_id_cache_numbers *sum, const struct tls_id_cache_numbers *one)
{
    sum->stored += one->stored;
    sum->hits += one->hits;
    sum->misses += one->misses;
    sum->evicted += one->evicted;
    sum->expired += one->expired;
    sum->busy += one->busy;
}

uint64_t id_cache_hammer(unsigned threads, unsigned rounds, struct tls_id_cache_numbers *numbers)
{
    static struct hammer hammers[HAMMER_THREADS_MAX];
    struct tls_id_cache *cache;
    uint64_t broken = 0;
    CHECK(threads <= HAMMER_THREADS_MAX);
    CHECK(tls_id_cache_make(SLOTS, LIFETIME_S, &cache) == 0);
    for (unsigned i = 0; i < threads; i++) {
        hammers[i] = (struct hammer) { .cache = cache, .rounds = rounds };
        random_seed(&hammers[i].random, i + 1);
        CHECK(pthread_create(&hammers[i].thread, NULL, hammer_run, &hammers[i]) == 0);
    }
    *numbers = (struct tls_id_cache_numbers) { 0 };
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(hammers[i].thread, NULL);
        numbers_add(numbers, &hammers[i].numbers);
        broken += hammers[i].broken;
    }
    tls_id_cache_free(cache);
    return broken;
}
