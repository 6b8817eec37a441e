/*
 * probe.c - attempts on the addresses of a host, and the verdict
 *
 *   for each address: attempt at the strongest step --handshake failed--> the next step ...
 *     ready, or a fault that no weaker step cures --> the next address, unless it is good
 *   by TLS: once more, to see whether the session is resumed
 *
 * Each attempt leaves an object; the one that got furthest is the result. One thread, one attempt
 * at a time: all state is static. Bounds: PROBE_ADDRESSES_MAX, TLS_STEPS attempts on each.
 */
#include "mta/probe.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "core/ring.h"
#include "mta/cert_text.h"
#include "mta/cli.h"
#include "mta/smtp_client.h"
#include "tls/tls_client.h"
#include "tls/tls_shard.h"
#include "tls/tls_verify.h"

enum {
    RING_ENTRIES = 64,
    SOCKETS = 8,
    RECV_BUFFERS = 32,
    RECV_BUFFER_BYTES = 16'384,
    TURN_MS = 1'000,
    KEY_SHARES = 16,
    KEY_SHARE_AGE_MS = 3'600'000,
    CACHE_KEYS = 8,
    US_IN_S = 1'000'000,
    QUIT_MS = 2'000,
    LINE_BYTES = 1'024,
    TEXTS_BYTES = 16'384,
};

/* How far an attempt got: the furthest one is shown. */
enum reach { REACH_NOTHING, REACH_CONNECTED, REACH_GREETED, REACH_HELLO, REACH_TLS, REACH_READY };

static struct {
    const struct probe_options *options;
    struct ring *ring;
    struct shard shard;
    struct connection_pools pools;
    struct smtp_clients clients;
    struct smtp_client_timeouts timeouts;
    struct tls_shard tls;
    struct tls_client_cache sessions;
    struct tls_client *tls_client;
    uint16_t group;  /* that the host chose */
    bool mailed;     /* the message has been given to a session */
    bool mail_given; /* its content, likewise */
    struct smtp_transaction transaction;
    struct smtp_recipient recipients[PROBE_RECIPIENTS_MAX];
    uint8_t texts[TEXTS_BYTES];
} probe;

static struct attempt {
    bool gone;
    bool ready;
    bool secured; /* and by TLS */
    bool offered; /* STARTTLS */
    bool strong;  /* TLS 1.2 or newer, and AEAD */
    bool judged;  /* the certificate was looked at */
    bool valid;
    bool named;
    bool resumed;
    enum reach reach;
    enum smtp_tls_fault fault;
    char why[LINE_BYTES]; /* "": nothing is wrong */
    uint64_t began_ns, handshake_ns;
    json_t *detail;
} attempt;

/* ---- what is seen ---- */

static json_t *milliseconds_since(uint64_t from_ns)
{
    uint64_t now_ns;
    int64_t wall_us;
    ring_clock(probe.ring, &now_ns, &wall_us);
    uint64_t microseconds = (now_ns - from_ns) / 1'000;
    return json_real((double)microseconds / 1e3);
}

static void reached(enum reach reach)
{
    attempt.reach = MAX(attempt.reach, reach);
}

static void set(const char *key, const char *text)
{
    json_object_set_new(attempt.detail, key, cli_string(text));
}

static void append(const char *key, const char *text)
{
    json_t *list = json_object_get(attempt.detail, key);
    if (list == NULL)
        json_object_set_new(attempt.detail, key, list = json_array());
    json_array_append_new(list, cli_string(text));
}

static void on_heard(struct smtp_client *client, struct slice line)
{
    char text[LINE_BYTES], whole[LINE_BYTES + 8];
    tls_text_escape(line, text, sizeof(text));
    snprintf(whole, sizeof(whole), "%u %s", client->response.code, text);
    switch (client->state) {
    case SMTP_CLIENT_GREETING:
        if (json_object_get(attempt.detail, "greeting_ms") == NULL)
            json_object_set_new(attempt.detail, "greeting_ms",
                                milliseconds_since(attempt.began_ns));
        append("greeting", whole);
        reached(REACH_GREETED);
        break;
    case SMTP_CLIENT_EHLO:
        attempt.offered = attempt.offered || (client->capabilities.can & SMTP_CAN_STARTTLS) != 0;
        if (client->response.code == 250 && client->capabilities.lines > 1)
            append(client->secured ? "ehlo_tls" : "ehlo", text);
        else if (client->response.code != 250)
            append("refused", whole);
        reached(REACH_HELLO);
        break;
    case SMTP_CLIENT_STARTTLS: append("starttls_reply", whole); break;
    default: break;
    }
}

/* ---- the handshake ---- */

static bool is_strong(const struct tls_facts *facts)
{
    bool recent = strcmp(facts->version, "TLSv1.3") == 0 || strcmp(facts->version, "TLSv1.2") == 0;
    return recent && strstr(facts->suite, "_CBC_") == NULL &&
           strncmp(facts->suite, "TLS_RSA_", 8) != 0;
}

static void see_peer(const struct tls_session *session, const struct tls_peer *peer)
{
    const struct probe_options *o = probe.options;
    char why[TLS_WHY_MAX], name[TLS_NAME_MAX + 1] = "";
    struct slice matched = SLICE("");
    attempt.judged = true;
    attempt.valid = peer->verdict == TLS_VERDICT_VALID;
    attempt.named =
        tls_verify_name(peer, o->names, o->names_count, TLS_ALLOW_WILDCARD, &matched, why);
    slice_to_string(matched, name, sizeof(name));
    json_t *chain = json_array();
    for (unsigned i = 0; i < tls_session_chain_count(session); i++)
        json_array_append_new(
            chain, cert_json_of(tls_session_chain_at(session, i), probe.shard.wall_us / US_IN_S));
    json_object_set_new(attempt.detail, "certificates", chain);
    set("root", peer->root);
    set("verdict", tls_verdict_name(peer->verdict));
    set("reason", attempt.valid ? "" : peer->reason);
    json_object_set_new(attempt.detail, "name",
                        json_pack("{s:b, s:o, s:o}", "ok", attempt.named, "matched",
                                  cli_string(name), "why", cli_string(why)));
}

static void on_handshake(struct smtp_client *client, bool over)
{
    if (!over) {
        int64_t wall_us;
        ring_clock(probe.ring, &attempt.handshake_ns, &wall_us);
        return;
    }
    const struct tls_session *session = client->connection.tls;
    struct tls_facts facts;
    tls_session_facts(session, &facts);
    json_t *tls = json_object();
    json_object_set_new(tls, "handshake_ms", milliseconds_since(attempt.handshake_ns));
    json_object_set_new(tls, "sni", cli_string(facts.server_name));
    if (*facts.suite != '\0') { /* it got as far as the server's hello */
        json_object_set_new(tls, "version", cli_string(facts.version));
        json_object_set_new(tls, "suite", cli_string(facts.suite));
        json_object_set_new(tls, "group", cli_string(facts.group));
        json_object_set_new(tls, "hello_retry", json_boolean(tls_client_retried(session)));
        json_object_set_new(tls, "key_share_pooled", json_boolean(facts.is_pooled));
        json_object_set_new(tls, "resumed", json_boolean(facts.is_resumed));
        attempt.strong = is_strong(&facts);
        attempt.resumed = facts.is_resumed;
        probe.group = tls_client_group(session);
        reached(REACH_TLS);
    }
    json_object_set_new(attempt.detail, "tls", tls);
    const bool asked = tls_client_asked(session);
    if (probe.options->policy->credential != NULL)
        set("client_certificate", asked ? "presented" : "not asked for");
    else if (asked)
        set("client_certificate", "asked for, we have none");
    if (facts.peer != NULL)
        see_peer(session, facts.peer);
    if (facts.peer != NULL && probe.options->policy->dane != NULL)
        set("dane", tls_dane_match_name(tls_client_dane(session)));
}

/* ---- a message ---- */

static int mail_next(void *source, struct slice *out)
{
    const struct probe_mail *mail = source;
    if (probe.mail_given)
        return 0;
    probe.mail_given = true;
    *out = mail->content;
    return 1;
}

static void mail_send(struct smtp_client *client, const struct probe_mail *mail)
{
    CHECK(mail->recipients_count > 0 && mail->recipients_count <= PROBE_RECIPIENTS_MAX);
    for (unsigned i = 0; i < mail->recipients_count; i++)
        probe.recipients[i] = (struct smtp_recipient) { .address = mail->recipients[i] };
    probe.transaction = (struct smtp_transaction) {
        .sender = mail->sender,
        .size = mail->content.size,
        .body = { mail_next, NULL, (void *)(uintptr_t)mail },
        .recipients = probe.recipients,
        .recipients_count = mail->recipients_count,
        .texts = probe.texts,
        .texts_capacity = sizeof(probe.texts),
    };
    probe.mailed = true;
    smtp_client_transact(client, &probe.transaction);
}

static void on_ready(struct smtp_client *client)
{
    const struct probe_mail *mail = probe.options->mail;
    attempt.ready = true;
    attempt.secured = client->secured;
    reached(REACH_READY);
    if (mail != NULL && !probe.mailed)
        mail_send(client, mail);
    else
        smtp_client_quit(client);
}

static void on_done(struct smtp_client *client, struct smtp_transaction *transaction)
{
    (void)client;
    json_t *message = json_array();
    for (uint32_t i = 0; i < transaction->recipients_count; i++) {
        const struct smtp_recipient *r = &transaction->recipients[i];
        char to[LINE_BYTES], text[LINE_BYTES], reply[LINE_BYTES + 8];
        tls_text_escape(r->address, to, sizeof(to));
        tls_text_escape(r->result.text, text, sizeof(text));
        snprintf(reply, sizeof(reply), "%u %s", r->result.code, text);
        json_array_append_new(
            message, json_pack("{s:o, s:b, s:s, s:o}", "to", cli_string(to), "taken",
                               r->result.verdict == SMTP_VERDICT_DELIVERED, "stage",
                               smtp_stage_name(r->result.stage), "reply", cli_string(reply)));
    }
    json_object_set_new(attempt.detail, "message", message);
}

static void on_gone(struct smtp_client *client, const struct smtp_client_end *end)
{
    attempt.gone = true;
    if (client->connection.connected)
        reached(REACH_CONNECTED);
    if (attempt.ready)
        return;
    attempt.fault = end->fault;
    char text[LINE_BYTES];
    tls_text_escape(end->text, text, sizeof(text));
    if (end->code != 0)
        snprintf(attempt.why, sizeof(attempt.why), "%s: %u %s", smtp_stage_name(end->stage),
                 end->code, text);
    else
        snprintf(attempt.why, sizeof(attempt.why), "%s", text);
    if (*attempt.why == '\0')
        snprintf(attempt.why, sizeof(attempt.why), "%s", smtp_gone_name(end->why));
}

/* ---- one attempt ---- */

static const struct smtp_client_callbacks callbacks = {
    .ready = on_ready,
    .done = on_done,
    .gone = on_gone,
    .heard = on_heard,
    .handshake = on_handshake,
};

static void attempt_run(const struct net_address *address, enum tls_step step)
{
    const struct probe_options *o = probe.options;
    uint8_t host[TLS_CLIENT_HOST_BYTES];
    memcpy(host, address->octets, sizeof(address->octets));
    memcpy(host + sizeof(address->octets), &address->port, sizeof(address->port));
    struct smtp_client_target target = {
        .address = *address,
        .host = o->host,
        .protocol = o->is_lmtp ? SMTP_CLIENT_LMTP : SMTP_CLIENT_SMTP,
        .helo_name = o->helo_name,
        .timeouts = &probe.timeouts,
    };
    bool may = o->policy->level == TLS_LEVEL_MAY;
    if (o->policy->level != TLS_LEVEL_NONE)
        target.tls = (struct smtp_client_tls) {
            .client = probe.tls_client,
            .policy = o->policy,
            .clear_without_offer = may && o->clear != ROUTE_CLEAR_NEVER,
            .implicit = o->is_implicit,
            .target = {
                .host = host,
                .server_name = o->server_name != NULL ? o->server_name
                               : o->is_name           ? o->host
                                                      : "",
                .names = o->names,
                .names_count = o->names_count,
                .step = step,
                .group = probe.group,
            },
        };
    attempt = (struct attempt) { .detail = json_object() };
    ring_clock(probe.ring, &attempt.began_ns, &(int64_t) { 0 });
    struct smtp_client *client;
    int r = smtp_client_start(&probe.clients, &target, &callbacks, NULL, &client);
    if (r < 0) {
        snprintf(attempt.why, sizeof(attempt.why), "no socket (%s)", strerror(-r));
        return;
    }
    while (!attempt.gone && r == 0) {
        if (probe.tls.keyshares != NULL) /* as a shard does when it is idle */
            (void)tls_keyshares_fill(probe.tls.keyshares, KEY_SHARES, probe.shard.now_ms);
        r = shard_step(&probe.shard, probe.shard.now_ms + TURN_MS);
    }
    CHECK(r == 0);
}

/* ---- all of them ---- */

struct best {
    struct attempt attempt;
    struct net_address address;
    enum tls_step step;
    bool any;
};

/* What this host would satisfy. A session that the certificate ended was one till then. */
static enum tls_level satisfied(const struct attempt *a)
{
    bool ended_by_us = a->fault >= SMTP_TLS_TOO_WEAK && a->judged;
    if ((!a->secured && !ended_by_us) || !a->strong)
        return TLS_LEVEL_MAY;
    if (!a->judged || !a->valid)
        return TLS_LEVEL_ENCRYPT;
    const struct tls_client_policy *policy = probe.options->policy;
    if (a->named && policy->level == TLS_LEVEL_INTERNAL)
        return TLS_LEVEL_INTERNAL; /* its roots, version and certificate are in the policy */
    return a->named ? TLS_LEVEL_NAME : TLS_LEVEL_CHAIN;
}

static void keep(struct best *best, json_t *attempts, const struct net_address *address,
                 enum tls_step step)
{
    char text[NET_TEXT_MAX];
    net_text(address, true, text);
    bool by_tls = probe.options->policy->level != TLS_LEVEL_NONE;
    json_t *brief =
        json_pack("{s:s, s:b, s:o, s:s, s:o}", "address", text, "ok", attempt.ready, "step",
                  by_tls ? json_string(tls_client_step_name(step)) : json_null(), "fault",
                  smtp_tls_fault_name(attempt.fault), "why", cli_string(attempt.why));
    json_array_append_new(attempts, brief);
    if (best->any && best->attempt.reach >= attempt.reach) {
        json_decref(attempt.detail);
        return;
    }
    json_decref(best->attempt.detail);
    *best = (struct best) { attempt, *address, step, true };
}

static void try_address(const struct net_address *address, struct best *best, json_t *attempts)
{
    enum tls_step step = TLS_STEP_ALL;
    while (step != TLS_STEPS) {
        attempt_run(address, step);
        enum smtp_tls_fault fault = attempt.fault;
        bool ready = attempt.ready;
        keep(best, attempts, address, step);
        if (ready || (fault != SMTP_TLS_HANDSHAKE && fault != SMTP_TLS_TOO_WEAK))
            return; /* a certificate does not get better, nor a refusal */
        step = tls_client_step_after(probe.options->policy, step);
    }
}

static json_t *try_again(const struct best *best)
{
    attempt_run(&best->address, best->step);
    json_t *tls = json_object_get(attempt.detail, "tls");
    const char *why = attempt.why;
    if (attempt.ready && !attempt.resumed)
        why = best->step == TLS_STEP_ALL ? "a full handshake again: no ticket, or not taken"
                                         : "not tried below the strongest step";
    json_t *again = json_pack("{s:b, s:s}", "resumed", attempt.ready && attempt.resumed, "why",
                              attempt.ready && attempt.resumed ? "" : why);
    json_t *took = json_object_get(tls, "handshake_ms");
    if (took != NULL)
        json_object_set(again, "handshake_ms", took);
    json_decref(attempt.detail);
    return again;
}

/* Why the level is not met; "": it is. */
static void judge(const struct best *best, enum tls_level got, char why[static LINE_BYTES])
{
    const struct probe_options *o = probe.options;
    const struct attempt *a = &best->attempt;
    why[0] = '\0';
    if (!a->ready)
        snprintf(why, LINE_BYTES, "%s", a->why);
    else if (got < o->policy->level)
        snprintf(why, LINE_BYTES, "the session satisfies %s only", tls_level_name(got));
    bool clear = o->policy->level == TLS_LEVEL_MAY && o->clear == ROUTE_CLEAR_HANDSHAKE &&
                 (a->fault == SMTP_TLS_HANDSHAKE || a->fault == SMTP_TLS_TOO_WEAK ||
                  a->fault == SMTP_TLS_REFUSED || a->fault == SMTP_TLS_CLIENT_CERT);
    size_t size = strlen(why);
    if (!a->ready && clear)
        snprintf(why + size, LINE_BYTES - size,
                 "; a delivery would go in clear, at its second attempt");
}

static json_t *probe_all(void)
{
    const struct probe_options *o = probe.options;
    struct best best = { .any = false };
    json_t *attempts = json_array(), *result = json_object();
    for (unsigned i = 0; i < o->addresses_count && !(best.any && best.attempt.ready); i++)
        try_address(&o->addresses[i], &best, attempts);
    json_object_set_new(result, "attempts", attempts);
    if (best.any) {
        char text[NET_TEXT_MAX];
        net_text(&best.address, true, text);
        json_object_set_new(result, "address", cli_string(text));
        json_object_set_new(result, "starttls", json_boolean(best.attempt.offered));
        json_object_update(result, best.attempt.detail);
        json_decref(best.attempt.detail);
    }
    json_object_set_new(result, "ready", json_boolean(best.attempt.ready));
    json_object_set_new(result, "secured", json_boolean(best.attempt.secured));
    if (best.attempt.secured)
        json_object_set_new(result, "resumption", try_again(&best));
    enum tls_level got = satisfied(&best.attempt);
    char why[LINE_BYTES];
    judge(&best, got, why);
    bool reachable = best.attempt.reach >= REACH_HELLO;
    json_object_set_new(result, "satisfies",
                        reachable ? json_string(tls_level_name(got)) : json_null());
    json_object_set_new(result, "ok", json_boolean(*why == '\0'));
    json_object_set_new(result, "why", cli_string(why));
    return result;
}

/* ---- the machine ---- */

static int machine_make(const char **what)
{
    const struct ring_options options = {
        .entries = RING_ENTRIES,
        .sockets_max = SOCKETS,
        .recv_buffers = RECV_BUFFERS,
        .recv_buffer_bytes = RECV_BUFFER_BYTES,
    };
    int r = ring_new(&options, &probe.ring, what);
    if (r < 0)
        return r;
    shard_init(&probe.shard, probe.ring, NULL, 0);
    *what = "memory";
    r = connection_pools_init(&probe.pools, probe.ring, SOCKETS);
    if (r == 0)
        r = smtp_clients_init(&probe.clients, &probe.shard, &probe.pools, SOCKETS);
    if (r == 0)
        r = tls_shard_init(&probe.tls, &probe.shard.wall_us);
    if (r == 0 && (r = tls_client_cache_init(&probe.sessions, CACHE_KEYS)) == 0)
        probe.tls.sessions = &probe.sessions;
    if (r == 0)
        r = tls_keyshares_make(KEY_SHARES, KEY_SHARE_AGE_MS, &probe.tls.keyshares);
    if (r == 0)
        r = tls_client_make(&probe.tls, &probe.tls_client);
    return r;
}

static void machine_free(void)
{
    if (probe.ring == NULL)
        return;
    tls_client_free(probe.tls_client);
    if (probe.tls.sessions != NULL)
        tls_client_cache_free(probe.tls.sessions);
    tls_keyshares_use(NULL);
    tls_keyshares_free(probe.tls.keyshares);
    tls_shard_free(&probe.tls);
    smtp_clients_free(&probe.clients);
    connection_pools_free(&probe.pools);
    ring_free(probe.ring);
}

json_t *probe_run(const struct probe_options *options)
{
    const char *what = "";
    memset(&probe, 0, sizeof(probe)); /* what a host before this one chose is not for this one */
    probe.options = options;
    uint32_t ms = options->timeout_ms;
    probe.timeouts = (struct smtp_client_timeouts) {
        .connect_ms = ms,
        .greeting_ms = ms,
        .helo_ms = ms,
        .tls_ms = ms,
        .mail_ms = ms,
        .rcpt_ms = ms,
        .data_ms = ms,
        .block_ms = ms,
        .final_ms = ms,
        .reset_ms = ms,
        .idle_ms = ms,
        .quit_ms = MIN(ms, (uint32_t)QUIT_MS),
    };
    int r = machine_make(&what);
    json_t *result = r == 0 ? probe_all() : NULL;
    if (r < 0)
        fprintf(stderr, "ringpost: %s: %s\n", what, strerror(-r));
    machine_free();
    return result;
}
