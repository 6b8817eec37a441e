/*
 * secure.h - TLS of the load generator: what it was told, a thread's ends, what came of it
 *
 * The same options for all commands that connect or listen. A client verifies nothing: its CPU is
 * not what is measured. Each of its slots (one connection after the other) resumes its own last
 * session, so any number of them may resume at the same time.
 */
#ifndef RINGPOST_BENCH_SECURE_H
#define RINGPOST_BENCH_SECURE_H

#include <jansson.h>

#include "core/histogram.h"
#include "core/net.h"
#include "core/random.h"
#include "tls/tls_client.h"
#include "tls/tls_server.h"
#include "tls/tls_shard.h"

enum { SECURE_PAIRS_MAX = 8 };

enum secure_mode { SECURE_NONE, SECURE_STARTTLS, SECURE_IMPLICIT };

struct secure_options {
    enum secure_mode mode;
    unsigned version;    /* TLS_VERSION_12, _13; 0: either */
    const char *group;   /* NULL: any */
    double resume;       /* share of connections */
    uint32_t key_shares; /* of each thread, made before it starts; 0: on the spot */
    bool no_tickets;
    const char *server_name; /* SNI; "": none */
    const char *certs[SECURE_PAIRS_MAX];
    const char *keys[SECURE_PAIRS_MAX];
    unsigned certs_count;
    unsigned keys_count;
};

/* ---- the command line ---- */

enum {
    SECURE_TLS = 1024,
    SECURE_VERSION,
    SECURE_GROUP,
    SECURE_RESUME,
    SECURE_NO_TICKETS,
    SECURE_SERVER_NAME,
    SECURE_KEY_SHARES,
    SECURE_CERT,
    SECURE_KEY,
};

/* clang-format off */
#define SECURE_LONG_OPTIONS                                                                        \
    { "tls", required_argument, NULL, SECURE_TLS },                                                \
    { "tls-version", required_argument, NULL, SECURE_VERSION },                                    \
    { "tls-group", required_argument, NULL, SECURE_GROUP },                                        \
    { "tls-resume", required_argument, NULL, SECURE_RESUME },                                      \
    { "tls-no-tickets", no_argument, NULL, SECURE_NO_TICKETS }
#define SECURE_CLIENT_LONG_OPTIONS                                                                 \
    { "tls-server-name", required_argument, NULL, SECURE_SERVER_NAME },                            \
    { "tls-key-shares", required_argument, NULL, SECURE_KEY_SHARES }
#define SECURE_SERVER_LONG_OPTIONS                                                                 \
    { "cert", required_argument, NULL, SECURE_CERT },                                              \
    { "key", required_argument, NULL, SECURE_KEY }
/* clang-format on */

#define SECURE_CLIENT_HELP                                                                         \
    "TLS (certificates are not verified):\n"                                                       \
    "  --tls MODE             none, starttls, implicit (none)\n"                                   \
    "  --tls-version V        1.2 or 1.3 only (either, the higher first)\n"                        \
    "  --tls-group NAME       this one only: X25519, P-256, P-384, X25519MLKEM768 where the\n"     \
    "                         library has it; below TLS 1.3 P-256 stays behind it, for\n"          \
    "                         certificates (all, the strongest first)\n"                           \
    "  --tls-resume SHARE     this share of connections (0.25, 25%) resumes what the connection\n" \
    "                         before it in its place has got; the first one never (0)\n"           \
    "  --tls-no-tickets       ask for none: TLS 1.2 resumes by session id\n"                       \
    "  --tls-server-name NAME SNI (none)\n"                                                        \
    "  --tls-key-shares N     X25519 pairs that each thread has made beforehand, so that it "      \
    "leaves\n"                                                                                     \
    "                         more of the cores to the server (0)\n"

/* The last to be asked: what is not one of ours ends the program. */
void secure_option(struct secure_options *o, int option, const char *text);
void secure_check_client(const struct secure_options *o);
void secure_check_server(const struct secure_options *o);

/* ---- numbers: written by one thread, read by the main thread ---- */

struct secure_counts {
    uint64_t full;
    uint64_t resumed;
    uint64_t failed;
    struct histogram latency; /* us of a handshake */
};

/* {"full", "resumed", "failed", "handshake_us"} of count of them, stride bytes apart. */
json_t *secure_json(const struct secure_counts *first, size_t stride, unsigned count);
/* The same as a line of text; nothing without TLS. */
void secure_print(const struct secure_options *o, const json_t *json);
/* What a complete handshake was. */
void secure_count(struct secure_counts *counts, const struct tls_session *session,
                  uint64_t latency_us);

/* ---- a thread's client ---- */

struct secure_client {
    const struct secure_options *options;
    struct random *random;
    struct tls_shard shard;
    struct tls_client_cache sessions;
    struct tls_client *client;
    struct tls_client_policy policy;
    uint8_t (*hosts)[TLS_CLIENT_HOST_BYTES]; /* of each slot */
};

/* Nothing for --tls none. 0 or an errno. */
[[nodiscard]] int secure_client_init(struct secure_client *c, const struct secure_options *options,
                                     const int64_t *wall_us, struct random *random, uint32_t slots);
void secure_client_free(struct secure_client *c); /* also one of zeroes */
/* NULL: out of memory. */
struct tls_session *secure_client_connect(struct secure_client *c, uint32_t slot,
                                          const struct tls_ends *ends, void *owner);

/* ---- a server: what its threads share, and a thread's ---- */

struct secure_keys {
    struct tls_credential *credentials[SECURE_PAIRS_MAX];
    unsigned credentials_count;
    struct tls_ticket_keys tickets;
    struct tls_id_cache *ids; /* NULL: nobody resumes */
};

struct secure_server {
    struct tls_shard shard;
    struct tls_server *server; /* NULL: no TLS */
};

/* Tells on standard error what is wrong with a certificate. 0 or an errno. */
[[nodiscard]] int secure_keys_make(const struct secure_options *options, struct secure_keys *keys);
void secure_keys_free(struct secure_keys *keys);
[[nodiscard]] int secure_server_init(struct secure_server *s, const struct secure_options *options,
                                     const struct secure_keys *keys, const int64_t *wall_us,
                                     const uint64_t *now_ms);
void secure_server_free(struct secure_server *s); /* also one of zeroes */

#endif
