/*
 * tls_client.c - sessions that we begin
 *
 *   connect: policy, step -> versions, suites, groups; a kept session, if there is one
 *     -> certificate: chain and name judged; below CHAIN only recorded
 *     -> new sessions are kept by (host, server name, policy)
 *
 * A context for each of MAY, ENCRYPT and what is above: they differ in the suites, a list that is
 * dear to parse, and in that the last one, which is DANE's too, judges again when a session is
 * resumed; below it nothing followed from the verdict. All else is set on the session. Owns the
 * contexts.
 */
#include "tls/tls_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "tls/tls_credential.h"
#include "tls/tls_server.h"
#include "tls/tls_session_inside.h"
#include "tls/tls_shard.h"
#include "tls/tls_verify.h"

enum { GROUPS_MAX = 5 };

/* Key transport: where the alternative is plain text, and hosts may be that old. */
#define SUITES_RSA "kRSA+AESGCM:kRSA+AES+SHA:DES-CBC3-SHA"

static const char suites_strong[] = TLS_SUITES_AEAD;
static const char suites_may[] = TLS_SUITES_CBC; /* where the alternative is plain text */

enum kind { KIND_MAY, KIND_ENCRYPT, KIND_VERIFY, KINDS };

static const char *const kind_suites[KINDS] = {
    [KIND_MAY] = suites_may,
    [KIND_ENCRYPT] = suites_strong,
    [KIND_VERIFY] = suites_strong,
};

struct tls_client {
    struct tls_shard *shard;
    SSL_CTX *contexts[KINDS];
};

/* ---- what the peer presents ---- */

static uint8_t alert_of(enum tls_verdict verdict)
{
    switch (verdict) {
    case TLS_VERDICT_EXPIRED:
    case TLS_VERDICT_NOT_YET: return SSL_AD_CERTIFICATE_EXPIRED;
    case TLS_VERDICT_REVOKED: return SSL_AD_CERTIFICATE_REVOKED;
    case TLS_VERDICT_UNTRUSTED: return SSL_AD_UNKNOWN_CA;
    default: return SSL_AD_BAD_CERTIFICATE;
    }
}

/* Not of a host that is refused anyway: nobody else's lists are fetched. */
static bool wants_look_up(const struct tls_session *session)
{
    const struct tls_client_policy *policy = session->policy;
    bool chain_counts = policy->level >= TLS_LEVEL_CHAIN || session->target.also_must;
    return chain_counts && policy->revocation != TLS_REVOCATION_OFF &&
           session->peer->verdict == TLS_VERDICT_VALID &&
           (session->is_name_ok || policy->level < TLS_LEVEL_NAME);
}

/* A valid chain: does some list say otherwise? Resumed sessions come by here, too. */
static void look_up(struct tls_session *session)
{
    const struct tls_client_policy *policy = session->policy;
    struct tls_peer *peer = session->peer;
    char why[TLS_WHY_MAX];
    enum tls_crl_status status = tls_crl_watch_status(session, peer, why);
    tls_crl_watch_count(session, status);
    if (status == TLS_CRL_UNKNOWN)
        tls_crl_watch_want(session, peer, policy->roots, "");
    if (status == TLS_CRL_REVOKED)
        peer->verdict = TLS_VERDICT_REVOKED;
    else if (status == TLS_CRL_UNKNOWN && policy->revocation == TLS_REVOCATION_HARD)
        peer->verdict = TLS_VERDICT_REVOCATION_UNKNOWN;
    if (peer->verdict != TLS_VERDICT_VALID)
        memcpy(peer->reason, why, sizeof(peer->reason));
}

/* What somebody else than the policy demands besides. why: unless it is there. */
static bool also_ok(const struct tls_session *session, char why[static TLS_WHY_MAX])
{
    const struct tls_peer *peer = session->peer;
    struct slice matched;
    memcpy(why, peer->reason, sizeof(peer->reason));
    return peer->verdict == TLS_VERDICT_VALID &&
           tls_verify_name(peer, &session->target.also, 1, TLS_ALLOW_WILDCARD, &matched, why);
}

/* By the level's conditions; the reason is in peer. why: the name is none that was wanted. */
static bool level_ok(struct tls_session *session, const char why[static TLS_WHY_MAX],
                     uint8_t *alert)
{
    const struct tls_client_policy *policy = session->policy;
    struct tls_peer *peer = session->peer;
    if (policy->level >= TLS_LEVEL_CHAIN && peer->verdict != TLS_VERDICT_VALID) {
        *alert = alert_of(peer->verdict);
        return false;
    }
    if (session->is_name_ok)
        return true;
    if (peer->reason[0] == '\0')
        memcpy(peer->reason, why, sizeof(peer->reason));
    *alert = SSL_AD_BAD_CERTIFICATE;
    return policy->level < TLS_LEVEL_NAME;
}

/* By the policy's TLSA records, if it has some; the reason is in peer. */
static bool dane_ok(struct tls_session *session, uint8_t *alert)
{
    const struct tls_client_policy *policy = session->policy;
    char unfit[TLS_WHY_MAX];
    if (policy->dane == NULL)
        return true;
    session->dane =
        tls_dane_verify(SSL_get0_peer_certificates(session->ssl), policy->dane, policy->dane_names,
                        policy->dane_names_count, *session->shard->wall_us / US_IN_S, unfit);
    if (session->dane >= TLS_DANE_EE)
        return true;
    *alert = SSL_AD_BAD_CERTIFICATE;
    memcpy(session->peer->reason, unfit, sizeof(unfit));
    return false;
}

/* By the keys that are pinned, once the level's conditions are met; the reason is in peer. */
static bool pin_ok(struct tls_session *session, uint8_t *alert)
{
    const struct tls_client_policy *policy = session->policy;
    struct tls_peer *peer = session->peer;
    if (policy->pins_count == 0 || tls_verify_pin(peer, policy->pins, policy->pins_count) >= 0)
        return true;
    *alert = SSL_AD_BAD_CERTIFICATE;
    session->is_pin_missed = true;
    tls_why(peer->reason, "its public key is none of those that are pinned");
    return false;
}

static enum ssl_verify_result_t on_verify(SSL *ssl, uint8_t *alert)
{
    struct tls_session *session = tls_session_of(ssl);
    const struct tls_client_policy *policy = session->policy;
    if (policy->is_blind)
        return ssl_verify_ok;
    if (session->peer == NULL)
        session->peer = calloc(1, sizeof(*session->peer));
    if (session->peer == NULL)
        return ssl_verify_invalid;
    struct tls_peer *peer = session->peer;
    if (tls_verify_chain(SSL_get0_peer_certificates(ssl), policy->roots, TLS_PURPOSE_SERVER,
                         *session->shard->wall_us / US_IN_S, peer) < 0)
        return ssl_verify_invalid;
    char why[TLS_WHY_MAX] = "";
    char also[TLS_WHY_MAX] = "";
    struct slice matched;
    session->is_name_ok = tls_verify_name(peer, session->target.names, session->target.names_count,
                                          TLS_ALLOW_WILDCARD, &matched, why);
    if (wants_look_up(session))
        look_up(session);
    session->is_also_ok = session->target.also.size > 0 && also_ok(session, also);
    bool ok = level_ok(session, why, alert);
    ok = dane_ok(session, alert) && ok;
    ok = ok && pin_ok(session, alert);
    if (ok && session->target.also_must && !session->is_also_ok) {
        *alert =
            peer->verdict == TLS_VERDICT_VALID ? SSL_AD_BAD_CERTIFICATE : alert_of(peer->verdict);
        memcpy(peer->reason, also, sizeof(also));
        ok = false;
    }
    if (ok)
        return ssl_verify_ok;
    session->reason = peer->reason;
    return ssl_verify_invalid;
}

/* ---- sessions to be resumed ---- */

/* What was found when the certificate was judged, kept with the session: below CHAIN a resumption
 * does not judge again, and is still told of. */
struct kept_verdict {
    enum tls_verdict verdict;
    bool is_asked; /* the host knows us by our certificate, or for want of one */
    char reason[TLS_WHY_MAX];
};

static int kept_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void kept_free(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl,
                      void *argp)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)argl;
    (void)argp;
    free(pointer);
}

static void make_once(void)
{
    kept_index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, kept_free);
    CHECK(kept_index >= 0);
}

static void keep_verdict(const struct tls_session *session, SSL_SESSION *kept)
{
    const struct tls_peer *peer = session->peer;
    struct kept_verdict *verdict = malloc(sizeof(*verdict));
    if (verdict == NULL)
        return;
    verdict->verdict = peer->verdict;
    verdict->is_asked = session->is_asked;
    memcpy(verdict->reason, peer->reason, sizeof(verdict->reason));
    if (!SSL_SESSION_set_ex_data(kept, kept_index, verdict))
        free(verdict);
}

/* From the session that is offered: what the handshake makes of it does not have this any more. */
static void take_verdict(struct tls_session *session, const SSL_SESSION *kept)
{
    const struct kept_verdict *verdict = SSL_SESSION_get_ex_data(kept, kept_index);
    if (verdict == NULL)
        return;
    session->kept = malloc(sizeof(*verdict));
    if (session->kept != NULL)
        memcpy(session->kept, verdict, sizeof(*verdict));
}

void tls_client_recall(struct tls_session *session)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(session->ssl);
    const struct kept_verdict *verdict = session->kept;
    session->is_asked = verdict != NULL && verdict->is_asked;
    if (session->peer != NULL || chain == NULL || verdict == NULL)
        return;
    struct tls_peer *peer = calloc(1, sizeof(*peer));
    const char *why;
    if (peer == NULL)
        return;
    if (tls_certificate_look(tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, 0)), &peer->leaf,
                             &why) < 0) {
        free(peer);
        return;
    }
    peer->verdict = verdict->verdict;
    memcpy(peer->reason, verdict->reason, sizeof(peer->reason));
    struct slice matched;
    char ignored[TLS_WHY_MAX];
    session->is_name_ok = tls_verify_name(peer, session->target.names, session->target.names_count,
                                          TLS_ALLOW_WILDCARD, &matched, ignored);
    session->peer = peer;
}

static void session_key(struct tls_session *session)
{
    const struct tls_client_target *target = &session->target;
    SHA256_CTX hash;
    SHA256_Init(&hash);
    SHA256_Update(&hash, target->host, TLS_CLIENT_HOST_BYTES);
    SHA256_Update(&hash, target->server_name, strlen(target->server_name) + 1);
    SHA256_Update(&hash, session->policy->digest, sizeof(session->policy->digest));
    SHA256_Final(session->key, &hash);
}

static int on_new_session(SSL *ssl, SSL_SESSION *kept)
{
    const struct tls_session *session = tls_session_of(ssl);
    if (session->shard->sessions == NULL)
        return 0;
    if (session->peer != NULL)
        keep_verdict(session, kept);
    const struct tls_lru_key key = tls_lru_key_of(slice_of(session->key, sizeof(session->key)));
    tls_client_cache_put(session->shard->sessions, &key, kept);
    return 1; /* the reference is the cache's */
}

static void resume(struct tls_session *session)
{
    if (session->shard->sessions == NULL || session->target.step != TLS_STEP_ALL ||
        session->target.is_fresh)
        return;
    const struct tls_lru_key key = tls_lru_key_of(slice_of(session->key, sizeof(session->key)));
    SSL_SESSION *kept = tls_client_cache_take(session->shard->sessions, &key,
                                              (uint64_t)(*session->shard->wall_us / US_IN_S));
    if (kept == NULL)
        return;
    SSL_set_session(session->ssl, kept);
    take_verdict(session, kept);
    SSL_SESSION_free(kept);
}

/* ---- contexts ---- */

/* The host wants a certificate: if we have one, it has been set already. */
static int on_asked(SSL *ssl, void *unused)
{
    (void)unused;
    tls_session_of(ssl)->is_asked = true;
    return 1;
}

static SSL_CTX *context_make(const struct tls_client *client, enum kind kind)
{
    static const uint16_t signatures[] = {
        SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256,
        SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384, SSL_SIGN_RSA_PKCS1_SHA384,
        SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512,    SSL_SIGN_ED25519,
        SSL_SIGN_ECDSA_SECP521R1_SHA512,
    };
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    if (context == NULL)
        return NULL;
    if (!SSL_CTX_set_verify_algorithm_prefs(context, signatures, ARRAY_COUNT(signatures)) ||
        !SSL_CTX_set_cipher_list(context, kind_suites[kind])) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set0_buffer_pool(context, client->shard->certificates);
    SSL_CTX_set_current_time_cb(context, tls_session_clock);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_new_session);
    SSL_CTX_set_reverify_on_resume(context, kind == KIND_VERIFY);
    SSL_CTX_set_cert_cb(context, on_asked, NULL);
    SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER, on_verify);
    return context;
}

int tls_client_make(struct tls_shard *shard, struct tls_client **out)
{
    pthread_once(&once, make_once);
    struct tls_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    client->shard = shard;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        client->contexts[kind] = context_make(client, kind);
        if (client->contexts[kind] == NULL) {
            tls_client_free(client);
            ERR_clear_error();
            return -ENOMEM;
        }
    }
    *out = client;
    return 0;
}

void tls_client_free(struct tls_client *client)
{
    if (client == NULL)
        return;
    for (enum kind kind = 0; kind < KINDS; kind++)
        SSL_CTX_free(client->contexts[kind]);
    free(client);
}

void tls_client_policy_seal(struct tls_client_policy *policy, const struct slice *names,
                            unsigned names_count)
{
    const uint8_t fixed[] = { (uint8_t)policy->level, (uint8_t)policy->version_min,
                              policy->needs_hybrid, (uint8_t)policy->revocation };
    SHA256_CTX hash;
    SHA256_Init(&hash);
    SHA256_Update(&hash, fixed, sizeof(fixed));
    if (policy->roots != NULL)
        SHA256_Update(&hash, tls_roots_digest(policy->roots),
                      strlen(tls_roots_digest(policy->roots)));
    if (policy->credential != NULL)
        SHA256_Update(&hash, tls_credential_leaf(policy->credential)->digest, TLS_DIGEST_BYTES);
    for (unsigned i = 0; i < policy->pins_count; i++)
        SHA256_Update(&hash, policy->pins[i], TLS_DIGEST_BYTES);
    for (unsigned i = 0; i < names_count; i++) {
        SHA256_Update(&hash, names[i].data, names[i].size);
        SHA256_Update(&hash, "", 1);
    }
    if (policy->dane != NULL) {
        uint8_t digest[SHA256_DIGEST_LENGTH];
        tls_dane_digest(policy->dane, digest);
        SHA256_Update(&hash, digest, sizeof(digest));
        for (unsigned i = 0; i < policy->dane_names_count; i++) {
            SHA256_Update(&hash, policy->dane_names[i].data, policy->dane_names[i].size);
            SHA256_Update(&hash, "", 1);
        }
    }
    static_assert(sizeof(policy->digest) == SHA256_DIGEST_LENGTH);
    SHA256_Final(policy->digest, &hash);
}

/* ---- what is offered ---- */

bool tls_client_has_hybrid(void)
{
#ifdef NID_X25519MLKEM768
    return true;
#else
    return false;
#endif
}

enum tls_step tls_client_step_after(const struct tls_client_policy *policy, enum tls_step step)
{
    if (policy->needs_hybrid)
        return TLS_STEPS; /* none below has it */
    switch (step) {
    case TLS_STEP_ALL:
        if (tls_client_has_hybrid())
            return TLS_STEP_SMALL;
        [[fallthrough]];
    case TLS_STEP_SMALL:
        if (policy->version_min <= TLS_VERSION_12)
            return TLS_STEP_12;
        return TLS_STEPS;
    case TLS_STEP_12:
    case TLS_STEP_QUIET:
        return policy->level == TLS_LEVEL_MAY && policy->version_min < TLS_VERSION_12 ? TLS_STEP_RSA
                                                                                      : TLS_STEPS;
    default: return TLS_STEPS;
    }
}

bool tls_client_step_fits(const struct tls_client_policy *policy, enum tls_step step)
{
    if (policy->needs_hybrid)
        return step == TLS_STEP_ALL;
    switch (step) {
    case TLS_STEP_12:
    case TLS_STEP_QUIET: return policy->version_min <= TLS_VERSION_12;
    case TLS_STEP_RSA:
        return policy->level == TLS_LEVEL_MAY && policy->version_min < TLS_VERSION_12;
    default: return true;
    }
}

const char *tls_level_name(enum tls_level level)
{
    static const char *const names[TLS_LEVELS] = {
        [TLS_LEVEL_NONE] = "none",   [TLS_LEVEL_MAY] = "may",   [TLS_LEVEL_ENCRYPT] = "encrypt",
        [TLS_LEVEL_CHAIN] = "chain", [TLS_LEVEL_NAME] = "name", [TLS_LEVEL_INTERNAL] = "internal",
    };
    CHECK(level < TLS_LEVELS);
    return names[level];
}

const char *tls_client_step_name(enum tls_step step)
{
    static const char *const names[TLS_STEPS + 1] = {
        [TLS_STEP_ALL] = "all",    [TLS_STEP_SMALL] = "small",
        [TLS_STEP_12] = "tls-1.2", [TLS_STEP_QUIET] = "tls-1.2-quiet",
        [TLS_STEP_RSA] = "rsa",    [TLS_STEPS] = "clear",
    };
    return names[step];
}

/* The groups we have, strongest first. */
static const struct {
    uint16_t id;
    int nid;
    const char *name;
} groups[] = {
#ifdef NID_X25519MLKEM768
    { TLS_GROUP_X25519MLKEM768, NID_X25519MLKEM768, "X25519MLKEM768" },
#endif
    { SSL_CURVE_X25519, NID_X25519, "X25519" },
    { SSL_CURVE_SECP256R1, NID_X9_62_prime256v1, "P-256" },
    { SSL_CURVE_SECP384R1, NID_secp384r1, "P-384" },
    { SSL_CURVE_SECP521R1, NID_secp521r1, "P-521" },
};
static_assert(ARRAY_COUNT(groups) <= GROUPS_MAX);

uint16_t tls_client_group_named(const char *name)
{
    for (unsigned i = 0; i < ARRAY_COUNT(groups); i++)
        if (strcmp(groups[i].name, name) == 0)
            return groups[i].id;
    return 0;
}

static bool offer_only(SSL *ssl, const struct tls_client_target *target)
{
    int nids[2];
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(groups); i++)
        if (groups[i].id == target->group_only)
            nids[count++] = groups[i].nid;
    if (target->version_max != TLS_VERSION_13 && target->group_only != SSL_CURVE_SECP256R1)
        nids[count++] = NID_X9_62_prime256v1; /* else no such certificate can be presented */
    return SSL_set1_curves(ssl, nids, count) == 1;
}

/* The one that the host chose last time comes first, so that its key share is there at once. */
static bool offer_groups(SSL *ssl, const struct tls_client_target *target)
{
    if (target->group_only != 0)
        return offer_only(ssl, target);
    int nids[GROUPS_MAX];
    unsigned count = 0;
    unsigned skip = tls_client_has_hybrid() && target->step != TLS_STEP_ALL ? 1 : 0;
    for (unsigned i = skip; i < ARRAY_COUNT(groups); i++)
        if (groups[i].id == target->group)
            nids[count++] = groups[i].nid;
    for (unsigned i = skip; i < ARRAY_COUNT(groups); i++)
        if (groups[i].id != target->group)
            nids[count++] = groups[i].nid;
    return SSL_set1_curves(ssl, nids, count) == 1;
}

static enum kind kind_of(const struct tls_client_policy *policy)
{
    if (policy->level >= TLS_LEVEL_CHAIN || policy->dane != NULL)
        return KIND_VERIFY;
    return policy->level > TLS_LEVEL_MAY ? KIND_ENCRYPT : KIND_MAY;
}

/* Who looks at certificates for more than the record, does so at each resumption too. */
static enum kind kind_for(const struct tls_client_policy *policy,
                          const struct tls_client_target *target)
{
    return target->also.size > 0 ? KIND_VERIFY : kind_of(policy);
}

static const char *suites_of(const struct tls_client_policy *policy, enum tls_step step)
{
    if (step == TLS_STEP_RSA)
        return SUITES_RSA;
    if (policy->level > TLS_LEVEL_MAY)
        return suites_strong;
    return policy->version_min < TLS_VERSION_12 ? TLS_SUITES_CBC ":" SUITES_RSA : suites_may;
}

/* Else those of the context are offered. */
static bool offer_suites(SSL *ssl, const struct tls_client_policy *policy,
                         const struct tls_client_target *target)
{
    const char *suites = suites_of(policy, target->step);
    return suites == kind_suites[kind_for(policy, target)] || SSL_set_cipher_list(ssl, suites) == 1;
}

static bool offer(struct tls_session *session)
{
    SSL *ssl = session->ssl;
    const struct tls_client_policy *policy = session->policy;
    const struct tls_client_target *target = &session->target;
    unsigned most = target->step >= TLS_STEP_12 ? TLS_VERSION_12 : TLS_VERSION_13;
    if (target->version_max != 0)
        most = MIN(most, target->version_max);
    if (target->step == TLS_STEP_12)
        SSL_set_mode(ssl, SSL_MODE_SEND_FALLBACK_SCSV);
#if BORINGSSL_API_VERSION <= 41
    if (target->step == TLS_STEP_QUIET) /* newer ones cannot be talked out of it */
        SSL_set_enforce_rsa_key_usage(ssl, 0);
#endif
    if (target->no_tickets)
        SSL_set_options(ssl, SSL_OP_NO_TICKET);
    return SSL_set_min_proto_version(ssl, (uint16_t)MIN(policy->version_min, most)) == 1 &&
           SSL_set_max_proto_version(ssl, (uint16_t)most) == 1 &&
           offer_suites(ssl, policy, target) && offer_groups(ssl, target) &&
           (*target->server_name == '\0' ||
            SSL_set_tlsext_host_name(ssl, target->server_name) == 1) &&
           (policy->credential == NULL || tls_credential_use_for(policy->credential, ssl) == 0);
}

struct tls_session *tls_client_connect(struct tls_client *client,
                                       const struct tls_client_policy *policy,
                                       const struct tls_client_target *target,
                                       const struct tls_ends *ends, void *owner)
{
    CHECK(policy->level != TLS_LEVEL_NONE);
    CHECK(!policy->is_blind || kind_of(policy) != KIND_VERIFY);
    struct tls_session *session =
        tls_session_new(client->contexts[kind_for(policy, target)], client->shard, ends, owner);
    if (session == NULL)
        return NULL;
    session->policy = policy;
    session->target = *target;
    SSL_set_connect_state(session->ssl);
    if (!offer(session)) {
        ERR_clear_error();
        tls_session_free(session);
        return NULL;
    }
    session_key(session);
    resume(session);
    return session;
}

/* ---- what came of it ---- */

uint16_t tls_client_group(const struct tls_session *session)
{
    return SSL_get_curve_id(session->ssl);
}

bool tls_client_is_hybrid(const struct tls_session *session)
{
    return tls_client_group(session) == TLS_GROUP_X25519MLKEM768;
}

bool tls_client_asked(const struct tls_session *session)
{
    return session->is_asked;
}

static int reason_of(const struct tls_session *session)
{
    return ERR_GET_LIB(session->error) == ERR_LIB_SSL ? ERR_GET_REASON(session->error) : 0;
}

bool tls_client_refused(const struct tls_session *session)
{
    if (!session->is_asked)
        return false;
    switch (reason_of(session) - SSL_AD_REASON_OFFSET) {
    case SSL_AD_HANDSHAKE_FAILURE: /* RFC 5246 7.4.6: of who was asked and has none */
    case SSL_AD_NO_CERTIFICATE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED: return true;
    default: return false;
    }
}

bool tls_client_pin_missed(const struct tls_session *session)
{
    return session->is_pin_missed;
}

bool tls_client_retried(const struct tls_session *session)
{
    return SSL_used_hello_retry_request(session->ssl) != 0;
}

bool tls_client_misused(const struct tls_session *session)
{
    return session->target.step < TLS_STEP_QUIET &&
           session->policy->version_min <= TLS_VERSION_12 &&
           reason_of(session) == SSL_R_KEY_USAGE_BIT_INCORRECT;
}

bool tls_client_offered_less(const struct tls_session *session)
{
    int reason = reason_of(session);
    return session->target.step >= TLS_STEP_12 &&
           (reason == SSL_R_TLSV1_ALERT_INAPPROPRIATE_FALLBACK ||
            reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
}

bool tls_client_too_weak(const struct tls_session *session)
{
    int reason = reason_of(session);
    return session->target.step < TLS_STEP_12 &&
           (reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION || reason == SSL_R_UNSUPPORTED_PROTOCOL);
}

bool tls_client_name_ok(const struct tls_session *session)
{
    return session->is_name_ok;
}

bool tls_client_has_name(const struct tls_session *session, const struct slice *names,
                         unsigned names_count)
{
    struct slice matched;
    char ignored[TLS_WHY_MAX];
    return session->peer != NULL && tls_verify_name(session->peer, names, names_count,
                                                    TLS_ALLOW_WILDCARD, &matched, ignored);
}

void tls_client_name_is(struct tls_session *session, bool ok)
{
    session->is_name_ok = ok;
}

enum tls_dane_match tls_client_dane(const struct tls_session *session)
{
    return session->dane;
}

bool tls_client_also_ok(const struct tls_session *session)
{
    return session->is_also_ok;
}
