/*
 * check_fleet.c - mail that would run in a circle between nodes, by their configurations (L-19)
 *
 *   a host of a connector --address or name--> a listener of another file --outbound_select--> ..
 *
 * Looked at are domains, as many as connectors within the fleet have patterns: for each one the
 * nodes decide, each with what it says of mail that came from another node, and where hosts lead is
 * followed. Any of a connector's hosts counts: where the first does not answer, the next one gets
 * the mail. What only DNS knows is not followed: MX, and names that are no node's hostname or
 * banner. Decisions are those of small messages by TLS, of senders that the files name and of
 * others.
 *
 * By which inbound connector a node will know the others is not in the files. So where several of
 * type own have labels, a circle is certain if it is one by each of them, and else possible, which
 * is a warning. So is one through a connector in test.
 *
 * Loopback addresses lead to another file's listener if it is written just so, as on a machine with
 * several of them; else to the own one, which lint tells of (check.c).
 *
 * Bounds: CHECK_FLEET_MAX nodes, DECISIONS_MAX decisions, CIRCLES_MAX findings; what is left out is
 * said. Pure: asks no clock, no network, no file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/check.h"
#include "mta/check.h"
#include "mta/config.h"

enum {
    OPTIONS_MAX = OUTBOUND_LABELS_MAX, /* by which a node may know mail of another one */
    SENDERS_MAX = 64,
    DECISIONS_MAX = 20'000'000,
    CIRCLES_MAX = 32,
    KEY_MAX = 128,
    WORDS_MAX = 640,
};
static_assert((int)CHECK_FLEET_MAX <= 64); /* bits */

struct node {
    const struct config *config;
    uint64_t *leads; /* of each connector: the nodes that its hosts are */
    bool leads_anywhere;
    struct slice labels[OPTIONS_MAX];
    unsigned options;
    /* for the domain and sender at hand */
    const struct outbound *choices[2 * OPTIONS_MAX]; /* by each option, and those in test */
    unsigned choices_count;
    uint64_t certain, possible; /* next nodes */
};

struct fleet {
    struct node nodes[CHECK_FLEET_MAX];
    unsigned count;
    struct config_report *report;
    struct pattern_set *domains, *senders; /* exact ones only */
    uint64_t decisions;
    uint64_t told[CIRCLES_MAX];
    unsigned circles;
    bool out_of_memory;
    /* of a search */
    struct slice domain;
    bool in_doubt; /* possible ways count */
    bool found;
    uint64_t seen, done;
    unsigned path[CHECK_FLEET_MAX];
    unsigned depth;
};

/* ---- who leads where ---- */

static uint64_t host_leads(const struct fleet *f, unsigned from, const struct route_host *host)
{
    uint64_t nodes = 0;
    if (check_listener_of(f->nodes[from].config, host, true) != NULL)
        return from == 0 ? 0 : UINT64_C(1) << from; /* of the first one lint has told that */
    for (unsigned i = 0; i < f->count; i++)
        if (i != from && check_listener_of(f->nodes[i].config, host, false) != NULL)
            nodes |= UINT64_C(1) << i;
    return nodes;
}

static void node_leads(struct fleet *f, unsigned index)
{
    struct node *node = &f->nodes[index];
    const struct outbound_set *set = &node->config->outbound;
    node->leads = calloc(MAX(set->count, 1U), sizeof(*node->leads));
    if (node->leads == NULL) {
        f->out_of_memory = true;
        return;
    }
    for (unsigned i = 0; i < set->count; i++) {
        const struct route *route = &set->connectors[i].route;
        for (unsigned k = 0; k < route->hosts_count; k++)
            node->leads[i] |= host_leads(f, index, &route->hosts[k]);
        node->leads_anywhere |= node->leads[i] != 0;
    }
}

static void node_label(struct node *node, struct slice label)
{
    for (unsigned i = 0; i < node->options; i++)
        if (slice_equal(node->labels[i], label))
            return;
    if (node->options < OPTIONS_MAX)
        node->labels[node->options++] = label;
}

/* None of type own: mail of other nodes is a stranger's. */
static void node_labels(struct node *node)
{
    const struct inbound_set *set = node->config->inbound;
    for (unsigned i = 0; i < inbound_count(set); i++) {
        const struct inbound *from = inbound_at(set, i);
        if (from->type == CONNECTOR_OWN && from->state == CONNECTOR_ENFORCE)
            node_label(node, slice_of_string(from->label));
    }
}

/* ---- for which domains and senders ---- */

static void some_add(struct fleet *f, struct pattern_set *names, struct slice pattern)
{
    char text[PATTERN_TEXT_MAX + 8];
    uint32_t other;
    const char *why;
    const bool star = pattern.size > 0 && pattern.data[0] == '*';
    const struct slice below = star ? slice_from(pattern, 1) : pattern;
    const int size = snprintf(text, sizeof(text), "%s%.*s%s", star ? "any" : "", (int)below.size,
                              (const char *)below.data, star && below.size == 0 ? ".invalid" : "");
    const int r = pattern_set_add(names, slice_of(text, (size_t)size), 0, &other, &why);
    f->out_of_memory = f->out_of_memory || r == -ENOMEM;
}

static void patterns_add(struct fleet *f, struct pattern_set *names,
                         const struct pattern_set *patterns)
{
    for (unsigned i = 0; i < pattern_set_count(patterns); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        some_add(f, names, pattern_set_text(patterns, i, text));
    }
}

static void domains_add(struct fleet *f, struct pattern_set *names, const struct outbound_set *set,
                        const struct outbound_domains *domains)
{
    if (domains->given)
        patterns_add(f, names, domains->patterns);
    if (domains->own)
        patterns_add(f, names, set->own);
}

/* Those of connectors that lead to a node, and of rules: all others send it out of the fleet. */
static void names_gather(struct fleet *f)
{
    some_add(f, f->domains, SLICE("*"));
    some_add(f, f->senders, SLICE("*"));
    for (unsigned n = 0; n < f->count; n++) {
        const struct outbound_set *set = &f->nodes[n].config->outbound;
        for (unsigned i = 0; i < set->count; i++) {
            const struct outbound *c = &set->connectors[i];
            if (f->nodes[n].leads[i] == 0 || c->state == CONNECTOR_OFF)
                continue;
            domains_add(f, f->domains, set, &c->domains);
            domains_add(f, f->senders, set, &c->senders);
        }
        for (unsigned i = 0; i < set->rules_count; i++) {
            domains_add(f, f->domains, set, &set->rules[i].recipients);
            domains_add(f, f->senders, set, &set->rules[i].senders);
        }
    }
}

/* ---- one domain, one sender ---- */

static void choice_add(struct node *node, const struct outbound *connector)
{
    CHECK(node->choices_count < ARRAY_COUNT(node->choices));
    node->choices[node->choices_count++] = connector;
    node->possible |= node->leads[connector->route.index];
}

static void node_decide(struct fleet *f, struct node *node, struct slice domain,
                        struct slice sender)
{
    node->choices_count = 0;
    node->possible = 0;
    node->certain = UINT64_MAX;
    for (unsigned i = 0; i < MAX(node->options, 1U) && node->leads_anywhere; i++) {
        const struct outbound_facts facts = {
            .recipient_domain = domain,
            .sender_domain = sender,
            .label = i < node->options ? node->labels[i] : slice_of(NULL, 0),
            .from_own = i < node->options,
            .tls = true,
            .size = 1,
        };
        struct outbound_choice choice;
        outbound_select(&node->config->outbound, &facts, &choice);
        f->decisions++;
        const bool goes = choice.verdict == OUTBOUND_CONNECTOR;
        node->certain &= goes ? node->leads[choice.connector->route.index] : 0;
        if (goes)
            choice_add(node, choice.connector);
        if (choice.would != NULL)
            choice_add(node, choice.would);
    }
    node->certain &= node->possible;
}

static const struct outbound *leads_to(const struct node *node, unsigned next)
{
    for (unsigned i = 0; i < node->choices_count; i++)
        if (node->leads[node->choices[i]->route.index] >> next & 1)
            return node->choices[i];
    CHECK(false);
    return NULL;
}

/* ---- circles ---- */

/* False: it is known. */
static bool circle_is_new(struct fleet *f, const unsigned *circle, unsigned count)
{
    uint64_t hash = f->in_doubt;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t step[] = {
            circle[i], leads_to(&f->nodes[circle[i]], circle[(i + 1) % count])->route.index
        };
        hash = XXH3_64bits_withSeed(step, sizeof(step), hash);
    }
    for (unsigned i = 0; i < MIN(f->circles, (unsigned)CIRCLES_MAX); i++)
        if (f->told[i] == hash)
            return false;
    if (f->circles < CIRCLES_MAX)
        f->told[f->circles] = hash;
    f->circles++;
    return f->circles <= CIRCLES_MAX;
}

/* The circle begins with the first of its nodes. */
static void circle_tell(struct fleet *f, const unsigned *circle, unsigned count)
{
    const struct node *first = &f->nodes[circle[0]];
    const struct outbound *way = leads_to(first, circle[1 % count]);
    char key[KEY_MAX], words[WORDS_MAX];
    CHECK(count > 0);
    if (!circle_is_new(f, circle, count))
        return;
    int size =
        snprintf(words, sizeof(words), "mail for %.*s %s in a circle (L-19): ", (int)f->domain.size,
                 (const char *)f->domain.data, f->in_doubt ? "may run" : "runs");
    for (unsigned i = 1; i < count && size < WORDS_MAX; i++)
        size += snprintf(words + size, (size_t)(WORDS_MAX - size),
                         "to %.100s, by its outbound "
                         "\"%s\" ",
                         f->nodes[circle[i]].config->file,
                         leads_to(&f->nodes[circle[i]], circle[(i + 1) % count])->route.name);
    snprintf(key, sizeof(key), "outbound \"%s\": hosts", way->route.name);
    config_report_add(f->report, f->in_doubt ? CONFIG_WARNING : CONFIG_ERROR, first->config->file,
                      way->route.line, key, "%s%sback here; %s", words,
                      size < WORDS_MAX ? "" : ".. ",
                      f->in_doubt ? "see to it that it cannot, by all-mail and labels, or by other "
                                    "hosts; or it is one of a connector in test"
                                  : "let one of them lead out of the fleet");
}

/* at is on the path already. */
static void circle_close(struct fleet *f, unsigned at)
{
    unsigned begin = 0, least = 0, circle[CHECK_FLEET_MAX] = { 0 };
    f->found = true;
    while (f->path[begin] != at)
        begin++;
    const unsigned count = f->depth - begin;
    for (unsigned i = 1; i < count; i++)
        least = f->path[begin + i] < f->path[begin + least] ? i : least;
    CHECK(count > 0);
    for (unsigned i = 0; i < count; i++)
        circle[i] = f->path[begin + (least + i) % count];
    circle_tell(f, circle, count);
}

/* Depth first; as deep as there are nodes. */
static void visit(struct fleet *f, unsigned at)
{
    const struct node *node = &f->nodes[at];
    f->seen |= UINT64_C(1) << at;
    f->path[f->depth++] = at;
    for (uint64_t next = f->in_doubt ? node->possible : node->certain; next != 0;
         next &= next - 1) {
        const unsigned to = (unsigned)__builtin_ctzll(next);
        if ((f->seen >> to & 1) == 0)
            visit(f, to);
        else if ((f->done >> to & 1) == 0)
            circle_close(f, to);
    }
    f->depth--;
    f->done |= UINT64_C(1) << at;
}

static void search(struct fleet *f, bool in_doubt)
{
    f->in_doubt = in_doubt;
    f->seen = f->done = 0;
    for (unsigned i = 0; i < f->count; i++)
        if ((f->seen >> i & 1) == 0)
            visit(f, i);
}

static void look_at(struct fleet *f, struct slice domain, struct slice sender)
{
    f->domain = domain;
    f->found = false;
    bool doubts = false;
    for (unsigned i = 0; i < f->count; i++) {
        node_decide(f, &f->nodes[i], domain, sender);
        doubts = doubts || f->nodes[i].certain != f->nodes[i].possible;
    }
    search(f, false);
    if (doubts && !f->found)
        search(f, true);
}

static void look_at_all(struct fleet *f)
{
    const unsigned senders = pattern_set_count(f->senders);
    const unsigned domains = pattern_set_count(f->domains);
    bool all = senders <= SENDERS_MAX;
    for (unsigned s = 0; s < MIN(senders, (unsigned)SENDERS_MAX); s++)
        for (unsigned d = 0; d < domains; d++) {
            char sender[PATTERN_TEXT_MAX + 2], domain[PATTERN_TEXT_MAX + 2];
            if (f->decisions >= DECISIONS_MAX) {
                all = false;
                break;
            }
            look_at(f, pattern_set_text(f->domains, d, domain),
                    pattern_set_text(f->senders, s, sender));
        }
    if (!all)
        config_report_add(f->report, CONFIG_WARNING, f->nodes[0].config->file, 0, "",
                          "these files name too many domains and senders to look for circles with "
                          "all of them (L-19); leave out files that lead to no other node");
    if (f->circles > CIRCLES_MAX)
        config_report_add(f->report, CONFIG_WARNING, f->nodes[0].config->file, 0, "",
                          "more circles than the %d that are told (L-19)", CIRCLES_MAX);
}

/* A node without a name is not found behind one. */
static void lint_names(const struct fleet *f)
{
    for (unsigned i = 1; i < f->count; i++) {
        const struct config *config = f->nodes[i].config;
        if (strcmp(config->hostname, "localhost") == 0)
            config_report_add(f->report, CONFIG_WARNING, config->file, 0, "hostname",
                              "is the machine's, which is not known here, so hosts that lead there "
                              "by that name are not followed; write it into the file");
    }
}

void check_fleet(const struct config *const *nodes, unsigned count, struct config_report *report)
{
    CHECK(count > 0 && count <= CHECK_FLEET_MAX);
    struct fleet *f = calloc(1, sizeof(*f));
    if (f == NULL || pattern_set_new(&f->domains) < 0 || pattern_set_new(&f->senders) < 0)
        goto out;
    f->report = report;
    for (; f->count < count; f->count++)
        f->nodes[f->count].config = nodes[f->count];
    for (unsigned i = 0; i < count; i++) {
        node_leads(f, i);
        node_labels(&f->nodes[i]);
    }
    lint_names(f);
    if (!f->out_of_memory)
        names_gather(f);
    if (!f->out_of_memory)
        look_at_all(f);
out:
    if (f == NULL || f->senders == NULL || f->out_of_memory)
        config_report_add(report, CONFIG_ERROR, nodes[0]->file, 0, "", "out of memory");
    for (unsigned i = 0; f != NULL && i < f->count; i++)
        free(f->nodes[i].leads);
    if (f != NULL) {
        pattern_set_free(f->domains);
        pattern_set_free(f->senders);
    }
    free(f);
}
