/*
 * pair_world.h - a server and a client side with all that a shard has, for sessions of ours
 */
#ifndef RINGPOST_TESTS_TLS_PAIR_WORLD_H
#define RINGPOST_TESTS_TLS_PAIR_WORLD_H

#include "tests/tls/pair.h"
#include "tests/tls/pki.h"
#include "tls/tls_credential.h"
#include "tls/tls_shard.h"

#define PAIR_CRL "http://crl.example/root.crl" /* that PAIR_ECDSA points to */

enum pair_credential {
    PAIR_ECDSA,
    PAIR_RSA,
    PAIR_WILD,
    PAIR_CLIENT,
    PAIR_STRANGER,
    PAIR_CREDENTIALS
};

/* Made once, read by all threads. */
struct pair_pki {
    struct pki *root;
    struct tls_roots *roots;
    struct tls_credential *credentials[PAIR_CREDENTIALS];
};
void pair_pki_make(struct pair_pki *pki);
void pair_pki_free(struct pair_pki *pki);

struct pair_world {
    const struct pair_pki *pki;
    int64_t wall_us;
    uint64_t now_ms;
    struct tls_shard shard;
    struct tls_client_cache sessions;
    struct tls_ticket_keys keys;
    struct tls_server *server;
    struct tls_client *client;
    struct tls_server_options options;
};

/* With tickets, and ids when ids is not NULL; key shares when there are to be any. */
void pair_world_init(struct pair_world *w, const struct pair_pki *pki, struct tls_id_cache *ids,
                     bool tickets, uint32_t key_shares);
void pair_world_free(struct pair_world *w);
/* As a reload does: what is begun from now on uses new contexts. Old ones must have no handshake
 * under way. */
void pair_world_reload(struct pair_world *w);

/* A pair with both sessions begun. policy and target must last for the handshake. */
void pair_world_begin(struct pair_world *w, struct pair *pair, enum tls_asks asks,
                      const struct tls_client_policy *policy,
                      const struct tls_client_target *target);
/* What most want: TLS 1.2 and up, our roots, server.example, one host. */
struct tls_client_policy pair_policy(const struct pair_world *w, enum tls_level level);
struct tls_client_target pair_target(const char *name);

#endif
