/*
 * tls_loop.c - the limit of handshakes: both sides in one thread, over memory, only one of them
 * timed
 *
 *   for each round: for each row: without the pool, with it
 *     server: SSL_new, the handshake, one command read, one reply written, SSL_free  <- the clock
 *     client: the same                                                               <- not
 *
 * BoringSSL's own contexts, its memory BIOs, nothing of connections; from tls/ only what a context
 * has to be given (certificate, tickets, ids, key shares). Rows take turns handshake by handshake,
 * so that a change of the machine's mood hits all of them; the median counts.
 *
 * The reply is there because a TLS 1.3 server sends its ticket with the first thing that it writes.
 * Key shares are made between handshakes and are not timed: the pool moves work, it removes none.
 *
 * A loop finds in the caches what it left there, a server that waited for a packet does not. With
 * --pause this one waits too, before each step of the server's: the difference is the caches'
 * price.
 */
#include "bench/tls_loop.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/options.h"
#include "bench/result.h"
#include "bench/secure.h"
#include "core/check.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_credential.h"
#include "tls/tls_library.h"
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum {
    ROUNDS_DEFAULT = 400,
    ROUNDS_WARM = 10,
    POOL_SLOTS = 64,
    POOL_AGE_MS = 3'600'000,
    STEPS_MAX = 16,
    ID_SLOTS = 1024,
    LIFETIME_S = 3'600,
    ROWS_MAX = 16,
    COMMAND_BYTES = 20, /* EHLO bench.invalid */
    REPLY_BYTES = 160,  /* what a server says to it */
    PAUSE_US_MAX = 100'000,
};

static const char help[] =
    "usage: ringpost-bench tls-loop --cert CHAIN --key KEY [--cert CHAIN --key KEY] [options]\n"
    "\n"
    "The server's time for a handshake, one command and one reply, in BoringSSL alone: both sides\n"
    "in one thread, over memory. Rows whose certificate is not given, or whose group the library\n"
    "has not, are left out.\n"
    "\n"
    "  --cert CHAIN --key KEY  PEM; an ECDSA and an RSA one\n"
    "  --rounds N              handshakes of each row, with and without the key-share pool (400)\n"
    "  --pause US              wait so long before each step of the server, as one does that "
    "waits\n"
    "                          for packets (0)\n"
    "  --only ROW              one row, by its name in the JSON, and without the pool\n"
    "  --cpu N                 run on this one (the one it begins on)\n"
    "  --json FILE             {library, rows {NAME {without_us, with_us}}}; medians; - is "
    "standard\n"
    "                          output\n"
    "  --help                  this text\n";

/* ---- rows ---- */

enum resume { RESUME_NOT, RESUME_TICKET, RESUME_ID };

static const struct {
    const char *name;
    const char *words;
    unsigned version;
    enum tls_key key;
    const char *groups;
    enum resume resume;
} rows[] = {
    /* clang-format off */
    { "13-ecdsa",   "1.3 full ECDSA P-256",      TLS_VERSION_13, TLS_KEY_EC,  "X25519",               RESUME_NOT },
    { "13-rsa",     "1.3 full RSA-2048",         TLS_VERSION_13, TLS_KEY_RSA, "X25519",               RESUME_NOT },
    { "13-resumed", "1.3 resumed by ticket",     TLS_VERSION_13, TLS_KEY_EC,  "X25519",               RESUME_TICKET },
    { "12-ecdsa",   "1.2 full ECDSA P-256",      TLS_VERSION_12, TLS_KEY_EC,  "X25519:P-256",         RESUME_NOT },
    { "12-rsa",     "1.2 full RSA-2048",         TLS_VERSION_12, TLS_KEY_RSA, "X25519",               RESUME_NOT },
    { "12-ticket",  "1.2 resumed by ticket",     TLS_VERSION_12, TLS_KEY_EC,  "X25519:P-256",         RESUME_TICKET },
    { "12-id",      "1.2 resumed by session id", TLS_VERSION_12, TLS_KEY_EC,  "X25519:P-256",         RESUME_ID },
    { "13-hybrid",  "1.3 full ECDSA, X25519MLKEM768", TLS_VERSION_13, TLS_KEY_EC, "X25519MLKEM768",   RESUME_NOT },
    /* clang-format on */
};
static_assert(ARRAY_COUNT(rows) <= ROWS_MAX);

struct row {
    SSL_CTX *server; /* NULL: left out */
    SSL_CTX *client;
    SSL_SESSION *kept;
    uint64_t *ticks[2]; /* of each round: without the pool, with it */
};

struct loop_options {
    struct secure_options tls;
    const char *json;
    const char *only; /* NULL: all rows, without the pool and with it */
    unsigned rounds;
    unsigned pause_us;
    int cpu; /* -1: the one it is on */
};

struct loop {
    const struct loop_options *options;
    struct secure_keys keys;
    struct tls_tickets *tickets;
    struct tls_id_cache_user ids;
    struct tls_keyshares *pool;
    uint64_t now_ms;
    double ticks_in_us;
    struct row rows[ROWS_MAX];
};

static uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    return result_now_ns();
#endif
}

/* ---- contexts ---- */

static struct tls_credential *credential_of(const struct loop *loop, enum tls_key key)
{
    for (unsigned i = 0; i < loop->keys.credentials_count; i++)
        if (tls_credential_leaf(loop->keys.credentials[i])->key == key)
            return loop->keys.credentials[i];
    return NULL;
}

static bool context_versions(SSL_CTX *context, unsigned index)
{
    return SSL_CTX_set_min_proto_version(context, (uint16_t)rows[index].version) == 1 &&
           SSL_CTX_set_max_proto_version(context, (uint16_t)rows[index].version) == 1 &&
           SSL_CTX_set1_curves_list(context, rows[index].groups) == 1;
}

static SSL_CTX *server_context(struct loop *loop, unsigned index,
                               const struct tls_credential *credential)
{
    static const uint8_t id[] = "loop";
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    CHECK(context != NULL);
    CHECK(context_versions(context, index));
    CHECK(tls_credential_use_on(credential, context) == 0);
    CHECK(SSL_CTX_set_session_id_context(context, id, sizeof(id)) == 1);
    SSL_CTX_set_timeout(context, LIFETIME_S);
    CHECK(tls_tickets_attach(loop->tickets, context) == 0);
    if (rows[index].resume == RESUME_ID)
        CHECK(tls_id_cache_attach(&loop->ids, context) == 0);
    else
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

static enum ssl_verify_result_t verify_nothing(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    (void)alert;
    return ssl_verify_ok;
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct row *row = SSL_get_app_data(ssl);
    SSL_SESSION_free(row->kept);
    row->kept = session;
    return 1;
}

static SSL_CTX *client_context(unsigned index)
{
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    CHECK(context != NULL);
    CHECK(context_versions(context, index));
    SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER, verify_nothing);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_new_session);
    if (rows[index].resume == RESUME_ID)
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    return context;
}

static void loop_rows(struct loop *loop)
{
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct tls_credential *credential = credential_of(loop, rows[i].key);
        bool hybrid = strcmp(rows[i].groups, "X25519MLKEM768") == 0;
        if (credential == NULL || (hybrid && tls_client_group_named(rows[i].groups) == 0))
            continue;
        if (loop->options->only != NULL && strcmp(loop->options->only, rows[i].name) != 0)
            continue;
        struct row *row = &loop->rows[i];
        row->server = server_context(loop, i, credential);
        row->client = client_context(i);
        for (unsigned pooled = 0; pooled < 2; pooled++) {
            row->ticks[pooled] = calloc(loop->options->rounds, sizeof(uint64_t));
            CHECK(row->ticks[pooled] != NULL);
        }
    }
}

/* ---- one connection ---- */

static void pause_us(unsigned us)
{
    struct timespec time = { .tv_nsec = us * 1'000L };
    if (us > 0)
        (void)nanosleep(&time, NULL);
}

/* What is timed has functions of its own, timed_*, which callgrind can be told to count alone. */

static SSL *side_new(SSL_CTX *context, BIO *in, BIO *out)
{
    SSL *ssl = SSL_new(context);
    CHECK(ssl != NULL);
    SSL_set0_rbio(ssl, in);
    SSL_set0_wbio(ssl, out);
    return ssl;
}

[[gnu::noinline]] static SSL *timed_new(SSL_CTX *context, BIO *in, BIO *out)
{
    SSL *server = side_new(context, in, out);
    SSL_set_accept_state(server);
    return server;
}

static bool hands(SSL *ssl)
{
    int r = SSL_do_handshake(ssl);
    return r == 1 || SSL_get_error(ssl, r) == SSL_ERROR_WANT_READ;
}

[[gnu::noinline]] static bool timed_hands(SSL *server)
{
    return hands(server);
}

[[gnu::noinline]] static bool timed_talk(SSL *server, uint8_t bytes[static REPLY_BYTES])
{
    return SSL_read(server, bytes, REPLY_BYTES) == COMMAND_BYTES &&
           SSL_write(server, bytes, REPLY_BYTES) == REPLY_BYTES;
}

[[gnu::noinline]] static void timed_free(SSL *server)
{
    SSL_free(server);
}

static bool exchange_data(SSL *client, SSL *server, unsigned pause, uint64_t *spent)
{
    uint8_t bytes[REPLY_BYTES] = { 'x' };
    if (SSL_write(client, bytes, COMMAND_BYTES) != COMMAND_BYTES)
        return false;
    pause_us(pause);
    uint64_t began = ticks();
    bool done = timed_talk(server, bytes);
    *spent += ticks() - began;
    return done && SSL_read(client, bytes, sizeof(bytes)) == REPLY_BYTES;
}

/* The server's ticks; 0: it failed, or was not what the row is about. */
static uint64_t exchange(struct row *row, unsigned index, struct tls_keyshares *pool,
                         unsigned pause)
{
    BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
    CHECK(up != NULL);
    CHECK(down != NULL);
    CHECK(BIO_up_ref(up) == 1);
    CHECK(BIO_up_ref(down) == 1);
    SSL *client = side_new(row->client, down, up);
    SSL_set_connect_state(client);
    SSL_set_app_data(client, row);
    bool resumes = rows[index].resume != RESUME_NOT && row->kept != NULL;
    if (resumes)
        SSL_set_session(client, row->kept);

    pause_us(pause);
    uint64_t began = ticks();
    SSL *server = timed_new(row->server, up, down);
    uint64_t spent = ticks() - began;
    bool good = true;
    unsigned steps = 0;
    while (good && (SSL_in_init(client) || SSL_in_init(server)) && steps++ < STEPS_MAX) {
        good = hands(client);
        tls_keyshares_use(pool);
        pause_us(pause);
        began = ticks();
        good = good && timed_hands(server);
        spent += ticks() - began;
        tls_keyshares_use(NULL);
    }
    good = good && steps < STEPS_MAX && exchange_data(client, server, pause, &spent) &&
           SSL_session_reused(server) == resumes;
    pause_us(pause);
    began = ticks();
    timed_free(server);
    spent += ticks() - began;
    SSL_free(client);
    ERR_clear_error();
    return good ? spent : 0;
}

static int loop_round(struct loop *loop, unsigned index, int round)
{
    struct row *row = &loop->rows[index];
    for (unsigned turn = 0; turn < 2; turn++) {
        bool pooled = ((unsigned)round + turn) % 2 != 0; /* the second one has it warmer */
        if (pooled && loop->options->only != NULL)
            continue;
        loop->now_ms = result_now_ns() / 1'000'000;
        (void)tls_keyshares_fill(loop->pool, POOL_SLOTS, loop->now_ms);
        uint64_t spent = exchange(row, index, pooled ? loop->pool : NULL, loop->options->pause_us);
        if (spent == 0) {
            fprintf(stderr, "ringpost-bench tls-loop: %s failed\n", rows[index].words);
            return -EPROTO;
        }
        if (round >= 0)
            row->ticks[pooled][round] = spent;
    }
    return 0;
}

static int loop_run(struct loop *loop)
{
    uint64_t began_ns = result_now_ns();
    uint64_t began = ticks();
    for (int round = -ROUNDS_WARM; round < (int)loop->options->rounds; round++)
        for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
            int r = loop->rows[i].server == NULL ? 0 : loop_round(loop, i, round);
            if (r < 0)
                return r;
        }
    loop->ticks_in_us = (double)(ticks() - began) * 1e3 / (double)(result_now_ns() - began_ns);
    return 0;
}

/* ---- results ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static double median_us(const struct loop *loop, uint64_t *values)
{
    unsigned count = loop->options->rounds, middle = count / 2;
    qsort(values, count, sizeof(*values), by_size);
    return (double)values[middle] / loop->ticks_in_us;
}

static void loop_report(struct loop *loop)
{
    const char *json_path = loop->options->json;
    bool prints = json_path == NULL || strcmp(json_path, "-") != 0;
    char library[TLS_LIBRARY_TEXT_BYTES_MAX] = "";
    struct tls_library asked;
    if (tls_library_ask(&asked) == 0)
        (void)tls_library_text(&asked, library, sizeof(library));
    json_t *list = json_object();
    if (prints)
        printf("%s\n%-32s %12s %12s %8s\n", library, "server, us of a handshake", "without pool",
               "with", "saved");
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct row *row = &loop->rows[i];
        if (row->server == NULL)
            continue;
        double without = median_us(loop, row->ticks[0]), with = median_us(loop, row->ticks[1]);
        json_t *told = json_pack("{s:s, s:f}", "words", rows[i].words, "without_us", without);
        if (prints)
            printf("%-32s %12.1f", rows[i].words, without);
        if (prints && loop->options->only == NULL)
            printf(" %12.1f %7.0f%%", with, 100 * (1 - with / without));
        if (prints)
            printf("\n");
        if (loop->options->only == NULL)
            json_object_set_new(told, "with_us", json_real(with));
        json_object_set_new(list, rows[i].name, told);
    }
    result_write(json_path, json_pack("{s:s, s:o}", "library", library, "rows", list));
}

/* ---- the command ---- */

static const char *row_named(const char *name)
{
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].name;
    option_wrong("--only", "is not the name of a row");
}

static bool loop_options(int argc, char **argv, struct loop_options *o)
{
    enum { ROUNDS = 256, PAUSE, ONLY, CPU, JSON, HELP };
    static const struct option options[] = {
        { "rounds", required_argument, NULL, ROUNDS },
        { "pause", required_argument, NULL, PAUSE },
        { "only", required_argument, NULL, ONLY },
        { "cpu", required_argument, NULL, CPU },
        { "json", required_argument, NULL, JSON },
        { "help", no_argument, NULL, HELP },
        SECURE_SERVER_LONG_OPTIONS,
        { NULL, 0, NULL, 0 },
    };
    *o = (struct loop_options) { .rounds = ROUNDS_DEFAULT, .cpu = -1 };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case ROUNDS: o->rounds = (unsigned)option_number("--rounds", optarg, 1, 1'000'000); break;
        case PAUSE:
            o->pause_us = (unsigned)option_number("--pause", optarg, 0, PAUSE_US_MAX);
            break;
        case ONLY: o->only = row_named(optarg); break;
        case CPU: o->cpu = (int)option_number("--cpu", optarg, 0, CPU_SETSIZE - 1); break;
        case JSON: o->json = optarg; break;
        case HELP: fputs(help, stdout); return false;
        default: secure_option(&o->tls, option, optarg);
        }
    }
    options_end(argc, argv);
    if (o->tls.certs_count == 0)
        option_wrong("--cert", "is needed");
    secure_check_server(&o->tls);
    return true;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)(cpu < 0 ? sched_getcpu() : cpu), &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        fprintf(stderr, "ringpost-bench tls-loop: not pinned: %s\n", strerror(errno));
}

static int loop_init(struct loop *loop)
{
    struct tls_ticket_keys keys;
    int r = secure_keys_make(&loop->options->tls, &loop->keys);
    if (r == 0)
        r = tls_tickets_make(&loop->tickets);
    if (r < 0)
        return r;
    tls_ticket_keys_make((int64_t)result_now_ns() / 1'000, &keys);
    r = tls_tickets_take(loop->tickets, &keys);
    tls_ticket_keys_wipe(&keys);
    loop->ids.now_ms = &loop->now_ms;
    if (r == 0)
        r = tls_id_cache_make(ID_SLOTS, LIFETIME_S, &loop->ids.cache);
    if (r == 0)
        r = tls_keyshares_make(POOL_SLOTS, POOL_AGE_MS, &loop->pool);
    return r;
}

static void loop_free(struct loop *loop)
{
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct row *row = &loop->rows[i];
        SSL_SESSION_free(row->kept);
        SSL_CTX_free(row->server);
        SSL_CTX_free(row->client);
        free(row->ticks[0]);
        free(row->ticks[1]);
    }
    tls_keyshares_free(loop->pool);
    tls_tickets_free(loop->tickets);
    tls_id_cache_free(loop->ids.cache);
    secure_keys_free(&loop->keys);
}

int tls_loop_main(int argc, char **argv)
{
    struct loop_options o;
    if (!loop_options(argc, argv, &o))
        return EXIT_OK;
    pin(o.cpu);
    struct loop loop = { .options = &o };
    int r = loop_init(&loop);
    if (r == 0) {
        loop_rows(&loop);
        r = loop_run(&loop);
    } else {
        fprintf(stderr, "ringpost-bench tls-loop: %s\n", strerror(-r));
    }
    if (r == 0)
        loop_report(&loop);
    loop_free(&loop);
    return r == 0 ? EXIT_OK : EXIT_NOTHING;
}
