/*
 * dns.c - libunbound behind handoffs
 *
 * libunbound works in a thread of its own; the control shard gives it queries, polls its descriptor
 * and hands results back. A request belongs to the asking shard, except between the two handoffs:
 *
 *   asker: free --ask--> HANDOFF --> control: asked --result, error--> HANDOFF --> asker: free
 *                 |                             '--deadline: cancelled--^           ^
 *                 '--addresses that were told a moment ago (dns_recent.h)-----------'
 *
 * Only the asker looks at request->query: forgetting a query clears it, and the answer is dropped
 * when it comes. What cannot be asked (too many in flight, a full handoff ring, not a name) is
 * answered with SERVFAIL from the asker's loop. An answer that finds the asker's ring full waits in
 * a list and is tried again every RETRY_MS.
 *
 * Bounds: queries_max requests; libunbound's caches by CACHE_*, some 16 MiB when they are full.
 *
 * Results are parsed by the asker, from rdata that strangers chose: a name is text only if it is
 * made of letters, digits and few other octets; a record that is anything else is left out.
 */
#include "core/dns.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>

#include "core/check.h"
#include "core/dns_recent.h"
#include "core/pool.h"

enum {
    RETRY_MS = 2,
    CLASS_IN = 1,
    RCODE_NOERROR = 0,
    RCODE_NXDOMAIN = 3,
    HEADER_BYTES = 12, /* RFC 1035 4.1.1 */
    LABEL_MAX = 63,
    NAME_WIRE_MAX = 255,
    WHY_MAX = 256,
    OPTION_MAX = 32,
    CACHE_BYTES = 4 << 20, /* of answers, of record sets, of keys: each */
    CACHE_NEGATIVE_BYTES = 1 << 20,
    CACHE_HOSTS = 10'000, /* name servers whose round trips are remembered */
};

struct dns_client {
    struct resolver *resolver;
    struct shard *shard;
    struct pool requests;
    struct list refused; /* queries that get SERVFAIL in the next step */
    struct task refuse;
    struct list told; /* requests that are answered in the next step, from what is remembered */
    struct task tell;
    struct dns_recent recent;
    /* The answer that is being given; callbacks may ask, but are not called from within. */
    struct dns_record records[DNS_RECORDS_MAX];
    char names[DNS_RECORDS_MAX][DNS_NAME_MAX];
    char canonical[DNS_NAME_MAX];
    char why[WHY_MAX];
};

struct dns_request {
    struct list node; /* of the resolver's asked or unsent, or the client's told */
    struct dns_client *client;
    struct dns_query *query; /* the asker's; NULL: forgotten */
    struct timer deadline;   /* the control shard's */
    uint64_t deadline_ms;
    int async_id;
    enum dns_type type;
    struct ub_result *result; /* NULL: status and why instead */
    enum dns_status status;
    const char *why;         /* lives for ever */
    char name[DNS_NAME_MAX]; /* "." is the root */
};

struct resolver {
    struct shard *control;
    struct ub_ctx *context;
    uint32_t ask_kind, answer_kind;
    uint32_t timeout_ms;
    uint32_t queries_max;
    uint32_t inflight; /* over all shards; atomic */
    struct op poll;
    struct task process;
    struct list asked;
    struct list unsent;
    struct timer retry;
    bool stopping;
    unsigned clients_count;
    struct dns_client *clients; /* one for each shard of the group, used when it is attached */
};

/* Stands in query->request for "about to be refused". */
static struct dns_request refused_request;

/* ---- text and wire ---- */

static bool octet_is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '/' || c == '*' || c == '+'; /* "/": RFC 2317 */
}

/* An uncompressed name at the start of wire, as text. Its octets there, or -EINVAL. */
static int name_from_wire(struct slice wire, char out[static DNS_NAME_MAX])
{
    size_t at = 0;
    size_t size = 0;
    for (;;) {
        if (at >= MIN(wire.size, (size_t)NAME_WIRE_MAX))
            return -EINVAL;
        uint8_t label = wire.data[at++];
        if (label == 0)
            break;
        if (label > LABEL_MAX || at + label > wire.size ||
            size + (size > 0) + label >= DNS_NAME_MAX)
            return -EINVAL;
        if (size > 0)
            out[size++] = '.';
        for (unsigned i = 0; i < label; i++, at++) {
            if (!octet_is_plain(wire.data[at]))
                return -EINVAL;
            out[size++] = (char)ascii_lower(wire.data[at]);
        }
    }
    out[size] = '\0';
    return (int)at;
}

/* Text with or without a trailing dot, checked. 0 or -EINVAL. */
static int name_from_text(struct slice text, char out[static DNS_NAME_MAX])
{
    if (text.size > 0 && text.data[text.size - 1] == '.')
        text.size--;
    if (text.size >= DNS_NAME_MAX)
        return -EINVAL;
    size_t label = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool dot = text.data[i] == '.';
        if (dot ? label == 0 || i + 1 == text.size : !octet_is_plain(text.data[i]))
            return -EINVAL;
        label = dot ? 0 : label + 1;
        if (label > LABEL_MAX)
            return -EINVAL;
        out[i] = (char)ascii_lower(text.data[i]);
    }
    out[text.size] = '\0';
    return 0;
}

/* Past a name in a message, which may end in a pointer (RFC 1035 4.1.4); 0: malformed. */
static size_t name_end(struct slice packet, size_t at)
{
    while (at < packet.size) {
        uint8_t label = packet.data[at];
        if (label == 0)
            return at + 1;
        if (label >= 0xc0)
            return at + 2;
        if (label > LABEL_MAX)
            return 0;
        at += 1 + (size_t)label;
    }
    return 0;
}

static unsigned u16_at(struct slice packet, size_t at)
{
    return (unsigned)packet.data[at] << 8 | packet.data[at + 1];
}

/* CNAMEs in the answer section: libunbound says where a chain ends, not how long it is. */
static unsigned count_cnames(struct slice packet)
{
    unsigned count = 0;
    if (packet.size < HEADER_BYTES)
        return 0;
    unsigned questions = u16_at(packet, 4);
    unsigned answers = u16_at(packet, 6);
    size_t at = HEADER_BYTES;
    for (unsigned i = 0; i < questions; i++) {
        at = name_end(packet, at);
        if (at == 0)
            return count;
        at += 4; /* type, class */
    }
    for (unsigned i = 0; i < answers; i++) {
        at = name_end(packet, at);
        if (at == 0 || at + 10 > packet.size) /* type, class, TTL, RDLENGTH */
            return count;
        count += u16_at(packet, at) == DNS_CNAME;
        at += 10 + u16_at(packet, at + 8);
    }
    return count;
}

/* ---- the asker's side: answers ---- */

/* 0, or -EINVAL: not what the type says, or too long. */
static int record_parse(enum dns_type type, struct slice rdata, struct dns_record *record,
                        char name[static DNS_NAME_MAX])
{
    *record = (struct dns_record) { .size = (uint16_t)rdata.size, .data = rdata.data };
    switch (type) {
    case DNS_A: return rdata.size == 4 ? 0 : -EINVAL;
    case DNS_AAAA: return rdata.size == 16 ? 0 : -EINVAL;
    case DNS_SOA:
    case DNS_TXT:
    case DNS_TLSA: return rdata.size > 0 && rdata.size <= DNS_DATA_MAX ? 0 : -EINVAL;
    case DNS_MX:
        if (rdata.size < 3)
            return -EINVAL;
        record->preference = (uint16_t)u16_at(rdata, 0);
        rdata = slice_from(rdata, 2);
        [[fallthrough]];
    case DNS_CNAME:
    case DNS_PTR:
        if (name_from_wire(rdata, name) != (int)rdata.size)
            return -EINVAL;
        record->data = (const uint8_t *)name;
        record->size = (uint16_t)strlen(name);
        return 0;
    }
    return -EINVAL;
}

static void answer_fail(struct dns_client *client, struct dns_answer *answer,
                        enum dns_status status, const char *why)
{
    /* The words are libunbound's or the answer's; the result is freed before they are read. */
    snprintf(client->why, sizeof(client->why), "%s", why);
    answer->status = status;
    answer->why = client->why;
    answer->secure = false;
    answer->count = 0;
}

static void answer_records(struct dns_client *client, const struct ub_result *result,
                           enum dns_type type, struct dns_answer *answer)
{
    unsigned n = 0;
    for (unsigned i = 0; result->data[i] != NULL; i++) {
        if (n == DNS_RECORDS_MAX) {
            answer->cut = true;
            break;
        }
        if (result->len[i] >= 0 &&
            record_parse(type, slice_of(result->data[i], (size_t)result->len[i]),
                         &client->records[n], client->names[n]) == 0)
            n++;
        else
            answer->cut = true;
    }
    answer->records = client->records;
    answer->count = n;
    if (n == 0)
        answer_fail(client, answer, DNS_SERVFAIL, "malformed records");
}

static void answer_parse(struct dns_client *client, const struct ub_result *result,
                         enum dns_type type, struct dns_answer *answer)
{
    answer->ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0;
    answer->secure = result->secure != 0;
    if (result->answer_packet != NULL && result->answer_len > 0 && type != DNS_CNAME)
        answer->cnames = count_cnames(slice_of(result->answer_packet, (size_t)result->answer_len));
    if (result->bogus) {
        answer_fail(client, answer, DNS_BOGUS,
                    result->why_bogus == NULL ? "validation failed" : result->why_bogus);
        return;
    }
    if (result->canonname != NULL) {
        if (name_from_text(slice_of_string(result->canonname), client->canonical) < 0) {
            answer_fail(client, answer, DNS_SERVFAIL, "malformed canonical name");
            return;
        }
    }
    if (result->rcode == RCODE_NXDOMAIN || (result->rcode == RCODE_NOERROR && result->nxdomain)) {
        answer->status = DNS_NXDOMAIN;
    } else if (result->rcode != RCODE_NOERROR) {
        char why[32];
        snprintf(why, sizeof(why), "response code %d", result->rcode);
        answer_fail(client, answer, DNS_SERVFAIL, result->rcode == 2 ? "server failure" : why);
    } else if (!result->havedata) {
        answer->status = DNS_NODATA;
    } else {
        answer_records(client, result, type, answer);
    }
}

static void request_free(struct dns_request *request)
{
    struct resolver *resolver = request->client->resolver;
    uint32_t before = __atomic_fetch_sub(&resolver->inflight, 1, __ATOMIC_RELAXED);
    CHECK(before > 0);
    pool_give(&request->client->requests, request);
}

static void on_answer(struct shard *shard, const struct handoff *handoff)
{
    struct dns_request *request = handoff->pointer;
    struct dns_client *client = request->client;
    struct dns_query *query = request->query;
    struct ub_result *result = request->result;
    CHECK(client->shard == shard);
    if (query == NULL) {
        request_free(request);
        ub_resolve_free(result);
        return;
    }
    CHECK(query->request == request);
    struct dns_answer answer = { .status = DNS_OK, .canonical = client->canonical };
    memcpy(client->canonical, request->name, sizeof(client->canonical));
    if (strcmp(client->canonical, ".") == 0)
        client->canonical[0] = '\0';
    if (result != NULL)
        answer_parse(client, result, request->type, &answer);
    else
        answer_fail(client, &answer, request->status, request->why);
    dns_recent_put(&client->recent, request->name, request->type, &answer, shard->now_ms);
    request_free(request);
    query->request = NULL;
    query->answered(query, &answer);
    ub_resolve_free(result);
}

static void refuse_run(struct task *task)
{
    struct dns_client *client = container_of(task, struct dns_client, refuse);
    struct list now; /* what is refused meanwhile waits for the next step */
    list_init(&now);
    list_append(&now, &client->refused);
    struct list *node;
    while ((node = list_pop(&now)) != NULL) {
        struct dns_query *query = container_of(node, struct dns_query, node);
        struct dns_answer answer = { .status = DNS_SERVFAIL,
                                     .canonical = "",
                                     .why = "too many queries, or not a domain name" };
        query->request = NULL;
        query->answered(query, &answer);
    }
}

/* ---- the asker's side: questions ---- */

static void client_refuse(struct dns_client *client, struct dns_query *query)
{
    query->request = &refused_request;
    list_push(&client->refused, &query->node);
    shard_run_later(client->shard, &client->refuse);
}

static struct dns_request *request_take(struct dns_client *client)
{
    struct resolver *resolver = client->resolver;
    uint32_t before = __atomic_fetch_add(&resolver->inflight, 1, __ATOMIC_RELAXED);
    struct dns_request *request = NULL;
    if (before < resolver->queries_max)
        request = pool_take(&client->requests);
    if (request == NULL)
        __atomic_fetch_sub(&resolver->inflight, 1, __ATOMIC_RELAXED);
    return request;
}

static void client_send(struct dns_client *client, struct dns_request *request)
{
    struct resolver *resolver = client->resolver;
    struct handoff handoff = { .kind = resolver->ask_kind, .pointer = request };
    if (shard_handoff(client->shard, resolver->control->index, handoff) == 0)
        return;
    struct dns_query *query = request->query;
    request_free(request);
    client_refuse(client, query);
}

static void tell_run(struct task *task)
{
    struct dns_client *client = container_of(task, struct dns_client, tell);
    struct list now; /* what is asked meanwhile waits for the next step */
    list_init(&now);
    list_append(&now, &client->told);
    struct list *node;
    while ((node = list_pop(&now)) != NULL) {
        struct dns_request *request = container_of(node, struct dns_request, node);
        struct dns_query *query = request->query;
        struct dns_record records[DNS_RECENT_RECORDS];
        struct dns_answer answer;
        if (query == NULL) { /* forgotten */
            request_free(request);
        } else if (!dns_recent_get(&client->recent, request->name, request->type,
                                   client->shard->now_ms, records, &answer)) {
            client_send(client, request); /* another one has its place by now */
        } else {
            request_free(request);
            query->request = NULL;
            query->answered(query, &answer);
        }
    }
}

static void client_ask(void *argument, struct dns_query *query, const char *name,
                       enum dns_type type)
{
    struct dns_client *client = argument;
    struct resolver *resolver = client->resolver;
    struct shard *shard = client->shard;
    char checked[DNS_NAME_MAX];
    CHECK(query->request == NULL);
    CHECK(query->answered != NULL);
    CHECK(query->shard == shard);
    list_init(&query->node);
    struct dns_request *request = NULL;
    if (name_from_text(slice_of_string(name), checked) == 0)
        request = request_take(client);
    if (request == NULL) {
        client_refuse(client, query);
        return;
    }
    uint64_t deadline_ms = shard->now_ms + resolver->timeout_ms;
    if (query->deadline_ms != 0)
        deadline_ms = MIN(deadline_ms, query->deadline_ms);
    *request = (struct dns_request) {
        .client = client, .query = query, .deadline_ms = deadline_ms, .type = type
    };
    memcpy(request->name, *checked == '\0' ? "." : checked, sizeof(request->name));
    query->request = request;
    struct dns_record records[DNS_RECENT_RECORDS];
    struct dns_answer answer;
    if (dns_recent_get(&client->recent, request->name, type, shard->now_ms, records, &answer)) {
        list_push(&client->told, &request->node);
        shard_run_later(shard, &client->tell);
    } else {
        client_send(client, request);
    }
}

static void client_forget(void *argument, struct dns_query *query)
{
    struct dns_client *client = argument;
    if (query->request == NULL)
        return;
    if (query->request == &refused_request) {
        list_remove(&query->node);
    } else {
        CHECK(query->request->client == client);
        CHECK(query->request->query == query);
        query->request->query = NULL;
    }
    query->request = NULL;
}

static const struct dns_ops client_ops = { .ask = client_ask, .forget = client_forget };

/* ---- the control shard's side ---- */

/* False: the asker's ring is full. */
static bool request_hand_back(struct resolver *resolver, struct dns_request *request)
{
    struct handoff handoff = { .kind = resolver->answer_kind, .pointer = request };
    return shard_handoff(resolver->control, request->client->shard->index, handoff) == 0;
}

static void request_done(struct dns_request *request)
{
    struct resolver *resolver = request->client->resolver;
    if (request_hand_back(resolver, request))
        return;
    list_push(&resolver->unsent, &request->node);
    if (!timer_armed(&resolver->retry))
        shard_timer_arm(resolver->control, &resolver->retry, RETRY_MS);
}

static void retry_fired(struct timer *timer)
{
    struct resolver *resolver = container_of(timer, struct resolver, retry);
    list_each_safe(node, &resolver->unsent)
    {
        struct dns_request *request = container_of(node, struct dns_request, node);
        list_remove(node); /* before it is another shard's */
        if (!request_hand_back(resolver, request))
            list_insert_before(node_next, node); /* others may wait for another shard */
    }
    if (!list_empty(&resolver->unsent))
        shard_timer_arm(resolver->control, &resolver->retry, RETRY_MS);
}

static void request_fail(struct dns_request *request, enum dns_status status, const char *why)
{
    request->status = status;
    request->why = why;
    request_done(request);
}

static void on_result(void *argument, int error, struct ub_result *result)
{
    struct dns_request *request = argument;
    struct resolver *resolver = request->client->resolver;
    timer_disarm(&resolver->control->timers, &request->deadline);
    list_remove(&request->node);
    if (error != 0 || result == NULL) {
        ub_resolve_free(result);
        request_fail(request, DNS_SERVFAIL, ub_strerror(error));
        return;
    }
    request->result = result;
    request_done(request);
}

static void deadline_fired(struct timer *timer)
{
    struct dns_request *request = container_of(timer, struct dns_request, deadline);
    struct resolver *resolver = request->client->resolver;
    /* From here on, libunbound does not call on_result for it. */
    (void)ub_cancel(resolver->context, request->async_id);
    list_remove(&request->node);
    request_fail(request, DNS_TIMEOUT, "no answer in time");
}

static void on_ask(struct shard *shard, const struct handoff *handoff)
{
    struct dns_request *request = handoff->pointer;
    struct resolver *resolver = request->client->resolver;
    CHECK(resolver->control == shard);
    list_init(&request->node);
    timer_init(&request->deadline, deadline_fired);
    if (resolver->stopping) {
        request_fail(request, DNS_SERVFAIL, "stopping");
        return;
    }
    int r = ub_resolve_async(resolver->context, request->name, (int)request->type, CLASS_IN,
                             request, on_result, &request->async_id);
    if (r != 0) {
        request_fail(request, DNS_SERVFAIL, ub_strerror(r));
        return;
    }
    list_push(&resolver->asked, &request->node);
    timer_arm(&shard->timers, &request->deadline, request->deadline_ms);
}

static void poll_landed(struct op *op, int res, unsigned flags)
{
    struct resolver *resolver = container_of(op, struct resolver, poll);
    (void)res; /* an error is found again when the poll is armed anew */
    (void)flags;
    shard_run_later(resolver->control, &resolver->process);
}

static void process_run(struct task *task)
{
    struct resolver *resolver = container_of(task, struct resolver, process);
    if (resolver->stopping)
        return;
    if (!resolver->poll.inflight)
        ring_poll(resolver->control->ring, &resolver->poll, ub_fd(resolver->context));
    /* After the poll is armed: what comes meanwhile lands. Calls on_result. */
    (void)ub_process(resolver->context);
}

/* ---- start and stop ---- */

static int set_number(struct ub_ctx *context, const char *option, uint32_t value)
{
    char text[OPTION_MAX];
    snprintf(text, sizeof(text), "%u", value);
    return ub_ctx_set_option(context, option, text);
}

/* 0, or -EINVAL with words. */
static int set_forwarders(struct ub_ctx *context, const struct dns_options *options,
                          const char **why)
{
    /* Whoever runs the forwarder decides about names that exist in his networks only. */
    static const char *const local_zones[] = { "test.", "home.arpa." };
    *why = "the file with the system's name servers cannot be used";
    if (options->resolv_conf_file != NULL &&
        ub_ctx_resolvconf(context, options->resolv_conf_file) != 0)
        return -EINVAL;
    *why = "a forwarder's address was not accepted";
    for (unsigned i = 0; i < options->forwarders_count; i++) {
        char host[NET_TEXT_MAX];
        char text[NET_TEXT_MAX + 8];
        const struct net_address *forwarder = &options->forwarders[i];
        net_text(forwarder, false, host);
        snprintf(text, sizeof(text), "%s@%u", host,
                 forwarder->port == 0 ? 53U : (unsigned)forwarder->port);
        if (ub_ctx_set_fwd(context, text) != 0)
            return -EINVAL;
    }
    *why = "libunbound did not accept the options for forwarders";
    if (ub_ctx_set_option(context, "do-not-query-localhost:", "no") != 0 ||
        ub_ctx_set_option(context, "unblock-lan-zones:", "yes") != 0 ||
        ub_ctx_set_option(context, "insecure-lan-zones:", "yes") != 0)
        return -EINVAL;
    for (unsigned i = 0; i < ARRAY_COUNT(local_zones); i++) {
        char text[OPTION_MAX];
        snprintf(text, sizeof(text), "%s nodefault", local_zones[i]);
        if (ub_ctx_set_option(context, "local-zone:", text) != 0)
            return -EINVAL;
    }
    return 0;
}

static int set_options(struct ub_ctx *context, const struct dns_options *options, const char **why)
{
    bool validating = options->trust_anchor_file != NULL;
    *why = "libunbound did not accept its options";
    if (ub_ctx_async(context, 1) != 0 ||
        ub_ctx_set_option(context,
                          "module-config:", validating ? "validator iterator" : "iterator") != 0 ||
        ub_ctx_set_option(context, "edns-buffer-size:", "1232") != 0 ||
        set_number(context, "num-queries-per-thread:", options->queries_max) != 0 ||
        set_number(context, "msg-cache-size:", CACHE_BYTES) != 0 ||
        set_number(context, "rrset-cache-size:", CACHE_BYTES) != 0 ||
        set_number(context, "key-cache-size:", CACHE_BYTES) != 0 ||
        set_number(context, "neg-cache-size:", CACHE_NEGATIVE_BYTES) != 0 ||
        set_number(context, "infra-cache-numhosts:", CACHE_HOSTS) != 0)
        return -EINVAL;
    if (validating) {
        *why = "the trust anchor file cannot be used";
        if (ub_ctx_add_ta_file(context, options->trust_anchor_file) != 0)
            return -EINVAL;
    }
    if (options->root_hints_file != NULL) {
        *why = "the root hints file cannot be used";
        if (ub_ctx_set_option(context, "root-hints:", options->root_hints_file) != 0)
            return -EINVAL;
    }
    if (options->forwarders_count > 0 || options->resolv_conf_file != NULL)
        return set_forwarders(context, options, why);
    return 0;
}

/* Reads the files and starts libunbound's thread, so that this is not left to the first query: its
 * errors belong to the start, and so does its thread (signals are the control thread's). */
static int resolver_start_thread(struct resolver *resolver, const char **why)
{
    sigset_t all;
    sigset_t before;
    int id;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct dns_request nothing = { .async_id = 0 };
    int r = ub_resolve_async(resolver->context, "localhost.", DNS_A, CLASS_IN, &nothing, on_result,
                             &id);
    if (r == 0)
        r = ub_cancel(resolver->context, id);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        return 0;
    *why = ub_strerror(r);
    return -EINVAL;
}

static void clients_free(struct resolver *resolver)
{
    for (unsigned i = 0; i < resolver->clients_count; i++) {
        struct dns_client *client = &resolver->clients[i];
        pool_free(&client->requests);
        if (client->shard == NULL)
            continue;
        shard_forget(&client->refuse);
        shard_forget(&client->tell);
        client->shard->handlers[resolver->answer_kind] = NULL;
    }
    free(resolver->clients);
}

/* 0 or -ENOMEM. */
static int clients_new(struct resolver *resolver, unsigned count)
{
    resolver->clients = calloc(count, sizeof(*resolver->clients));
    if (resolver->clients == NULL)
        return -ENOMEM;
    for (; resolver->clients_count < count; resolver->clients_count++) {
        struct dns_client *client = &resolver->clients[resolver->clients_count];
        client->resolver = resolver;
        int r = pool_init(&client->requests, "dns requests", sizeof(struct dns_request),
                          resolver->queries_max);
        if (r < 0)
            return r;
    }
    return 0;
}

int resolver_new(struct shard *control, const struct dns_options *options, uint32_t ask_kind,
                 uint32_t answer_kind, struct resolver **resolver_out, const char **why)
{
    CHECK(control->group != NULL);
    CHECK(control->index == control->group->count - 1);
    CHECK(ask_kind != answer_kind);
    CHECK(options->queries_max > 0);
    CHECK(options->timeout_ms > 0);
    int r = -ENOMEM;
    *why = "out of memory";
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (resolver == NULL)
        return r;
    resolver->queries_max = options->queries_max;
    r = clients_new(resolver, control->group->count);
    if (r < 0)
        goto out_free;
    r = -ENOMEM;
    resolver->context = ub_ctx_create();
    if (resolver->context == NULL)
        goto out_free;
    r = set_options(resolver->context, options, why);
    if (r < 0)
        goto out_delete;
    r = resolver_start_thread(resolver, why);
    if (r < 0)
        goto out_delete;
    resolver->control = control;
    resolver->ask_kind = ask_kind;
    resolver->answer_kind = answer_kind;
    resolver->timeout_ms = options->timeout_ms;
    list_init(&resolver->asked);
    list_init(&resolver->unsent);
    timer_init(&resolver->retry, retry_fired);
    task_init(&resolver->process, process_run);
    resolver->poll.landed = poll_landed;
    shard_handle(control, ask_kind, on_ask);
    shard_run_later(control, &resolver->process); /* arms the poll, from the shard's thread */
    *resolver_out = resolver;
    return 0;

out_delete:
    ub_ctx_delete(resolver->context);
out_free:
    clients_free(resolver);
    free(resolver);
    return r;
}

void resolver_attach(struct resolver *resolver, struct shard *shard, struct dns *dns)
{
    CHECK(shard->group == resolver->control->group);
    CHECK(shard->index < resolver->clients_count);
    struct dns_client *client = &resolver->clients[shard->index];
    CHECK(client->shard == NULL);
    client->shard = shard;
    list_init(&client->refused);
    list_init(&client->told);
    task_init(&client->refuse, refuse_run);
    task_init(&client->tell, tell_run);
    shard_handle(shard, resolver->answer_kind, on_answer);
    *dns = (struct dns) { .ops = &client_ops, .resolver = client };
}

static void requests_drop(struct list *requests)
{
    struct list *node;
    while ((node = list_pop(requests)) != NULL) {
        struct dns_request *request = container_of(node, struct dns_request, node);
        timer_disarm(&request->client->resolver->control->timers, &request->deadline);
        ub_resolve_free(request->result);
    }
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    struct shard *control = resolver->control;
    resolver->stopping = true;
    shard_forget(&resolver->process);
    if (resolver->poll.inflight)
        ring_cancel(control->ring, &resolver->poll);
    while (resolver->poll.inflight && shard_step(control, control->now_ms + RETRY_MS) == 0)
        ;
    ub_ctx_delete(resolver->context); /* ends its thread */
    requests_drop(&resolver->asked);
    requests_drop(&resolver->unsent);
    timer_disarm(&control->timers, &resolver->retry);
    shard_forget(&resolver->process);
    control->handlers[resolver->ask_kind] = NULL;
    clients_free(resolver);
    free(resolver);
}
