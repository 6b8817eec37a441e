/*
 * pair_world.c - certificates, contexts and caches of both sides
 */
#include "tests/tls/pair_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/check.h"

enum { CLIENT_CACHE = 64, PEM_BYTES = 16'384, SECOND_US = 1'000'000 };

static struct tls_credential *credential_make(const char *directory, const struct pki *issuer,
                                              const char *cn, struct pki_options options)
{
    static _Thread_local char pem[PEM_BYTES];
    char file[64];
    options.cn = cn;
    struct pki *leaf = pki_make(issuer, options);
    pem[0] = '\0';
    pki_pem_certificate(leaf, pem, sizeof(pem));
    snprintf(file, sizeof(file), "%s.pem", cn);
    char chain[PKI_PATH_BYTES];
    snprintf(chain, sizeof(chain), "%s", pki_file(directory, file, pem, 0644));
    pem[0] = '\0';
    pki_pem_key(leaf, PKI_PKCS8, pem, sizeof(pem));
    snprintf(file, sizeof(file), "%s.key", cn);
    struct tls_credential *credential = NULL;
    char why[TLS_WHY_MAX];
    int r = tls_credential_load(chain, pki_file(directory, file, pem, 0600), &credential, why);
    if (r < 0)
        fprintf(stderr, "%s: %s\n", cn, why);
    CHECK(r == 0);
    pki_free(leaf);
    return credential;
}

void pair_pki_make(struct pair_pki *p)
{
    char directory[PKI_PATH_BYTES];
    pki_directory_make(directory);
    p->root = pki_make(NULL, (struct pki_options) { .cn = "root", .is_ca = true });
    p->roots = pki_roots(p->root, NULL);
    const struct slice server = SLICE("server.example");
    p->credentials[PAIR_ECDSA] =
        credential_make(directory, p->root, "ecdsa",
                        (struct pki_options) { .names = { server }, .crls = { PAIR_CRL } });
    p->credentials[PAIR_RSA] =
        credential_make(directory, p->root, "rsa",
                        (struct pki_options) { .names = { server }, .key = PKI_RSA_2048 });
    p->credentials[PAIR_WILD] = credential_make(
        directory, p->root, "wild", (struct pki_options) { .names = { SLICE("*.wild.example") } });
    p->credentials[PAIR_CLIENT] =
        credential_make(directory, p->root, "client",
                        (struct pki_options) { .names = { SLICE("client.example") } });
    p->credentials[PAIR_STRANGER] = credential_make(
        directory, NULL, "stranger", (struct pki_options) { .names = { SLICE("client.example") } });
    pki_directory_remove(directory);
}

void pair_pki_free(struct pair_pki *p)
{
    for (unsigned i = 0; i < PAIR_CREDENTIALS; i++)
        tls_credential_drop(p->credentials[i]);
    tls_roots_drop(p->roots);
    pki_free(p->root);
}

void pair_world_reload(struct pair_world *w)
{
    tls_server_free(w->server);
    tls_client_free(w->client);
    CHECK(tls_server_make(&w->options, &w->shard, &w->server) == 0);
    CHECK(tls_client_make(&w->shard, &w->client) == 0);
}

void pair_world_init(struct pair_world *w, const struct pair_pki *pki, struct tls_id_cache *ids,
                     bool tickets, uint32_t key_shares)
{
    *w = (struct pair_world) { .pki = pki, .wall_us = (int64_t)time(NULL) * SECOND_US };
    CHECK(tls_shard_init(&w->shard, &w->wall_us) == 0);
    CHECK(tls_client_cache_init(&w->sessions, CLIENT_CACHE) == 0);
    w->shard.sessions = &w->sessions;
    w->shard.ids.cache = ids;
    w->shard.ids.now_ms = &w->now_ms;
    if (tickets) {
        CHECK(tls_tickets_make(&w->shard.tickets) == 0);
        tls_ticket_keys_make(w->wall_us, &w->keys);
        CHECK(tls_tickets_take(w->shard.tickets, &w->keys) == 0);
    }
    if (key_shares > 0)
        CHECK(tls_keyshares_make(key_shares, 3'600'000, &w->shard.keyshares) == 0);
    w->options = (struct tls_server_options) {
        .name = "in",
        .credentials = (struct tls_credential *const *)pki->credentials,
        .credentials_count = 3,
        .version_min = TLS_VERSION_12,
        .lifetime_s = 3'600,
        .bundles = (const struct tls_roots *const *)&pki->roots,
        .bundles_count = 1,
    };
    pair_world_reload(w);
}

void pair_world_free(struct pair_world *w)
{
    tls_server_free(w->server);
    tls_client_free(w->client);
    tls_client_cache_free(&w->sessions);
    tls_tickets_free(w->shard.tickets);
    tls_keyshares_use(NULL);
    tls_keyshares_free(w->shard.keyshares);
    tls_shard_free(&w->shard);
}

void pair_world_begin(struct pair_world *w, struct pair *pair, enum tls_asks asks,
                      const struct tls_client_policy *policy,
                      const struct tls_client_target *target)
{
    pair->server = tls_server_accept(w->server, asks, &pair_ends, &pair->server_end);
    pair->client = tls_client_connect(w->client, policy, target, &pair_ends, &pair->client_end);
    CHECK(pair->server != NULL);
    CHECK(pair->client != NULL);
}

struct tls_client_policy pair_policy(const struct pair_world *w, enum tls_level level)
{
    struct tls_client_policy policy = {
        .level = level,
        .version_min = TLS_VERSION_12,
        .roots = w->pki->roots,
    };
    tls_client_policy_seal(&policy, NULL, 0);
    return policy;
}

struct tls_client_target pair_target(const char *name)
{
    static const uint8_t host[TLS_CLIENT_HOST_BYTES] = { 1 };
    static const struct slice names[] = { SLICE("server.example") };
    return (struct tls_client_target) {
        .host = host, .server_name = name, .names = names, .names_count = 1
    };
}
