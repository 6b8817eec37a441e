/*
 * tls_keyshare.c - a ring of fresh key pairs, and the function that BoringSSL takes for its own
 *
 *   slot: free --fill--> waiting --draw--> copied to the handshake, wiped: free
 *                           `-----age----> wiped: free
 *
 * How it gets in: our static BoringSSL is linked with --wrap=X25519_keypair (meson.build), a shared
 * one calls through the PLT, where a definition in the executable comes first. Both can be lost in
 * linking without a word (BoringSSL compiled with LTO, --exclude-libs), hence the self-test.
 *
 * It moves work to idle time and removes none: under steady saturation it is empty and saves
 * nothing. Taken oldest first, so that no pair waits longer than it must: what waits is what a
 * disclosure of memory would give away.
 *
 * Owns its memory. One thread; which one is told by tls_keyshares_use(). Bounds: slots_count.
 */
#include "tls/tls_keyshare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_keyshare_inside.h"

#if !TLS_LIBRARY_SHARED && defined(MLKEM768_PUBLIC_KEY_BYTES)
#define KEYSHARE_MLKEM 1
#endif

static _Thread_local struct tls_keyshares *pool_here;

/* ---- a shelf ---- */

static int shelf_make(struct shelf *shelf, size_t slot_bytes, uint32_t slots)
{
    slot_bytes = (slot_bytes + KEYSHARE_SLOT_BYTES - 1) / KEYSHARE_SLOT_BYTES * KEYSHARE_SLOT_BYTES;
    size_t state_bytes = KEYSHARE_SLOT_BYTES;
    static_assert(sizeof(struct shelf_state) <= KEYSHARE_SLOT_BYTES);
    size_t bytes = state_bytes + slots * (slot_bytes + sizeof(uint64_t));
    int r = tls_secret_make(&shelf->secret, bytes);
    if (r < 0)
        return r;
    shelf->state = (void *)shelf->secret.data;
    shelf->slots = shelf->secret.data + state_bytes;
    shelf->made_ms = (void *)(shelf->slots + slots * slot_bytes);
    shelf->slot_bytes = slot_bytes;
    shelf->slots_count = slots;
    return 0;
}

static uint8_t *shelf_slot(const struct shelf *shelf, uint32_t index)
{
    CHECK(index < shelf->slots_count);
    return shelf->slots + index * shelf->slot_bytes;
}

/* NULL when there is none. */
static const uint8_t *shelf_oldest(const struct shelf *shelf)
{
    if (shelf->slots_count == 0 || shelf->state->level == 0)
        return NULL;
    return shelf_slot(shelf, shelf->state->head);
}

static void shelf_wipe_oldest(struct shelf *shelf)
{
    struct shelf_state *state = shelf->state;
    CHECK(state->level > 0);
    OPENSSL_cleanse(shelf_slot(shelf, state->head), shelf->slot_bytes);
    state->head = state->head + 1 < shelf->slots_count ? state->head + 1 : 0;
    state->level--;
}

/* Where the next one is to be written, which shelf_put then counts. */
static uint8_t *shelf_free_slot(const struct shelf *shelf, uint32_t *index)
{
    CHECK(shelf->state->level < shelf->slots_count);
    *index = (shelf->state->head + shelf->state->level) % shelf->slots_count;
    return shelf_slot(shelf, *index);
}

static void shelf_put(struct shelf *shelf, uint32_t index, uint64_t now_ms)
{
    shelf->made_ms[index] = now_ms;
    shelf->state->level++;
}

/* How many were too old. */
static unsigned shelf_age(struct shelf *shelf, uint64_t now_ms, uint32_t age_max_ms)
{
    unsigned wiped = 0;
    while (shelf_oldest(shelf) != NULL &&
           now_ms - MIN(now_ms, shelf->made_ms[shelf->state->head]) > age_max_ms) {
        shelf_wipe_oldest(shelf);
        wiped++;
    }
    return wiped;
}

/* Not at each pair taken: so that pairs are made in rows, with the tables in the cache. */
static bool shelf_wants(const struct shelf *shelf)
{
    if (shelf->slots_count == 0)
        return false;
    if (shelf->state->level == shelf->slots_count)
        shelf->state->filling = false;
    else if (shelf->state->level <= shelf->slots_count - (shelf->slots_count + 3) / 4)
        shelf->state->filling = true;
    return shelf->state->filling;
}

/* ---- life ---- */

static void pool_count_locked(struct tls_keyshares *pool)
{
    bool all = pool->x25519.secret.is_locked &&
               (pool->mlkem.slots_count == 0 || pool->mlkem.secret.is_locked);
    metric_set(&pool->numbers.locked, all);
}

int tls_keyshares_make(uint32_t slots, uint32_t age_max_ms, struct tls_keyshares **result)
{
    if (slots == 0 || slots > TLS_KEYSHARES_MAX || age_max_ms == 0)
        return -EINVAL;
    struct tls_keyshares *pool = calloc(1, sizeof(*pool));
    if (pool == NULL)
        return -ENOMEM;
    pool->age_max_ms = age_max_ms;
    int r = shelf_make(&pool->x25519, KEYSHARE_SLOT_BYTES, slots);
    if (r < 0) {
        free(pool);
        return r;
    }
    pool_count_locked(pool);
    *result = pool;
    return 0;
}

void tls_keyshares_free(struct tls_keyshares *pool)
{
    if (pool == NULL)
        return;
    if (pool_here == pool)
        pool_here = NULL;
    tls_secret_free(&pool->x25519.secret);
    tls_secret_free(&pool->mlkem.secret);
    free(pool);
}

void tls_keyshares_use(struct tls_keyshares *pool)
{
    pool_here = pool;
}

/* ---- X25519 ---- */

/* As BoringSSL's own, without its bits that are there to catch implementations which do not mask:
 * they change nothing in a key that does. */
static void x25519_make(uint8_t public_value[KEYSHARE_BYTES], uint8_t private_key[KEYSHARE_BYTES])
{
    CHECK(RAND_bytes(private_key, KEYSHARE_BYTES) == 1); /* aborts itself rather than fail */
    X25519_public_from_private(public_value, private_key);
}

static void x25519_fill_one(struct tls_keyshares *pool)
{
    uint32_t index;
    uint8_t *slot = shelf_free_slot(&pool->x25519, &index);
    x25519_make(slot, slot + KEYSHARE_BYTES);
    shelf_put(&pool->x25519, index, pool->now_ms);
    metric_add(&pool->numbers.made, 1);
}

/* False: there was none. */
static bool x25519_draw(struct tls_keyshares *pool, uint8_t public_value[KEYSHARE_BYTES],
                        uint8_t private_key[KEYSHARE_BYTES])
{
    if (pool == NULL)
        return false;
    const uint8_t *slot = shelf_oldest(&pool->x25519);
    if (slot == NULL) {
        metric_add(&pool->numbers.misses, 1);
        return false;
    }
    memcpy(public_value, slot, KEYSHARE_BYTES);
    memcpy(private_key, slot + KEYSHARE_BYTES, KEYSHARE_BYTES);
    shelf_wipe_oldest(&pool->x25519);
    metric_add(&pool->numbers.hits, 1);
    metric_set(&pool->numbers.level, pool->x25519.state->level);
    return true;
}

/* clang-format off */
#if TLS_LIBRARY_SHARED
__attribute__((visibility("default")))
void X25519_keypair(uint8_t public_value[KEYSHARE_BYTES], uint8_t private_key[KEYSHARE_BYTES])
{
    if (!x25519_draw(pool_here, public_value, private_key))
        x25519_make(public_value, private_key);
}
#else
void __real_X25519_keypair(uint8_t public_value[KEYSHARE_BYTES], uint8_t private_key[KEYSHARE_BYTES]);
void __wrap_X25519_keypair(uint8_t public_value[KEYSHARE_BYTES], uint8_t private_key[KEYSHARE_BYTES]);
__attribute__((used))
void __wrap_X25519_keypair(uint8_t public_value[KEYSHARE_BYTES], uint8_t private_key[KEYSHARE_BYTES])
{
    if (!x25519_draw(pool_here, public_value, private_key))
        __real_X25519_keypair(public_value, private_key);
}
#endif
/* clang-format on */

/* ---- ML-KEM-768, the side that begins: the other one's part needs the first one's key ---- */

#ifdef KEYSHARE_MLKEM

struct mlkem_pair {
    struct MLKEM768_private_key private_key;
    uint8_t public_value[MLKEM768_PUBLIC_KEY_BYTES];
};

/* clang-format off */
void __real_MLKEM768_generate_key(uint8_t public_value[MLKEM768_PUBLIC_KEY_BYTES], uint8_t *seed,
                                  struct MLKEM768_private_key *private_key);
void __wrap_MLKEM768_generate_key(uint8_t public_value[MLKEM768_PUBLIC_KEY_BYTES], uint8_t *seed,
                                  struct MLKEM768_private_key *private_key);
/* clang-format on */

int tls_keyshares_add_mlkem(struct tls_keyshares *pool, uint32_t slots)
{
    CHECK(pool->mlkem.slots_count == 0);
    if (slots == 0 || slots > TLS_KEYSHARES_MLKEM_MAX)
        return -EINVAL;
    int r = shelf_make(&pool->mlkem, sizeof(struct mlkem_pair), slots);
    pool_count_locked(pool);
    return r;
}

static void mlkem_fill_one(struct tls_keyshares *pool)
{
    uint32_t index;
    struct mlkem_pair *pair = (void *)shelf_free_slot(&pool->mlkem, &index);
    __real_MLKEM768_generate_key(pair->public_value, NULL, &pair->private_key);
    shelf_put(&pool->mlkem, index, pool->now_ms);
    metric_add(&pool->numbers.mlkem_made, 1);
}

static bool mlkem_draw(struct tls_keyshares *pool, uint8_t public_value[MLKEM768_PUBLIC_KEY_BYTES],
                       struct MLKEM768_private_key *private_key)
{
    if (pool == NULL || pool->mlkem.slots_count == 0)
        return false;
    const struct mlkem_pair *pair = (const void *)shelf_oldest(&pool->mlkem);
    if (pair == NULL) {
        metric_add(&pool->numbers.mlkem_misses, 1);
        return false;
    }
    memcpy(public_value, pair->public_value, sizeof(pair->public_value));
    memcpy(private_key, &pair->private_key, sizeof(pair->private_key));
    shelf_wipe_oldest(&pool->mlkem);
    metric_add(&pool->numbers.mlkem_hits, 1);
    metric_set(&pool->numbers.mlkem_level, pool->mlkem.state->level);
    return true;
}

/* Who wants the seed too wants to keep the key: that is no handshake. */
__attribute__((used)) void
__wrap_MLKEM768_generate_key(uint8_t public_value[MLKEM768_PUBLIC_KEY_BYTES], uint8_t *seed,
                             struct MLKEM768_private_key *private_key)
{
    if (seed != NULL || !mlkem_draw(pool_here, public_value, private_key))
        __real_MLKEM768_generate_key(public_value, seed, private_key);
}

#else

int tls_keyshares_add_mlkem(struct tls_keyshares *pool, uint32_t slots)
{
    (void)pool;
    (void)slots;
    return -ENOTSUP;
}

static void mlkem_fill_one(struct tls_keyshares *pool)
{
    CHECK(pool->mlkem.slots_count > 0);
}

#endif

/* ---- filling, ageing ---- */

void tls_keyshares_age(struct tls_keyshares *pool, uint64_t now_ms)
{
    pool->now_ms = now_ms;
    unsigned wiped = shelf_age(&pool->x25519, now_ms, pool->age_max_ms);
    metric_add(&pool->numbers.expired, wiped);
    metric_set(&pool->numbers.level, pool->x25519.state->level);
    if (pool->mlkem.slots_count == 0)
        return;
    wiped = shelf_age(&pool->mlkem, now_ms, pool->age_max_ms);
    metric_add(&pool->numbers.mlkem_expired, wiped);
    metric_set(&pool->numbers.mlkem_level, pool->mlkem.state->level);
}

bool tls_keyshares_fill(struct tls_keyshares *pool, unsigned count, uint64_t now_ms)
{
    tls_keyshares_age(pool, now_ms);
    for (; count > 0 && shelf_wants(&pool->x25519); count--)
        x25519_fill_one(pool);
    for (; count > 0 && shelf_wants(&pool->mlkem); count--)
        mlkem_fill_one(pool);
    metric_set(&pool->numbers.level, pool->x25519.state->level);
    if (pool->mlkem.slots_count > 0)
        metric_set(&pool->numbers.mlkem_level, pool->mlkem.state->level);
    bool more = shelf_wants(&pool->x25519);
    return shelf_wants(&pool->mlkem) || more;
}

const struct tls_keyshare_numbers *tls_keyshares_numbers(const struct tls_keyshares *pool)
{
    return &pool->numbers;
}

/* ---- does it work? ---- */

/* The first flight of a client that offers X25519 alone. */
static int say_hello(SSL_CTX *context)
{
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set1_curves_list(context, "X25519") != 1)
        return -ENOMEM;
    SSL *ssl = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    int r = ssl == NULL || in == NULL || out == NULL ? -ENOMEM : 0;
    if (r == 0) {
        SSL_set0_rbio(ssl, in);
        SSL_set0_wbio(ssl, out);
        in = out = NULL;
        SSL_set_connect_state(ssl);
        (void)SSL_do_handshake(ssl); /* nobody answers */
    }
    BIO_free(in);
    BIO_free(out);
    SSL_free(ssl);
    return r;
}

int tls_keyshares_self_test(struct tls_keyshares *pool)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL)
        return -ENOMEM;
    if (shelf_oldest(&pool->x25519) == NULL)
        x25519_fill_one(pool);
    struct tls_keyshares *before = pool_here;
    pool_here = pool;
    uint64_t hits = pool->numbers.hits;
    int r = say_hello(context);
    pool_here = before;
    ERR_clear_error();
    SSL_CTX_free(context);
    return r < 0 ? r : pool->numbers.hits == hits + 1;
}

/* ---- numbers ---- */

#define KEYSHARE_NUMBER(field, name, label, words, type)                                           \
    {                                                                                              \
        "ringpost_tls_keyshare_" name, label, words, type, 0,                                      \
            offsetof(struct tls_keyshare_numbers, field)                                           \
    }

/* clang-format off */
const struct metric tls_keyshare_metrics_table[] = {
    KEYSHARE_NUMBER(hits, "hits_total", "group=\"x25519\"", "Key shares that were made beforehand", METRIC_COUNTER),
    KEYSHARE_NUMBER(misses, "misses_total", "group=\"x25519\"", "Key shares that had to be made at once", METRIC_COUNTER),
    KEYSHARE_NUMBER(made, "made_total", "group=\"x25519\"", "Key pairs put into the pool", METRIC_COUNTER),
    KEYSHARE_NUMBER(expired, "expired_total", "group=\"x25519\"", "Key pairs wiped because nobody came for them", METRIC_COUNTER),
    KEYSHARE_NUMBER(level, "level", "group=\"x25519\"", "Key pairs that wait", METRIC_GAUGE),
    KEYSHARE_NUMBER(mlkem_hits, "hits_total", "group=\"mlkem768\"", "Key shares that were made beforehand", METRIC_COUNTER),
    KEYSHARE_NUMBER(mlkem_misses, "misses_total", "group=\"mlkem768\"", "Key shares that had to be made at once", METRIC_COUNTER),
    KEYSHARE_NUMBER(mlkem_made, "made_total", "group=\"mlkem768\"", "Key pairs put into the pool", METRIC_COUNTER),
    KEYSHARE_NUMBER(mlkem_expired, "expired_total", "group=\"mlkem768\"", "Key pairs wiped because nobody came for them", METRIC_COUNTER),
    KEYSHARE_NUMBER(mlkem_level, "level", "group=\"mlkem768\"", "Key pairs that wait", METRIC_GAUGE),
    KEYSHARE_NUMBER(locked, "locked", NULL, "1 when the pool is locked into memory", METRIC_GAUGE),
};
/* clang-format on */
const unsigned tls_keyshare_metrics_count = ARRAY_COUNT(tls_keyshare_metrics_table);
