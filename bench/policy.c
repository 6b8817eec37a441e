/*
 * policy.c - what connectors cost a message: MAIL, RCPT and the way out, decided over and over
 *
 *   N connectors as text --the server's reader--> a set --> for each kind of session: BATCH
 *   decisions of different senders, timed together; the median and the 99th percentile of batches
 *
 * Half of the inbound connectors are partners, each with four patterns and a lockdown by
 * certificate; half are our own, known by certificate or address. There are as many outbound ones,
 * each with two patterns. Beside them stands the least that anybody could do: one look-up each of
 * the sender's and the recipient's domain in a table of as many patterns.
 */
#include "bench/policy.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/options.h"
#include "bench/result.h"
#include "core/check.h"
#include "core/random.h"
#include "mta/config.h"
#include "tls/tls_server.h"

enum {
    CONNECTORS_USUAL = 10'000,
    ROUNDS_USUAL = 20'000,
    ROUNDS_MAX = 10'000'000,
    BATCH = 64,
    LINE_BYTES = 512,
    HEAD_BYTES = 512,
    KINDS = 7,
    SEED = 1,
};

static const char help[] =
    "usage: ringpost-bench policy [options]\n"
    "\n"
    "What the decisions of connectors cost, inbound at MAIL and RCPT, and outbound, one message\n"
    "with one recipient: nanoseconds, median and 99th percentile of batches of 64.\n"
    "\n"
    "  --connectors N   how many there are in each direction, twice as many domain patterns "
    "(10000)\n"
    "  --rounds N       batches of each kind (20000)\n"
    "  --json FILE      {connectors, patterns, load_ms, kinds {NAME {p50_ns, p99_ns}}}; - is\n"
    "                   standard output\n"
    "  --help           this text\n";

struct policy_options {
    unsigned connectors, rounds;
    const char *json;
};

/* A kind of session; names of domains and certificates are made from the number of a connector. */
struct kind {
    const char *name, *words;
    const char *from, *certificate; /* printf formats of a number; NULL: none */
    unsigned remainder;             /* of the connector's number by 2 */
    enum { BARE, IN, RELAY, OUT, MX } what;
    bool is_refused;
};
/* clang-format off */
static const struct kind kinds[KINDS] = {
    { "bare", "two look-ups in a table, nothing else", "d%u.example", NULL, 0, BARE, false },
    { "stranger", "nobody's sender, no certificate", "x%u.example", NULL, 0, IN, false },
    { "partner", "a partner, identified by certificate", "d%u.example", "mx.d%u.example", 0, IN, false },
    { "impostor", "a partner's sender without it", "d%u.example", NULL, 0, IN, true },
    { "own", "our own, by certificate, relaying", "y%u.example", "s%u.relay.corp.example", 1, RELAY, false },
    { "out", "the way out by a connector", "sub.f%u.example", NULL, 0, OUT, false },
    { "mx", "the way out by MX, no connector's", "z%u.example", NULL, 0, MX, false },
};
/* clang-format on */

struct policy {
    const struct policy_options *options;
    struct config *config;
    struct pattern_set *table;
    struct random random;
    double load_ms;
    uint64_t *batches; /* ns */
};

/* ---- a configuration ---- */

static size_t connector_text(unsigned i, char *out, size_t room)
{
    int size = i % 2 == 0
                   ? snprintf(out, room,
                              "inbound c%u { type = partner state = enforce restrict = yes\n"
                              " sender-domains = { d%u.example, \"*.d%u.example\", e%u.example,\n"
                              " \"*.e%u.example\" } cert-name = { mx.d%u.example } }\n",
                              i, i, i, i, i, i)
                   : snprintf(out, room,
                              "inbound c%u { type = own state = enforce identify = either\n"
                              " cert-name = { s%u.relay.corp.example } addresses = { 10.%u.%u.1 }\n"
                              " rights = { relay } }\n",
                              i, i, i / 256 % 256, i % 256);
    CHECK(size > 0 && (size_t)size < room);
    int more = snprintf(out + size, room - (size_t)size,
                        "outbound c%u { type = partner state = enforce hosts = { mx }\n"
                        " domains = { f%u.example, \"*.f%u.example\" } }\n",
                        i, i, i);
    CHECK(more > 0 && (size_t)(size + more) < room);
    return (size_t)size + (size_t)more;
}

static int config_make(struct policy *p)
{
    static const char head[] = "hostname = mx.corp.example\n"
                               "listener in { addresses = { 127.0.0.1:25 } }\n"
                               "relay { domains = { corp.example } }\n";
    size_t room = HEAD_BYTES + (size_t)p->options->connectors * LINE_BYTES;
    char *text = malloc(room);
    struct config_report *report = calloc(1, sizeof(*report));
    int r = text == NULL || report == NULL ? -ENOMEM : 0;
    size_t size = 0;
    if (r == 0)
        size = (size_t)snprintf(text, room, "%s", head);
    for (unsigned i = 0; r == 0 && i < p->options->connectors; i++)
        size += connector_text(i, text + size, room - size);
    if (r == 0) {
        uint64_t begun = result_now_ns();
        r = config_load_text(slice_of(text, size), "bench", 1, report, &p->config);
        p->load_ms = (double)(result_now_ns() - begun) / 1e6;
        if (report->count > 0)
            fprintf(stderr, "ringpost-bench policy: %s\n", report->messages[0].text);
        config_report_free(report);
    }
    free(report);
    free(text);
    return r;
}

static int table_make(struct policy *p)
{
    int r = pattern_set_new(&p->table);
    for (unsigned i = 0; r == 0 && i < p->options->connectors; i++) {
        char name[64];
        uint32_t other;
        const char *why;
        for (unsigned k = 0; r == 0 && k < 2; k++) {
            snprintf(name, sizeof(name), "%sd%u.example", k == 0 ? "" : "*.", i);
            r = pattern_set_add(p->table, slice_of_string(name), i, &other, &why);
        }
    }
    return r;
}

/* ---- measuring ---- */

struct session {
    struct inbound_session facts;
    struct net_address address;
    struct tls_peer peer;
    char from[64];
};

static void session_make(struct policy *p, const struct kind *kind, struct session *s)
{
    unsigned number =
        2 * (unsigned)random_below(&p->random, p->options->connectors / 2) + kind->remainder;
    memset(s, 0, sizeof(*s));
    s->facts.peer = &s->address;
    s->facts.tls_version = TLS_VERSION_13;
    CHECK(net_parse(SLICE("203.0.113.9"), 0, &s->address) == 0);
    /* the formats are ours, above */
    const char *at = strstr(kind->from, "%u");
    snprintf(s->from, sizeof(s->from), "%.*s%u%s", (int)(at - kind->from), kind->from, number,
             at + 2);
    if (kind->certificate != NULL) {
        char name[64];
        at = strstr(kind->certificate, "%u");
        snprintf(name, sizeof(name), "%.*s%u%s", (int)(at - kind->certificate), kind->certificate,
                 number, at + 2);
        s->peer.verdict = TLS_VERDICT_VALID;
        s->peer.leaf.usage = TLS_USAGE_CLIENT | TLS_USAGE_SERVER;
        tls_names_add(&s->peer.leaf.names, slice_of_string(name));
        s->facts.certificates_count = 1;
        s->facts.certificates[0].roots = p->config->roots[0].roots;
        s->facts.certificates[0].peer = &s->peer;
    }
    inbound_candidates(p->config->inbound, &s->facts);
}

static bool decide_bare(const struct policy *p, struct slice from, struct slice to)
{
    struct pattern_match match;
    bool found = pattern_set_find(p->table, from, &match);
    return pattern_set_find(p->config->relay.domains, to, &match) && found;
}

static bool decide_out(const struct policy *p, struct slice to, enum outbound_verdict wanted)
{
    const struct outbound_facts facts = { .recipient_domain = to,
                                          .sender_domain = SLICE("corp.example"),
                                          .size = 1'024 };
    struct outbound_choice choice;
    outbound_select(&p->config->outbound, &facts, &choice);
    return choice.verdict == wanted;
}

static bool decide_in(const struct policy *p, const struct session *s, struct slice from,
                      struct slice to)
{
    struct inbound_mail mail;
    struct inbound_rcpt rcpt;
    inbound_mail(p->config->inbound, &s->facts, from, &mail);
    inbound_rcpt(p->config->inbound, &s->facts, from, to, &rcpt);
    return mail.token == TOKEN_NONE && rcpt.token == TOKEN_NONE;
}

/* How many were taken. */
static unsigned decide(const struct policy *p, const struct kind *kind,
                       const struct session sessions[static BATCH])
{
    unsigned taken = 0;
    for (unsigned i = 0; i < BATCH; i++) {
        const struct session *s = &sessions[i];
        struct slice domain = slice_of_string(s->from);
        switch (kind->what) {
        case BARE: taken += decide_bare(p, domain, SLICE("corp.example")); break;
        case IN: taken += decide_in(p, s, domain, SLICE("corp.example")); break;
        case RELAY: taken += decide_in(p, s, domain, SLICE("far.example")); break;
        case OUT: taken += decide_out(p, domain, OUTBOUND_CONNECTOR); break;
        case MX: taken += decide_out(p, domain, OUTBOUND_DEFAULT); break;
        }
    }
    return taken;
}

static int number_order(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* False: it was not decided as it should be. */
static bool measure(struct policy *p, const struct kind *kind, json_t *out, bool prints)
{
    struct session *sessions = calloc(BATCH, sizeof(*sessions));
    unsigned rounds = p->options->rounds;
    bool right = sessions != NULL;
    for (unsigned round = 0; right && round < rounds; round++) {
        if (round % 16 == 0) /* new senders, and so cold lines of the cache */
            for (unsigned i = 0; i < BATCH; i++)
                session_make(p, kind, &sessions[i]);
        uint64_t begun = result_now_ns();
        unsigned taken = decide(p, kind, sessions);
        p->batches[round] = result_now_ns() - begun;
        right = taken == (kind->is_refused ? 0 : BATCH);
    }
    free(sessions);
    if (!right)
        return false;
    qsort(p->batches, rounds, sizeof(*p->batches), number_order);
    const unsigned half = rounds / 2, most = rounds - 1 - rounds / 100;
    double p50 = (double)p->batches[half] / BATCH;
    double p99 = (double)p->batches[most] / BATCH;
    if (prints)
        printf("%-40s %10.0f %10.0f\n", kind->words, p50, p99);
    json_object_set_new(
        out, kind->name,
        json_pack("{s:s, s:f, s:f}", "words", kind->words, "p50_ns", p50, "p99_ns", p99));
    return true;
}

static int run(struct policy *p)
{
    unsigned patterns = 2 * p->options->connectors;
    bool prints = p->options->json == NULL || strcmp(p->options->json, "-") != 0;
    json_t *list = json_object();
    if (prints)
        printf("%u connectors in each direction, %u patterns, read in %.0f ms\n%-40s %10s %10s\n",
               p->options->connectors, patterns, p->load_ms, "one message, ns", "median", "p99");
    for (unsigned i = 0; i < KINDS; i++)
        if (!measure(p, &kinds[i], list, prints)) {
            fprintf(stderr, "ringpost-bench policy: %s: decided wrongly, or no memory\n",
                    kinds[i].words);
            json_decref(list);
            return EXIT_NOTHING;
        }
    result_write(p->options->json,
                 json_pack("{s:i, s:i, s:f, s:o}", "connectors", p->options->connectors, "patterns",
                           patterns, "load_ms", p->load_ms, "kinds", list));
    return EXIT_OK;
}

int policy_main(int argc, char **argv)
{
    enum { CONNECTORS = 256, ROUNDS, JSON, HELP };
    static const struct option options[] = {
        { "connectors", required_argument, NULL, CONNECTORS },
        { "rounds", required_argument, NULL, ROUNDS },
        { "json", required_argument, NULL, JSON },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    struct policy_options o = { .connectors = CONNECTORS_USUAL, .rounds = ROUNDS_USUAL };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case CONNECTORS:
            o.connectors = (unsigned)option_number("--connectors", optarg, 2, CONNECTORS_MAX);
            break;
        case ROUNDS: o.rounds = (unsigned)option_number("--rounds", optarg, 100, ROUNDS_MAX); break;
        case JSON: o.json = optarg; break;
        case HELP: fputs(help, stdout); return EXIT_OK;
        default: return EXIT_USAGE;
        }
    }
    options_end(argc, argv);
    struct policy p = { .options = &o, .batches = calloc(o.rounds, sizeof(*p.batches)) };
    random_seed(&p.random, SEED);
    int status = EXIT_NOTHING;
    if (p.batches != NULL && config_make(&p) == 0 && table_make(&p) == 0)
        status = run(&p);
    else
        fprintf(stderr, "ringpost-bench policy: out of memory, or no root certificates here\n");
    pattern_set_free(p.table);
    config_free(p.config);
    free(p.batches);
    return status;
}
