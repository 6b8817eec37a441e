/*
 * main.c - many handshakes with everything that goes on beside them, for the sanitizers
 *
 * Usage: ringpost-soak [HANDSHAKES [THREADS [SEED]]]      (100,000 handshakes, 4 threads, seed 1)
 *
 * Each thread is a shard: contexts, ticket keys, caches and a pool of its own, one session cache
 * shared by all. Between handshakes of all kinds (versions, levels, names, client certificates, any
 * fragmentation) it reloads, rotates keys, refills the pool, and cuts connections after a random
 * octet; some sessions stay open over all that. Exit status 0: every handshake ended as it had to,
 * and the caches stayed within their bounds. A leak or a race is the sanitizer's to report.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "tests/tls/pair_world.h"

enum { THREADS_MAX = 16, OPEN = 8, IDS = 256, KEY_SHARES = 128, CLIENT_KEYS_MAX = 64 };

static struct pair_pki pki;
static struct tls_id_cache *ids;

struct soak {
    pthread_t thread;
    uint64_t seed, handshakes;
    uint64_t done, failed, stuck, resumed, reloads, rotations, wrong;
};

/* A session that goes on while others come. */
struct open {
    struct pair pair;
    struct tls_client_policy policy;
    struct tls_client_target target;
    bool is_open;
    bool is_closed; /* one side has said its last word */
};

struct shard {
    struct pair_world world;
    struct random random;
    struct open *open;
};

static bool one_in(struct shard *s, uint64_t n)
{
    return random_below(&s->random, n) == 0;
}

static void disturb(struct soak *soak, struct shard *s)
{
    struct pair_world *w = &s->world;
    w->wall_us += (int64_t)random_below(&s->random, 2'000'000);
    w->now_ms += random_below(&s->random, 2'000);
    if (one_in(s, 50)) {
        w->options.version_min = one_in(s, 4) ? TLS_VERSION_13 : TLS_VERSION_12;
        w->options.allows_cbc = one_in(s, 2);
        pair_world_reload(w);
        soak->reloads++;
    }
    if (one_in(s, 40) && w->shard.tickets != NULL) {
        tls_ticket_keys_rotate(&w->keys, w->wall_us);
        CHECK(tls_tickets_take(w->shard.tickets, &w->keys) == 0);
        soak->rotations++;
    }
    if (one_in(s, 3))
        (void)tls_keyshares_fill(w->shard.keyshares, 16, w->now_ms);
    if (one_in(s, 500))
        tls_id_cache_forget(ids);
    if (w->sessions.numbers.keys > CLIENT_KEYS_MAX)
        soak->wrong++;
}

static void begin(struct shard *s, struct open *o)
{
    static const char *const names[] = { "server.example", "a.wild.example", "", "x.example" };
    static const uint8_t hosts[4][TLS_CLIENT_HOST_BYTES] = { { 1 }, { 2 }, { 3 }, { 4 } };
    struct pair_world *w = &s->world;
    o->policy = pair_policy(
        w, (enum tls_level)(TLS_LEVEL_MAY + (int)random_below(&s->random, TLS_LEVEL_NAME)));
    if (one_in(s, 4))
        o->policy.credential = pki.credentials[one_in(s, 2) ? PAIR_CLIENT : PAIR_STRANGER];
    tls_client_policy_seal(&o->policy, NULL, 0);
    o->target = pair_target(names[random_below(&s->random, ARRAY_COUNT(names))]);
    o->target.host = hosts[random_below(&s->random, ARRAY_COUNT(hosts))];
    if (one_in(s, 5))
        o->target.step = (enum tls_step)random_below(&s->random, TLS_STEPS - 1);
    if (one_in(s, 5))
        o->target.group = 23;
    static const size_t pieces[] = { 0, 0, 0, 1, 50, 1'000 };
    pair_init(&o->pair, random_next(&s->random),
              pieces[random_below(&s->random, ARRAY_COUNT(pieces))]);
    if (one_in(s, 5))
        o->pair.cut_at = random_below(&s->random, 4'000);
    pair_world_begin(w, &o->pair, one_in(s, 3), &o->policy, &o->target);
}

/* What must hold, whatever came of it. */
static bool as_it_had_to(const struct shard *s, const struct open *o, enum pair_result result,
                         bool named)
{
    if (result == PAIR_STUCK)
        return o->pair.cut_at != UINT64_MAX;
    bool fallback = o->target.step == TLS_STEP_12; /* the server can do better, and says so */
    bool name_wanted = o->policy.level == TLS_LEVEL_NAME;
    if (result == PAIR_FAILED)
        return fallback || (name_wanted && !named) || s->world.options.version_min > TLS_VERSION_12;
    return !fallback && (!name_wanted || named);
}

static void talk(struct soak *soak, struct shard *s, struct open *o)
{
    struct pair *p = &o->pair;
    size_t bytes = 1 + (size_t)random_below(&s->random, 3'000);
    bool whole = p->cut_at == UINT64_MAX;
    bool went =
        pair_send(p, p->server, p->client, bytes) && pair_send(p, p->client, p->server, bytes);
    if (whole && !went)
        soak->wrong++;
    if (went && one_in(s, 2)) {
        (void)tls_session_close(one_in(s, 2) ? p->server : p->client);
        o->is_closed = true;
    }
}

static void once(struct soak *soak, struct shard *s, struct open *o)
{
    if (o->is_open) {
        if (!o->is_closed && one_in(s, 2))
            talk(soak, s, o);
        pair_free(&o->pair);
        o->is_open = false;
    }
    begin(s, o);
    enum tls_result client, server;
    enum pair_result result = pair_handshake(&o->pair, &client, &server);
    bool named = result == PAIR_DONE && tls_client_name_ok(o->pair.client);
    if (result == PAIR_FAILED)
        named = strcmp(o->target.server_name, "a.wild.example") != 0;
    if (!as_it_had_to(s, o, result, named || o->policy.level < TLS_LEVEL_NAME))
        soak->wrong++;
    soak->done += result == PAIR_DONE;
    soak->failed += result == PAIR_FAILED;
    soak->stuck += result == PAIR_STUCK;
    if (result != PAIR_DONE) {
        pair_free(&o->pair);
        return;
    }
    struct tls_facts facts;
    tls_session_facts(o->pair.server, &facts);
    soak->resumed += facts.is_resumed;
    if (facts.is_resumed && facts.peer != NULL)
        soak->wrong++; /* a certificate's verdict is not resumed */
    o->is_open = true;
    o->is_closed = false;
    if (one_in(s, 2))
        talk(soak, s, o);
}

static void *run(void *argument)
{
    struct soak *soak = argument;
    struct shard *s = calloc(1, sizeof(*s));
    CHECK(s != NULL);
    s->open = calloc(OPEN, sizeof(*s->open));
    CHECK(s->open != NULL);
    random_seed(&s->random, soak->seed);
    /* every second one without tickets: TLS 1.2 resumes by id there */
    pair_world_init(&s->world, &pki, ids, soak->seed % 2 == 0, KEY_SHARES);
    for (uint64_t i = 0; i < soak->handshakes; i++) {
        disturb(soak, s);
        once(soak, s, &s->open[random_below(&s->random, OPEN)]);
    }
    for (unsigned i = 0; i < OPEN; i++)
        if (s->open[i].is_open)
            pair_free(&s->open[i].pair);
    pair_world_free(&s->world);
    free(s->open);
    free(s);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t handshakes = argc > 1 ? strtoull(argv[1], NULL, 10) : 100'000;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    if (handshakes == 0 || threads == 0 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: ringpost-soak [HANDSHAKES [THREADS [SEED]]], at most %d threads\n",
                THREADS_MAX);
        return 2;
    }
    struct soak soaks[THREADS_MAX] = { 0 }, all = { 0 };
    pair_pki_make(&pki);
    CHECK(tls_id_cache_make(IDS, 3'600, &ids) == 0);
    for (unsigned i = 0; i < threads; i++) {
        soaks[i].seed = seed * THREADS_MAX + i;
        soaks[i].handshakes = handshakes / threads + (i < handshakes % threads);
        CHECK(pthread_create(&soaks[i].thread, NULL, run, &soaks[i]) == 0);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(soaks[i].thread, NULL);
        all.done += soaks[i].done;
        all.failed += soaks[i].failed;
        all.stuck += soaks[i].stuck;
        all.resumed += soaks[i].resumed;
        all.reloads += soaks[i].reloads;
        all.rotations += soaks[i].rotations;
        all.wrong += soaks[i].wrong;
    }
    tls_id_cache_free(ids);
    pair_pki_free(&pki);
    printf("%" PRIu64 " handshakes: %" PRIu64 " done (%" PRIu64 " resumed), %" PRIu64
           " failed as they had to, %" PRIu64 " cut; %" PRIu64 " reloads, %" PRIu64
           " rotations; %" PRIu64 " wrong\n",
           handshakes, all.done, all.resumed, all.failed, all.stuck, all.reloads, all.rotations,
           all.wrong);
    return all.wrong == 0 && all.done > 0 && all.resumed > 0 ? 0 : 1;
}
