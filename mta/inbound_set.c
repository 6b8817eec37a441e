/*
 * inbound_set.c - inbound connectors made findable: by MAIL FROM, by address, by certificate
 *
 * Partners are found by whom they cover. Own connectors are found by what identifies them; what the
 * look-up gives are candidates, and inbound_identify has the last word on each.
 *
 * A presented "*.d.example" may be meant by a cert-name "mx.d.example" as well, so exact names are
 * also indexed by their parent. Owns its indexes; connectors and own domains are borrowed from the
 * generation. Bounds: CONNECTORS_MAX connectors, those of pattern.h and networks.h for each index.
 */
#include "mta/inbound_inside.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/connector_names.h"

static void *grown(void *array, unsigned count, unsigned *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    unsigned more = MAX(64U, *capacity * 2);
    void *grown_array = reallocarray(array, more, size);
    if (grown_array != NULL)
        *capacity = more;
    return grown_array;
}

static int list_new(struct inbound_set *set, uint32_t *list)
{
    void *lists = grown(set->lists, set->lists_count, &set->lists_capacity, sizeof(*set->lists));
    if (lists == NULL)
        return -ENOMEM;
    set->lists = lists;
    set->lists[set->lists_count] =
        (struct inbound_list) { .first = INBOUND_LIST_END, .last = INBOUND_LIST_END };
    *list = set->lists_count++;
    return 0;
}

static int list_append(struct inbound_set *set, uint32_t list, uint32_t connector)
{
    struct inbound_list *at = &set->lists[list];
    if (at->last != INBOUND_LIST_END && set->links[at->last].connector == connector)
        return 0; /* the same pattern twice */
    void *links = grown(set->links, set->links_count, &set->links_capacity, sizeof(*set->links));
    if (links == NULL)
        return -ENOMEM;
    set->links = links;
    uint32_t link = set->links_count++;
    set->links[link] = (struct inbound_link) { .connector = connector, .next = INBOUND_LIST_END };
    if (at->last == INBOUND_LIST_END)
        at->first = link;
    else
        set->links[at->last].next = link;
    at->last = link;
    return 0;
}

static int index_pattern(struct inbound_set *set, struct pattern_set *patterns, struct slice text,
                         uint32_t connector)
{
    uint32_t list, other;
    const char *why;
    int r = list_new(set, &list);
    if (r < 0)
        return r;
    r = pattern_set_add(patterns, text, list, &other, &why);
    if (r == -EEXIST) {
        set->lists_count--; /* there is one */
        list = other;
    } else if (r < 0) {
        return r;
    }
    return list_append(set, list, connector);
}

static int index_patterns(struct inbound_set *set, struct pattern_set *patterns,
                          const struct pattern_set *given, uint32_t connector)
{
    for (unsigned i = 0; i < pattern_set_count(given); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        int r = index_pattern(set, patterns, pattern_set_text(given, i, text), connector);
        if (r < 0)
            return r;
    }
    return 0;
}

static int index_prefix(struct inbound_set *set, const struct net_prefix *prefix,
                        uint32_t connector)
{
    uint32_t list, other;
    int r = list_new(set, &list);
    if (r < 0)
        return r;
    r = networks_add(set->addresses, prefix, list, &other);
    if (r == -EEXIST) {
        set->lists_count--;
        list = other;
    } else if (r < 0) {
        return r;
    }
    return list_append(set, list, connector);
}

static int index_names(struct inbound_set *set, const struct inbound *c, uint32_t connector)
{
    for (unsigned i = 0; i < c->names_count; i++) {
        struct slice name = c->names[i];
        int r = index_pattern(set, set->names, name, connector);
        ptrdiff_t dot = slice_find(name, '.');
        if (r == 0 && name.data[0] != '*' && dot >= 0)
            r = index_pattern(set, set->parents, slice_from(name, (size_t)dot + 1), connector);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool has_certificate_rule(const struct inbound *c)
{
    return c->identify != INBOUND_BY_NOTHING && c->identify != INBOUND_BY_ADDRESS;
}

static int index_asked(struct inbound_set *set, const struct inbound *c)
{
    if (!has_certificate_rule(c))
        return 0;
    unsigned count = networks_count(c->addresses);
    if (count == 0)
        set->asks_all = true;
    for (unsigned i = 0; i < count; i++) {
        int r = networks_add(set->asked, networks_prefix(c->addresses, i), 0, NULL);
        if (r < 0 && r != -EEXIST)
            return r;
    }
    return 0;
}

/* BY_STAR: a lockdown of everybody that lets bounces pass is none (CONNECTORS 5.4). */
static bool covers_null(const struct inbound *c)
{
    struct pattern_match match;
    return c->null_sender == INBOUND_NULL_YES ||
           (c->null_sender == INBOUND_NULL_BY_STAR &&
            pattern_set_find(c->senders, SLICE("any.invalid"), &match) &&
            match.kind == PATTERN_ALL);
}

static int index_connector(struct inbound_set *set, uint32_t i)
{
    const struct inbound *c = &set->connectors[i];
    if (c->state == CONNECTOR_OFF)
        return 0;
    set->has_tests = set->has_tests || c->state == CONNECTOR_TEST;
    int r = index_asked(set, c);
    if (r < 0)
        return r;
    if (c->type == CONNECTOR_PARTNER) {
        r = index_patterns(set, set->senders, c->senders, i);
        return r == 0 && covers_null(c) ? list_append(set, set->null_senders, i) : r;
    }
    if (c->identify != INBOUND_BY_CERTIFICATE)
        for (unsigned k = 0; r == 0 && k < networks_count(c->addresses); k++)
            r = index_prefix(set, networks_prefix(c->addresses, k), i);
    if (r < 0 || !has_certificate_rule(c))
        return r;
    for (unsigned k = 0; k < c->pins_count; k++) {
        struct inbound_pin *pin = &set->pins[set->pins_count++];
        memcpy(pin->digest, c->pins[k], TLS_DIGEST_BYTES);
        pin->connector = i;
    }
    return index_names(set, c, i);
}

static int pin_order(const void *left, const void *right)
{
    const struct inbound_pin *a = left, *b = right;
    int order = memcmp(a->digest, b->digest, TLS_DIGEST_BYTES);
    return order != 0 ? order : (a->connector > b->connector) - (a->connector < b->connector);
}

static int set_index(struct inbound_set *set)
{
    set->by_name_mask = connector_name_places(set->count) - 1;
    set->by_name = calloc((size_t)set->by_name_mask + 1, sizeof(*set->by_name));
    if (set->by_name == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < set->count; i++)
        connector_name_put(set->by_name, set->by_name_mask, set->connectors[i].name, i);
    size_t pins = 0;
    for (unsigned i = 0; i < set->count; i++)
        pins += set->connectors[i].pins_count;
    set->pins = calloc(MAX(pins, (size_t)1), sizeof(*set->pins));
    if (set->pins == NULL || pattern_set_new(&set->senders) < 0 ||
        pattern_set_new(&set->names) < 0 || pattern_set_new(&set->parents) < 0 ||
        networks_new(&set->addresses) < 0 || networks_new(&set->asked) < 0 ||
        list_new(set, &set->null_senders) < 0)
        return -ENOMEM;
    for (unsigned i = 0; i < set->count; i++) {
        int r = index_connector(set, i);
        if (r < 0)
            return r;
    }
    qsort(set->pins, set->pins_count, sizeof(*set->pins), pin_order);
    int r = networks_seal(set->addresses);
    return r == 0 ? networks_seal(set->asked) : r;
}

int inbound_set_new(const struct inbound *connectors, unsigned count,
                    const struct inbound_defaults *defaults, const struct pattern_set *own_domains,
                    struct inbound_set **out)
{
    CHECK(count <= CONNECTORS_MAX);
    struct inbound_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return -ENOMEM;
    set->connectors = connectors;
    set->count = count;
    set->defaults = *defaults;
    set->own_domains = own_domains;
    int r = set_index(set);
    if (r < 0) {
        inbound_set_free(set);
        return r;
    }
    *out = set;
    return 0;
}

void inbound_set_free(struct inbound_set *set)
{
    if (set == NULL)
        return;
    pattern_set_free(set->senders);
    pattern_set_free(set->names);
    pattern_set_free(set->parents);
    networks_free(set->addresses);
    networks_free(set->asked);
    free(set->by_name);
    free(set->pins);
    free(set->links);
    free(set->lists);
    free(set);
}

unsigned inbound_count(const struct inbound_set *set)
{
    return set->count;
}

const struct inbound *inbound_at(const struct inbound_set *set, unsigned index)
{
    CHECK(index < set->count);
    return &set->connectors[index];
}

const struct inbound *inbound_named(const struct inbound_set *set, struct slice name)
{
    if (name.size == 0)
        return NULL;
    for (uint32_t at = connector_name_hash(name);; at++) {
        const uint32_t found = set->by_name[at & set->by_name_mask];
        if (found == 0)
            return NULL;
        if (slice_equal(slice_of_string(set->connectors[found - 1].name), name))
            return &set->connectors[found - 1];
    }
}

unsigned inbound_index(const struct inbound_set *set, const struct inbound *connector)
{
    CHECK(connector >= set->connectors);
    CHECK(connector < set->connectors + set->count);
    return (unsigned)(connector - set->connectors);
}

const struct inbound_defaults *inbound_defaults(const struct inbound_set *set)
{
    return &set->defaults;
}

bool inbound_asks(const struct inbound_set *set, const struct net_address *peer)
{
    return set->asks_all || networks_hold(set->asked, peer);
}

/* ---- candidates ---- */

/* Ascending and without repetition; of too many the lowest stay. */
static void candidate_add(struct inbound_candidates *candidates, uint32_t connector)
{
    unsigned at = candidates->count;
    while (at > 0 && candidates->at[at - 1] > connector)
        at--;
    if (at > 0 && candidates->at[at - 1] == connector)
        return;
    if (candidates->count == INBOUND_CANDIDATES_MAX) {
        candidates->more = true;
        if (at == INBOUND_CANDIDATES_MAX)
            return;
        candidates->count--;
    }
    memmove(candidates->at + at + 1, candidates->at + at,
            (candidates->count - at) * sizeof(candidates->at[0]));
    candidates->at[at] = (uint16_t)connector;
    candidates->count++;
}

static void candidates_of_list(const struct inbound_set *set, uint32_t list,
                               struct inbound_candidates *candidates)
{
    for (uint32_t at = set->lists[list].first; at != INBOUND_LIST_END; at = set->links[at].next)
        candidate_add(candidates, set->links[at].connector);
}

static void candidates_of_name(const struct inbound_set *set, struct slice name,
                               struct inbound_candidates *candidates)
{
    struct pattern_match found[PATTERN_MATCHES_MAX];
    /* A star is a label like any other here: below what it stands below. */
    unsigned count = pattern_set_find_all(set->names, name, found);
    for (unsigned i = 0; i < count; i++)
        candidates_of_list(set, found[i].value, candidates);
    if (name.size > 2 && name.data[0] == '*' &&
        pattern_set_find(set->parents, slice_from(name, 2), &found[0]))
        candidates_of_list(set, found[0].value, candidates);
}

static void candidates_of_pin(const struct inbound_set *set, const uint8_t *digest,
                              struct inbound_candidates *candidates)
{
    unsigned low = 0, high = set->pins_count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (memcmp(set->pins[middle].digest, digest, TLS_DIGEST_BYTES) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < set->pins_count && memcmp(set->pins[low].digest, digest, TLS_DIGEST_BYTES) == 0;
         low++)
        candidate_add(candidates, set->pins[low].connector);
}

void inbound_candidates(const struct inbound_set *set, struct inbound_session *session)
{
    struct inbound_candidates *candidates = &session->candidates;
    *candidates = (struct inbound_candidates) { .count = 0 };
    uint32_t lists[NETWORKS_DEPTH_MAX];
    unsigned count = networks_find_all(set->addresses, session->peer, lists);
    for (unsigned i = 0; i < count; i++)
        candidates_of_list(set, lists[i], candidates);
    if (session->certificates_count == 0)
        return;
    const struct tls_peer *peer = session->certificates[0].peer;
    const struct tls_names *names = &peer->leaf.names;
    for (unsigned i = 0; i < names->count; i++)
        candidates_of_name(set, tls_names_at(names, i), candidates);
    if (names->count == 0 && *peer->leaf.common_name != '\0') {
        char name[PATTERN_TEXT_MAX];
        int size = pattern_normalise(slice_of_string(peer->leaf.common_name), name);
        if (size > 0)
            candidates_of_name(set, slice_of(name, (size_t)size), candidates);
    }
    if (peer->has_key)
        candidates_of_pin(set, peer->leaf.spki, candidates);
}
