/*
 * test_tls_keyshare.c - no key twice, none left behind, none in a child, and nobody waits
 */
#include "tls/tls_keyshare.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/metrics.h"
#include "tests/tls/handshake.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_keyshare_inside.h"

enum { AGE_MS = 60'000, SLOTS = 256, HANDSHAKES = 100 };
/* Criterion loses 48 bytes when one test goes on for ten seconds beside the others. */
enum { KEYS_A_THREAD = HANDSHAKE_ASAN ? 6'000 : 60'000 };

static struct tls_keyshares *pool;
static const struct tls_keyshare_numbers *numbers;

static void start(void)
{
    cr_assert_eq(tls_keyshares_make(SLOTS, AGE_MS, &pool), 0);
    numbers = tls_keyshares_numbers(pool);
    tls_keyshares_use(pool);
}

static void stop(void)
{
    tls_keyshares_free(pool);
}

TestSuite(tls_keyshare, .init = start, .fini = stop);

struct pair {
    uint8_t public_value[32];
    uint8_t private_key[32];
};

static struct pair draw(void)
{
    struct pair pair;
    X25519_keypair(pair.public_value, pair.private_key);
    return pair;
}

static void fill(uint64_t now_ms)
{
    while (tls_keyshares_fill(pool, 64, now_ms))
        ;
}

static bool is_pair(const struct pair *pair)
{
    uint8_t public_value[32];
    X25519_public_from_private(public_value, pair->private_key);
    return memcmp(public_value, pair->public_value, sizeof(public_value)) == 0;
}

Test(tls_keyshare, sizes_that_make_no_sense)
{
    struct tls_keyshares *other;
    cr_assert_eq(tls_keyshares_make(0, AGE_MS, &other), -EINVAL);
    cr_assert_eq(tls_keyshares_make(TLS_KEYSHARES_MAX + 1, AGE_MS, &other), -EINVAL);
    cr_assert_eq(tls_keyshares_make(1, 0, &other), -EINVAL);
}

Test(tls_keyshare, an_empty_pool_waits_for_nobody)
{
    struct pair one = draw();
    cr_assert(is_pair(&one));
    cr_assert_eq(numbers->misses, 1);
    cr_assert_eq(numbers->hits, 0);
}

Test(tls_keyshare, no_pool_at_all)
{
    fill(1);
    tls_keyshares_use(NULL);
    struct pair one = draw();
    cr_assert(is_pair(&one));
    cr_assert_eq(numbers->misses + numbers->hits, 0);
    cr_assert_eq(numbers->level, SLOTS);
}

Test(tls_keyshare, exhaustion)
{
    fill(1);
    for (unsigned i = 0; i < SLOTS + 10; i++) {
        struct pair pair = draw();
        cr_assert(is_pair(&pair));
    }
    cr_assert_eq(numbers->hits, SLOTS);
    cr_assert_eq(numbers->misses, 10);
    cr_assert_eq(numbers->level, 0);
}

Test(tls_keyshare, fills_in_small_lots_and_between_marks)
{
    cr_assert(tls_keyshares_fill(pool, 0, 1));
    cr_assert(tls_keyshares_fill(pool, 10, 1));
    cr_assert_eq(numbers->level, 10);
    fill(1);
    cr_assert_eq(numbers->level, SLOTS);
    cr_assert_eq(numbers->made, SLOTS);
    for (unsigned i = 0; i < SLOTS / 4 - 1; i++)
        draw();
    cr_assert_not(tls_keyshares_fill(pool, 10, 1), "three quarters are enough");
    cr_assert_eq(numbers->made, SLOTS);
    draw();
    cr_assert(tls_keyshares_fill(pool, 10, 1));
    cr_assert(tls_keyshares_fill(pool, 10, 1), "until it is full");
    fill(1);
    cr_assert_eq(numbers->level, SLOTS);
}

Test(tls_keyshare, a_pool_of_one)
{
    struct tls_keyshares *small;
    cr_assert_eq(tls_keyshares_make(1, AGE_MS, &small), 0);
    tls_keyshares_use(small);
    for (unsigned i = 0; i < 10; i++) {
        cr_assert_not(tls_keyshares_fill(small, 5, i));
        struct pair pair = draw();
        cr_assert(is_pair(&pair));
    }
    cr_assert_eq(tls_keyshares_numbers(small)->hits, 10);
    tls_keyshares_free(small);
    struct pair pair = draw();
    cr_assert(is_pair(&pair), "after its end, ordinary ones");
}

Test(tls_keyshare, oldest_first_and_too_old_ones_never)
{
    fill(1000);
    for (unsigned i = 0; i < SLOTS / 2; i++)
        draw();
    fill(1000 + AGE_MS);
    cr_assert_eq(numbers->expired, 0, "not older than");
    tls_keyshares_age(pool, 1001 + AGE_MS);
    cr_assert_eq(numbers->expired, SLOTS / 2);
    cr_assert_eq(numbers->level, SLOTS / 2);
    cr_assert(tls_keyshares_fill(pool, 1, 1001 + 2 * AGE_MS));
    cr_assert_eq(numbers->expired, SLOTS);
    cr_assert_eq(numbers->level, 1);
}

Test(tls_keyshare, a_clock_that_steps_back_wipes_nothing)
{
    fill(1'000'000);
    tls_keyshares_age(pool, 1);
    cr_assert_eq(numbers->level, SLOTS);
}

/* Whether these bytes are anywhere in the pool's memory. */
static bool in_memory(const uint8_t *bytes, size_t size)
{
    const struct tls_secret *secret = &pool->x25519.secret;
    return memmem(secret->data, secret->size, bytes, size) != NULL;
}

static size_t bytes_set(void)
{
    size_t set = 0;
    for (size_t i = 0; i < SLOTS * KEYSHARE_SLOT_BYTES; i++)
        set += pool->x25519.slots[i] != 0;
    return set;
}

Test(tls_keyshare, what_was_used_is_gone)
{
    fill(1);
    struct pair next;
    memcpy(&next, pool->x25519.slots, sizeof(next));
    cr_assert(in_memory(next.private_key, 32));
    struct pair pair = draw();
    cr_assert_arr_eq(pair.private_key, next.private_key, 32, "the oldest one first");
    cr_assert_not(in_memory(pair.private_key, 32));
    cr_assert_not(in_memory(pair.public_value, 32));
    for (unsigned i = 1; i < SLOTS; i++)
        draw();
    cr_assert_eq(bytes_set(), 0);
}

Test(tls_keyshare, what_was_too_old_is_gone)
{
    fill(1);
    cr_assert_gt(bytes_set(), 0);
    tls_keyshares_age(pool, 2 + AGE_MS);
    cr_assert_eq(bytes_set(), 0);
}

/* ---- two shards ---- */

struct drawer {
    pthread_t thread;
    struct pair *pairs;
};

static void *drawer_run(void *argument)
{
    struct drawer *drawer = argument;
    struct tls_keyshares *own;
    if (tls_keyshares_make(1000, AGE_MS, &own) < 0)
        return NULL;
    tls_keyshares_use(own);
    for (unsigned i = 0; i < KEYS_A_THREAD; i++) {
        if (i % 7 == 0) /* less than is taken: misses are in between */
            (void)tls_keyshares_fill(own, 6, i);
        drawer->pairs[i] = draw();
    }
    bool drew = tls_keyshares_numbers(own)->hits > KEYS_A_THREAD / 2 &&
                tls_keyshares_numbers(own)->misses > 0;
    tls_keyshares_free(own);
    return drew ? argument : NULL;
}

static int by_private_key(const void *a, const void *b)
{
    return memcmp(((const struct pair *)a)->private_key, ((const struct pair *)b)->private_key, 32);
}

Test(tls_keyshare, no_pair_twice, .timeout = 300)
{
    enum { ALL = 2 * KEYS_A_THREAD, LOOKED_AT = 2'000 };
    struct pair *pairs = calloc(ALL, sizeof(*pairs));
    struct drawer drawers[2];
    for (unsigned i = 0; i < 2; i++) {
        drawers[i].pairs = pairs + i * KEYS_A_THREAD;
        cr_assert_eq(pthread_create(&drawers[i].thread, NULL, drawer_run, &drawers[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        void *drew;
        pthread_join(drawers[i].thread, &drew);
        cr_assert_not_null(drew);
    }
    qsort(pairs, ALL, sizeof(*pairs), by_private_key);
    for (unsigned i = 1; i < ALL; i++)
        cr_assert_neq(by_private_key(&pairs[i - 1], &pairs[i]), 0);
    /* both ends come to the same secret */
    for (unsigned i = 0; i < LOOKED_AT; i++) {
        const struct pair *one = &pairs[(size_t)i * ALL / LOOKED_AT];
        const struct pair *other = &pairs[ALL - 1 - i];
        uint8_t secrets[2][32];
        cr_assert_eq(X25519(secrets[0], one->private_key, other->public_value), 1);
        cr_assert_eq(X25519(secrets[1], other->private_key, one->public_value), 1);
        cr_assert_arr_eq(secrets[0], secrets[1], 32);
    }
    free(pairs);
}

/* ---- fork ---- */

Test(tls_keyshare, a_child_has_none_of_them)
{
    int ends[2];
    struct pair theirs[2];
    fill(1);
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct pair own[2] = { draw() };
        bool empty = numbers->hits == 0 && numbers->misses == 1 && bytes_set() == 0;
        (void)tls_keyshares_fill(pool, 1, 1); /* it may have a pool, of its own keys */
        own[1] = draw();
        bool filled = numbers->hits == 1 && is_pair(&own[1]);
        bool written = write(ends[1], own, sizeof(own)) == sizeof(own);
        tls_keyshares_free(pool);
        _exit(empty && filled && written ? 0 : 1);
    }
    int status;
    cr_assert_eq(read(ends[0], theirs, sizeof(theirs)), sizeof(theirs));
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (unsigned i = 0; i < SLOTS + 2; i++) {
        struct pair pair = draw();
        cr_assert_neq(by_private_key(&pair, &theirs[0]), 0);
        cr_assert_neq(by_private_key(&pair, &theirs[1]), 0);
    }
    cr_assert_eq(numbers->hits, SLOTS, "the parent keeps its own");
}

/* ---- handshakes ---- */

Test(tls_keyshare, self_test)
{
    tls_keyshares_use(NULL);
    cr_assert_eq(tls_keyshares_self_test(pool), 1, "empty");
    fill(1);
    cr_assert_eq(tls_keyshares_self_test(pool), 1, "full");
    uint64_t hits = numbers->hits;
    draw();
    cr_assert_eq(numbers->hits, hits, "it puts back who was used before");
}

static void handshakes(uint16_t version)
{
    SSL_CTX *client = handshake_client_context();
    SSL_CTX *server = handshake_server_context();
    handshake_version(client, version);
    cr_assert_eq(SSL_CTX_set1_curves_list(client, "X25519:P-256"), 1);
    fill(1);
    for (unsigned i = 0; i < HANDSHAKES; i++) {
        bool resumed;
        cr_assert(handshake_once(client, server, NULL, &resumed));
    }
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

Test(tls_keyshare, handshakes_of_tls13_draw_two_each)
{
    handshakes(TLS1_3_VERSION);
    cr_assert_eq(numbers->hits, 2 * HANDSHAKES);
    cr_assert_eq(numbers->misses, 0);
}

Test(tls_keyshare, handshakes_of_tls12_draw_two_each)
{
    handshakes(TLS1_2_VERSION);
    cr_assert_eq(numbers->hits, 2 * HANDSHAKES);
    cr_assert_eq(numbers->misses, 0);
}

Test(tls_keyshare, mlkem)
{
    int r = tls_keyshares_add_mlkem(pool, 16);
#if !defined(MLKEM768_PUBLIC_KEY_BYTES) || !defined(SSL_GROUP_X25519_MLKEM768)
    cr_assert_eq(r, -ENOTSUP);
    cr_assert_eq(numbers->mlkem_made, 0);
#else
    cr_assert_eq(r, 0);
    fill(1);
    cr_assert_eq(numbers->mlkem_level, 16);
    SSL_CTX *client = handshake_client_context();
    SSL_CTX *server = handshake_server_context();
    cr_assert_eq(SSL_CTX_set1_curves_list(client, "X25519MLKEM768:X25519"), 1);
    cr_assert_eq(SSL_CTX_set1_curves_list(server, "X25519MLKEM768:X25519"), 1);
    for (unsigned i = 0; i < 20; i++) {
        struct handshake h;
        handshake_begin(&h, client, server, NULL);
        cr_assert(handshake_run(&h));
        cr_assert_eq(SSL_get_group_id(h.client), SSL_GROUP_X25519_MLKEM768);
        handshake_end(&h);
    }
    cr_assert_eq(numbers->mlkem_hits, 16);
    cr_assert_eq(numbers->mlkem_misses, 4);
    cr_assert_eq(numbers->hits, 60, "the client two, for it and for X25519; the server one");
    for (size_t i = 0; i < 16 * pool->mlkem.slot_bytes; i++)
        cr_assert_eq(pool->mlkem.slots[i], 0);
    fill(1);
    tls_keyshares_age(pool, 2 + AGE_MS);
    cr_assert_eq(numbers->mlkem_expired, 16);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
#endif
}

Test(tls_keyshare, metrics)
{
    struct metrics metrics;
    struct metrics_source source;
    char *text;
    metrics_init(&metrics);
    metrics_add_source(&metrics, &source, tls_keyshare_metrics_table, tls_keyshare_metrics_count,
                       numbers, 0);
    draw();
    fill(1);
    draw();
    cr_assert_gt(metrics_render(&metrics, &text), 0);
    cr_assert_not_null(
        strstr(text, "ringpost_tls_keyshare_hits_total{group=\"x25519\",shard=\"0\"} 1"));
    cr_assert_not_null(
        strstr(text, "ringpost_tls_keyshare_misses_total{group=\"x25519\",shard=\"0\"} 1"));
    cr_assert_not_null(
        strstr(text, "ringpost_tls_keyshare_level{group=\"x25519\",shard=\"0\"} 255"));
    free(text);
}
