/*
 * secure.c - the load generator's TLS options, and the contexts of its threads
 *
 * One struct tls_shard for each thread. A client's key-share pool is filled before the start, and
 * never again. The group and the version that were asked for are the only ones offered, so a
 * server without them is a failed handshake and not another figure.
 */
#include "bench/secure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/options.h"
#include "bench/result.h"
#include "core/check.h"
#include "tls/tls_credential.h"

enum {
    ID_CACHE_SLOTS = 1 << 15,
    LIFETIME_S = 86'400,
    LIFETIME_MS = 86'400'000,
    PERCENT = 100,
};

/* ---- the command line ---- */

static double option_share(const char *option, const char *text)
{
    size_t size = strlen(text);
    char number[32];
    if (size == 0 || size >= sizeof(number) || text[size - 1] != '%')
        return option_decimal(option, text, 0, 1);
    memcpy(number, text, size - 1);
    number[size - 1] = '\0';
    return option_decimal(option, number, 0, PERCENT) / PERCENT;
}

static enum secure_mode option_mode(const char *text)
{
    static const char *const modes[] = {
        [SECURE_NONE] = "none", [SECURE_STARTTLS] = "starttls", [SECURE_IMPLICIT] = "implicit"
    };
    for (unsigned i = 0; i < ARRAY_COUNT(modes); i++)
        if (strcmp(text, modes[i]) == 0)
            return (enum secure_mode)i;
    option_wrong("--tls", "takes none, starttls or implicit");
}

static unsigned option_version(const char *text)
{
    if (strcmp(text, "1.2") == 0)
        return TLS_VERSION_12;
    if (strcmp(text, "1.3") != 0)
        option_wrong("--tls-version", "takes 1.2 or 1.3");
    return TLS_VERSION_13;
}

static void option_pair(const char *option, const char *text, const char **list, unsigned *count)
{
    if (*count == SECURE_PAIRS_MAX)
        option_wrong(option, "is given too often");
    list[(*count)++] = text;
}

void secure_option(struct secure_options *o, int option, const char *text)
{
    switch (option) {
    case SECURE_TLS: o->mode = option_mode(text); break;
    case SECURE_VERSION: o->version = option_version(text); break;
    case SECURE_GROUP:
        if (tls_client_group_named(text) == 0)
            option_wrong("--tls-group", "is not one that this library has");
        o->group = text;
        break;
    case SECURE_RESUME: o->resume = option_share("--tls-resume", text); break;
    case SECURE_KEY_SHARES:
        o->key_shares = (uint32_t)option_number("--tls-key-shares", text, 0, TLS_KEYSHARES_MAX);
        break;
    case SECURE_NO_TICKETS: o->no_tickets = true; break;
    case SECURE_SERVER_NAME: o->server_name = text; break;
    case SECURE_CERT: option_pair("--cert", text, o->certs, &o->certs_count); break;
    case SECURE_KEY: option_pair("--key", text, o->keys, &o->keys_count); break;
    default: exit(EXIT_USAGE); /* getopt_long has said why */
    }
}

void secure_check_client(const struct secure_options *o)
{
    if (o->mode == SECURE_NONE && (o->version != 0 || o->group != NULL || o->resume > 0))
        option_wrong("--tls", "none has no version, no group, and resumes nothing");
}

void secure_check_server(const struct secure_options *o)
{
    if (o->certs_count != o->keys_count)
        option_wrong("--key", "is needed for each --cert, in the same order");
    if (o->mode != SECURE_NONE && o->certs_count == 0)
        option_wrong("--tls", "needs --cert and --key");
}

/* ---- numbers ---- */

json_t *secure_json(const struct secure_counts *first, size_t stride, unsigned count)
{
    struct histogram *latency = calloc(1, sizeof(*latency));
    if (latency == NULL)
        return json_null();
    for (unsigned i = 0; i < count; i++)
        histogram_merge(latency, (const void *)((const char *)&first->latency + i * stride));
    json_t *json = json_pack("{s:I, s:I, s:I, s:o}", "full",
                             (json_int_t)result_sum(&first->full, stride, count), "resumed",
                             (json_int_t)result_sum(&first->resumed, stride, count), "failed",
                             (json_int_t)result_sum(&first->failed, stride, count), "handshake_us",
                             result_latency(latency));
    free(latency);
    return json;
}

static long long integer_of(const json_t *json, const char *key)
{
    return (long long)json_integer_value(json_object_get(json, key));
}

void secure_print(const struct secure_options *o, const json_t *json)
{
    if (o->mode == SECURE_NONE)
        return;
    const json_t *latency = json_object_get(json, "handshake_us");
    printf("TLS handshakes %lld full, %lld resumed, %lld failed, us p50 %lld p99 %lld max %lld\n",
           integer_of(json, "full"), integer_of(json, "resumed"), integer_of(json, "failed"),
           integer_of(latency, "p50"), integer_of(latency, "p99"), integer_of(latency, "max"));
}

void secure_count(struct secure_counts *counts, const struct tls_session *session,
                  uint64_t latency_us)
{
    struct tls_facts facts;
    tls_session_facts(session, &facts);
    metric_add(facts.is_resumed ? &counts->resumed : &counts->full, 1);
    histogram_add(&counts->latency, latency_us);
}

/* ---- the client ---- */

static void hosts_number(struct secure_client *c, uint32_t slots)
{
    for (uint32_t i = 0; i < slots; i++)
        memcpy(c->hosts[i], &i, sizeof(i));
}

int secure_client_init(struct secure_client *c, const struct secure_options *options,
                       const int64_t *wall_us, struct random *random, uint32_t slots)
{
    *c = (struct secure_client) { .options = options, .random = random };
    if (options->mode == SECURE_NONE)
        return 0;
    c->hosts = calloc(slots, sizeof(*c->hosts));
    if (c->hosts == NULL)
        return -ENOMEM;
    hosts_number(c, slots);
    int r = tls_shard_init(&c->shard, wall_us);
    if (r == 0)
        r = tls_client_cache_init(&c->sessions, slots);
    if (r == 0)
        c->shard.sessions = &c->sessions;
    if (r == 0)
        r = tls_client_make(&c->shard, &c->client);
    if (r == 0 && options->key_shares > 0)
        r = tls_keyshares_make(options->key_shares, LIFETIME_MS, &c->shard.keyshares);
    if (r == 0 && options->key_shares > 0)
        (void)tls_keyshares_fill(c->shard.keyshares, options->key_shares, 0);
    c->policy = (struct tls_client_policy) {
        .level = TLS_LEVEL_ENCRYPT,
        .version_min = options->version == 0 ? TLS_VERSION_12 : options->version,
        .is_blind = true,
    };
    tls_client_policy_seal(&c->policy, NULL, 0);
    return r;
}

void secure_client_free(struct secure_client *c)
{
    tls_client_free(c->client);
    tls_keyshares_free(c->shard.keyshares);
    if (c->shard.sessions != NULL)
        tls_client_cache_free(&c->sessions);
    if (c->shard.certificates != NULL)
        tls_shard_free(&c->shard);
    free(c->hosts);
    c->hosts = NULL;
    c->client = NULL;
}

static bool chance(struct random *random, double share)
{
    return share >= 1 || (double)(random_next(random) >> 11) < share * 0x1p53;
}

struct tls_session *secure_client_connect(struct secure_client *c, uint32_t slot,
                                          const struct tls_ends *ends, void *owner)
{
    const struct secure_options *o = c->options;
    const struct tls_client_target target = {
        .host = c->hosts[slot],
        .server_name = o->server_name == NULL ? "" : o->server_name,
        .group_only = o->group == NULL ? 0 : tls_client_group_named(o->group),
        .version_max = o->version,
        .is_fresh = !chance(c->random, o->resume),
        .no_tickets = o->no_tickets,
    };
    return tls_client_connect(c->client, &c->policy, &target, ends, owner);
}

/* ---- the server ---- */

int secure_keys_make(const struct secure_options *options, struct secure_keys *keys)
{
    *keys = (struct secure_keys) { 0 };
    for (unsigned i = 0; i < options->certs_count; i++) {
        char why[TLS_WHY_MAX];
        int r = tls_credential_load(options->certs[i], options->keys[i],
                                    &keys->credentials[keys->credentials_count], why);
        if (why[0] != '\0')
            fprintf(stderr, "ringpost-bench: %s: %s\n", options->certs[i], why);
        if (r < 0)
            return r;
        keys->credentials_count++;
    }
    if (options->mode == SECURE_NONE || options->resume <= 0)
        return 0;
    tls_ticket_keys_make((int64_t)result_now_ns() / 1'000, &keys->tickets);
    return tls_id_cache_make(ID_CACHE_SLOTS, LIFETIME_S, &keys->ids);
}

void secure_keys_free(struct secure_keys *keys)
{
    for (unsigned i = 0; i < keys->credentials_count; i++)
        tls_credential_drop(keys->credentials[i]);
    tls_ticket_keys_wipe(&keys->tickets);
    tls_id_cache_free(keys->ids);
    *keys = (struct secure_keys) { 0 };
}

/* TLS 1.2 shows a P-256 certificate only to groups that have it. */
static const char *groups_of(const struct secure_options *o, char text[static 64])
{
    if (o->group == NULL)
        return NULL;
    bool alone = o->version == TLS_VERSION_13 || strcmp(o->group, "P-256") == 0;
    snprintf(text, 64, "%s%s", o->group, alone ? "" : ":P-256");
    return text;
}

int secure_server_init(struct secure_server *s, const struct secure_options *options,
                       const struct secure_keys *keys, const int64_t *wall_us,
                       const uint64_t *now_ms)
{
    *s = (struct secure_server) { .server = NULL };
    if (options->mode == SECURE_NONE)
        return 0;
    int r = tls_shard_init(&s->shard, wall_us);
    s->shard.ids.cache = keys->ids;
    s->shard.ids.now_ms = now_ms;
    if (r == 0 && keys->ids != NULL && !options->no_tickets) {
        r = tls_tickets_make(&s->shard.tickets);
        if (r == 0)
            r = tls_tickets_take(s->shard.tickets, &keys->tickets);
    }
    char groups[64];
    const struct tls_server_options server = {
        .name = "sink",
        .credentials = keys->credentials,
        .credentials_count = keys->credentials_count,
        .version_min = options->version == 0 ? TLS_VERSION_12 : options->version,
        .version_max = options->version,
        .groups = groups_of(options, groups),
        .lifetime_s = LIFETIME_S,
    };
    return r < 0 ? r : tls_server_make(&server, &s->shard, &s->server);
}

void secure_server_free(struct secure_server *s)
{
    tls_server_free(s->server);
    tls_tickets_free(s->shard.tickets);
    if (s->shard.certificates != NULL)
        tls_shard_free(&s->shard);
    *s = (struct secure_server) { .server = NULL };
}
