/*
 * inbound.c - the decisions of CONNECTORS section 5, without I/O, allocation or clock
 *
 *   attribute: own, identified > lockdowns that cover the sender > plain partners > none
 *   decide:    attribute, then floors, lockdown, rights, our own senders; the first token counts
 *
 * Everything is decided twice when the set has connectors in test: once without them, which
 * counts, and once as if they were enforced, which is only told (inbound_would).
 *
 * Surprise: at MAIL no recipient is known, so connectors that apply to some recipients only have
 * no say there; what they demand is looked at with each RCPT.
 */
#include <stdlib.h>

#include "core/check.h"
#include "mta/inbound_inside.h"

enum {
    RANK_CERTIFICATE = 1 << 16, /* before any address */
    RANK_EXACT = 1 << 12,       /* before any wildcard */
};

/* What is decided about, and whether connectors in test have a say. */
struct matter {
    const struct inbound_set *set;
    const struct inbound_session *session;
    struct slice sender;
    const struct slice *recipient; /* NULL: not known yet */
    bool with_tests;
    const struct inbound **status_unknown; /* is told the first one that wanted to know */
};

struct attribution {
    enum inbound_kind kind;
    const struct inbound *connector;
    struct inbound_identity identity;
    const struct inbound *plain;       /* the most specific partner without lockdown that covers */
    const struct inbound *own_unknown; /* who would be it, were the certificate's status known */
};

struct decision {
    struct attribution attribution;
    enum connector_token token;
    enum connector_class class;
    const struct inbound *by;
    bool is_own_sender;
};

/* ---- identity ---- */

/* Its place among the session's, or the number of them. */
static unsigned certificate_for(const struct inbound *c, const struct inbound_session *session)
{
    unsigned i = 0;
    while (i < session->certificates_count && session->certificates[i].roots != c->roots)
        i++;
    return i;
}

static enum connector_token token_of_verdict(enum tls_verdict verdict)
{
    switch (verdict) {
    case TLS_VERDICT_VALID: return TOKEN_NONE;
    case TLS_VERDICT_NONE: return TOKEN_CERT_NONE;
    case TLS_VERDICT_EXPIRED:
    case TLS_VERDICT_NOT_YET: return TOKEN_CERT_EXPIRED;
    case TLS_VERDICT_USAGE: return TOKEN_CERT_USAGE;
    default: return TOKEN_CERT_UNTRUSTED;
    }
}

static bool usage_fits(enum tls_purpose wanted, unsigned usage)
{
    unsigned any = TLS_USAGE_ANY | TLS_USAGE_UNLIMITED;
    switch (wanted) {
    case TLS_PURPOSE_CLIENT: return (usage & (TLS_USAGE_CLIENT | any)) != 0;
    case TLS_PURPOSE_SERVER: return (usage & (TLS_USAGE_SERVER | any)) != 0;
    default: return true; /* the verdict has seen to it */
    }
}

/* CONNECTORS 4.5 */
static enum connector_token revocation_fits(const struct inbound *c, enum tls_crl_status status,
                                            struct inbound_identity *identity)
{
    if (c->revocation == TLS_REVOCATION_OFF)
        return TOKEN_NONE;
    if (status == TLS_CRL_REVOKED)
        return TOKEN_CERT_REVOKED;
    identity->is_status_unknown = status == TLS_CRL_UNKNOWN;
    return identity->is_status_unknown && c->revocation == TLS_REVOCATION_HARD
               ? TOKEN_REVOCATION_UNKNOWN
               : TOKEN_NONE;
}

/* Chain, usage, name and revocation (CONNECTORS 4.2, 4.3, 4.5), the last one only of a certificate
 * that fits otherwise: nobody else's lists are fetched. */
static enum connector_token name_fits(const struct inbound *c,
                                      const struct inbound_session *session,
                                      struct inbound_identity *identity)
{
    unsigned index = certificate_for(c, session);
    if (index == session->certificates_count)
        return TOKEN_CERT_UNTRUSTED;
    const struct tls_peer *peer = session->certificates[index].peer;
    enum connector_token token = token_of_verdict(peer->verdict);
    if (token != TOKEN_NONE)
        return token;
    if (!usage_fits(c->usage, peer->leaf.usage))
        return TOKEN_CERT_USAGE;
    char why[TLS_WHY_MAX];
    unsigned allow = (c->takes_wildcards ? TLS_ALLOW_WILDCARD : 0U) |
                     (c->takes_common_name ? TLS_ALLOW_COMMON_NAME : 0U);
    if (!tls_verify_name(peer, c->names, c->names_count, allow, &identity->name, why))
        return TOKEN_CERT_NAME;
    return revocation_fits(c, session->certificates[index].revocation, identity);
}

static uint32_t rank_of_name(const struct inbound *c, struct slice name)
{
    uint32_t best = 0;
    for (unsigned i = 0; i < c->names_count; i++) {
        struct slice pattern = c->names[i];
        if (!tls_name_match(pattern, name, c->takes_wildcards))
            continue;
        uint32_t labels = 0;
        for (size_t k = 0; k < pattern.size; k++)
            labels += pattern.data[k] == '.';
        best = MAX(best, pattern.data[0] == '*' ? labels : (uint32_t)RANK_EXACT);
    }
    return best;
}

static enum connector_token certificate_fits(const struct inbound *c,
                                             const struct inbound_session *session,
                                             struct inbound_identity *identity)
{
    if (session->certificates_count == 0)
        return TOKEN_CERT_NONE;
    enum connector_token name = TOKEN_NONE, pin = TOKEN_NONE;
    if (c->check != INBOUND_PIN)
        name = name_fits(c, session, identity);
    if (c->check != INBOUND_NAME &&
        tls_verify_pin(session->certificates[0].peer, c->pins, c->pins_count) < 0)
        pin = TOKEN_CERT_PIN;
    bool fits = c->check == INBOUND_NAME_OR_PIN ? name == TOKEN_NONE || pin == TOKEN_NONE
                                                : name == TOKEN_NONE && pin == TOKEN_NONE;
    if (!fits)
        return name != TOKEN_NONE ? name : pin;
    if (name != TOKEN_NONE)
        identity->name = slice_of(NULL, 0);
    identity->by_certificate = true;
    identity->rank = RANK_CERTIFICATE + rank_of_name(c, identity->name);
    return TOKEN_NONE;
}

static enum connector_token address_fits(const struct inbound *c,
                                         const struct inbound_session *session,
                                         struct inbound_identity *identity)
{
    const struct net_prefix *prefix = networks_find(c->addresses, session->peer, NULL);
    if (prefix == NULL)
        return TOKEN_ADDRESS_MISMATCH;
    identity->by_address = true;
    identity->rank = MAX(identity->rank, (uint32_t)prefix->bits + 1);
    return TOKEN_NONE;
}

void inbound_identify(const struct inbound *c, const struct inbound_session *session,
                      struct inbound_identity *identity)
{
    *identity = (struct inbound_identity) { .token = TOKEN_NONE };
    enum connector_token certificate = TOKEN_NONE, address = TOKEN_NONE;
    if (c->identify != INBOUND_BY_ADDRESS && c->identify != INBOUND_BY_NOTHING)
        certificate = certificate_fits(c, session, identity);
    if (c->identify != INBOUND_BY_CERTIFICATE && c->identify != INBOUND_BY_NOTHING)
        address = address_fits(c, session, identity);
    bool fits = c->identify == INBOUND_BY_EITHER
                    ? certificate == TOKEN_NONE || address == TOKEN_NONE
                    : certificate == TOKEN_NONE && address == TOKEN_NONE;
    if (fits && (c->header.name.size == 0 || !session->lacks_header))
        return;
    /* The platform was identified, and not this customer of it (CONNECTORS 4.6). */
    if (fits)
        certificate = identity->by_certificate ? TOKEN_CERT_NAME : TOKEN_ADDRESS_MISMATCH;
    *identity = (struct inbound_identity) {
        .token = certificate != TOKEN_NONE ? certificate : address,
        .is_status_unknown = identity->is_status_unknown,
    };
}

/* ---- attribution ---- */

static void identify(const struct matter *m, const struct inbound *c,
                     struct inbound_identity *identity)
{
    inbound_identify(c, m->session, identity);
    if (identity->is_status_unknown && m->status_unknown != NULL && *m->status_unknown == NULL)
        *m->status_unknown = c;
}

static bool has_a_say(const struct matter *m, const struct inbound *c)
{
    return c->state == CONNECTOR_ENFORCE || (m->with_tests && c->state == CONNECTOR_TEST);
}

static bool applies(const struct matter *m, const struct inbound *c)
{
    struct pattern_match match;
    if (c->recipients == NULL)
        return true;
    return m->recipient != NULL && pattern_set_find(c->recipients, *m->recipient, &match);
}

static bool own_takes_sender(const struct inbound *c, struct slice sender)
{
    struct pattern_match match;
    if (c->senders == NULL)
        return true;
    if (sender.size > 0)
        return pattern_set_find(c->senders, sender, &match);
    return pattern_set_find(c->senders, SLICE("any.invalid"), &match) && match.kind == PATTERN_ALL;
}

/* The better of two that are identified; equal ones come in the order of their index. */
static void keep_better(const struct inbound *c, const struct inbound_identity *identity,
                        struct attribution *best)
{
    if (best->connector != NULL && identity->rank <= best->identity.rank)
        return;
    best->connector = c;
    best->identity = *identity;
}

static bool attribute_own(const struct matter *m, struct attribution *out)
{
    const struct inbound_candidates *candidates = &m->session->candidates;
    struct attribution best = { .kind = INBOUND_OWN };
    for (unsigned i = 0; i < candidates->count; i++) {
        const struct inbound *c = inbound_at(m->set, candidates->at[i]);
        struct inbound_identity identity;
        if (!has_a_say(m, c) || !own_takes_sender(c, m->sender) || !applies(m, c))
            continue;
        identify(m, c, &identity);
        if (identity.token == TOKEN_NONE)
            keep_better(c, &identity, &best);
        else if (identity.token == TOKEN_REVOCATION_UNKNOWN && best.own_unknown == NULL)
            best.own_unknown = c;
    }
    out->own_unknown = best.own_unknown;
    if (best.connector == NULL)
        return false;
    *out = best;
    return true;
}

/* Lists of partners that cover the sender, the most specific pattern first. */
static unsigned coverage(const struct matter *m, uint32_t lists[static PATTERN_MATCHES_MAX])
{
    if (m->sender.size == 0) {
        lists[0] = m->set->null_senders;
        return 1;
    }
    struct pattern_match matches[PATTERN_MATCHES_MAX];
    unsigned count = pattern_set_find_all(m->set->senders, m->sender, matches);
    for (unsigned i = 0; i < count; i++)
        lists[i] = matches[i].value;
    return count;
}

struct lockdown {
    struct attribution satisfied;
    struct attribution refused; /* the first one, whose token is told */
};

static void lockdown_of_list(const struct matter *m, uint32_t list, struct lockdown *out)
{
    const struct inbound_set *set = m->set;
    for (uint32_t at = set->lists[list].first; at != INBOUND_LIST_END; at = set->links[at].next) {
        const struct inbound *c = &set->connectors[set->links[at].connector];
        struct inbound_identity identity;
        if (!c->restricts || !has_a_say(m, c) || !applies(m, c))
            continue;
        identify(m, c, &identity);
        if (identity.token == TOKEN_NONE) {
            keep_better(c, &identity, &out->satisfied);
        } else if (out->refused.connector == NULL) {
            out->refused.connector = c;
            out->refused.identity = identity;
        }
    }
}

/* Only the most specific coverage decides (CONNECTORS 5.4), unless the file says otherwise. */
static bool attribute_lockdown(const struct matter *m, const uint32_t *lists, unsigned count,
                               struct attribution *out)
{
    struct lockdown found = { .satisfied.kind = INBOUND_PARTNER, .refused.kind = INBOUND_REFUSED };
    for (unsigned i = 0; i < count; i++) {
        lockdown_of_list(m, lists[i], &found);
        bool any = found.satisfied.connector != NULL || found.refused.connector != NULL;
        if (any && !m->set->defaults.any_lockdown)
            break;
    }
    if (found.satisfied.connector == NULL && found.refused.connector == NULL)
        return false;
    *out = found.satisfied.connector != NULL ? found.satisfied : found.refused;
    return true;
}

/* The plain partner that is most specific; identified ones first. */
static struct attribution plain_partner(const struct matter *m, const uint32_t *lists,
                                        unsigned count)
{
    const struct inbound_set *set = m->set;
    struct attribution best = { .kind = INBOUND_PARTNER };
    for (unsigned i = 0; i < count && best.connector == NULL; i++) {
        uint32_t at = set->lists[lists[i]].first;
        for (; at != INBOUND_LIST_END; at = set->links[at].next) {
            const struct inbound *c = &set->connectors[set->links[at].connector];
            struct inbound_identity identity;
            if (c->restricts || !has_a_say(m, c) || !applies(m, c))
                continue;
            identify(m, c, &identity);
            keep_better(c, &identity, &best);
        }
    }
    return best;
}

static void attribute(const struct matter *m, struct attribution *out)
{
    uint32_t lists[PATTERN_MATCHES_MAX];
    *out = (struct attribution) { .kind = INBOUND_SUBMISSION };
    if (m->session->is_submission)
        return;
    unsigned count = coverage(m, lists);
    struct attribution plain = plain_partner(m, lists, count);
    bool found_own = attribute_own(m, out);
    const struct inbound *own_unknown = found_own ? NULL : out->own_unknown;
    if (!found_own && !attribute_lockdown(m, lists, count, out))
        *out = plain.connector != NULL ? plain : (struct attribution) { .kind = INBOUND_NONE };
    out->plain = plain.connector;
    out->own_unknown = own_unknown;
}

/* ---- what follows from it ---- */

/* The first token of the table counts; of equal ones the first that came. */
static void refuse(struct decision *d, enum connector_token token, enum connector_class class,
                   const struct inbound *by)
{
    if (token == TOKEN_NONE || (d->token != TOKEN_NONE && d->token <= token))
        return;
    d->token = token;
    d->class = class;
    d->by = by;
}

static enum connector_token floor_token(const struct inbound *c,
                                        const struct inbound_session *session)
{
    if (session->tls_version == 0)
        return c->needs_tls ? TOKEN_TLS_REQUIRED : TOKEN_NONE;
    if (session->tls_version < c->tls_min || (c->needs_hybrid && !session->is_hybrid))
        return TOKEN_TLS_TOO_WEAK;
    return TOKEN_NONE;
}

static void check_floor(const struct matter *m, const struct inbound *c, struct decision *d)
{
    if (c != NULL)
        refuse(d, floor_token(c, m->session), c->on_missing_tls, c);
}

static void check_floors(const struct matter *m, struct decision *d)
{
    const struct attribution *a = &d->attribution;
    /* A refusing one that is not about certificates is not satisfied by TLS either. */
    bool counts = a->kind != INBOUND_REFUSED || a->connector->identify == INBOUND_BY_CERTIFICATE ||
                  a->connector->identify == INBOUND_BY_BOTH;
    if (counts)
        check_floor(m, a->connector, d);
    check_floor(m, a->plain, d);
}

static bool is_own(const struct inbound_set *set, struct slice domain)
{
    struct pattern_match match;
    return set->own_domains != NULL && pattern_set_find(set->own_domains, domain, &match);
}

bool inbound_name_is_ours(const struct pattern_set *own_domains, struct slice name)
{
    struct pattern_match match;
    if (name.size > 2 && name.data[0] == '*')
        name = slice_from(name, 2);
    for (;;) {
        if (own_domains != NULL && pattern_set_find(own_domains, name, &match) &&
            match.kind != PATTERN_ALL)
            return true;
        ptrdiff_t dot = slice_find(name, '.');
        if (dot < 0)
            return false;
        name = slice_from(name, (size_t)dot + 1);
    }
}

/* CONNECTORS 5.6 */
static bool may_relay(const struct matter *m, const struct attribution *a)
{
    if (a->kind == INBOUND_SUBMISSION)
        return true;
    if (a->kind != INBOUND_OWN || (a->connector->rights & INBOUND_RELAY) == 0)
        return false;
    bool proved =
        a->identity.by_certificate && inbound_name_is_ours(m->set->own_domains, a->identity.name);
    if (m->sender.size == 0)
        return a->connector->null_relay == INBOUND_NULL_RELAY_YES ||
               (a->connector->null_relay == INBOUND_NULL_RELAY_CERT && proved);
    return proved || a->connector->relays_any_sender || is_own(m->set, m->sender);
}

static void check_recipient(const struct matter *m, struct decision *d)
{
    const struct attribution *a = &d->attribution;
    if (a->kind == INBOUND_REFUSED)
        refuse(d, a->identity.token, a->connector->on_mismatch, a->connector);
    if (m->recipient->size > 0 && !is_own(m->set, *m->recipient) && !may_relay(m, a))
        refuse(d, TOKEN_RELAY_DENIED, CONNECTOR_REJECT, NULL);
    bool without_proof =
        a->kind == INBOUND_NONE || (a->kind == INBOUND_PARTNER && !a->connector->restricts);
    d->is_own_sender = without_proof && m->sender.size > 0 && is_own(m->set, m->sender);
    if (d->is_own_sender && m->set->defaults.own_sender == INBOUND_OWN_SENDER_REJECT)
        refuse(d, TOKEN_OWN_SENDER, CONNECTOR_REJECT, NULL);
    /* It might be one of ours, to whom none of this applies: that is not known now (6.2). */
    if (d->token >= TOKEN_CERT_NONE && a->own_unknown != NULL) {
        d->token = TOKEN_REVOCATION_UNKNOWN;
        d->class = CONNECTOR_DEFER;
        d->by = a->own_unknown;
    }
}

static void decide(const struct matter *m, struct decision *d)
{
    *d = (struct decision) { .token = TOKEN_NONE };
    attribute(m, &d->attribution);
    check_floors(m, d);
    if (m->recipient != NULL)
        check_recipient(m, d);
}

/* What connectors in test would have changed. */
static struct inbound_would would_be(const struct matter *m)
{
    struct inbound_would would = { .connector = NULL };
    if (!m->set->has_tests)
        return would;
    struct matter as_if = *m;
    struct decision d;
    as_if.with_tests = true;
    decide(&as_if, &d);
    if (d.by != NULL && d.by->state == CONNECTOR_TEST)
        would.connector = d.by;
    else if (d.attribution.connector != NULL && d.attribution.connector->state == CONNECTOR_TEST)
        would.connector = d.attribution.connector;
    if (would.connector != NULL)
        would.token = d.token;
    return would;
}

void inbound_mail(const struct inbound_set *set, const struct inbound_session *session,
                  struct slice sender, struct inbound_mail *mail)
{
    const struct inbound *status_unknown = NULL;
    struct matter m = {
        .set = set, .session = session, .sender = sender, .status_unknown = &status_unknown
    };
    struct decision d;
    decide(&m, &d);
    struct inbound_would would = would_be(&m);
    *mail = (struct inbound_mail) { .kind = d.attribution.kind,
                                    .connector = d.attribution.connector,
                                    .identity = d.attribution.identity,
                                    .token = d.token,
                                    .class = d.class,
                                    .by = d.by,
                                    .status_unknown = status_unknown,
                                    .would = would };
}

void inbound_rcpt(const struct inbound_set *set, const struct inbound_session *session,
                  struct slice sender, struct slice recipient, struct inbound_rcpt *rcpt)
{
    const struct inbound *status_unknown = NULL;
    struct matter m = { .set = set,
                        .session = session,
                        .sender = sender,
                        .recipient = &recipient,
                        .status_unknown = &status_unknown };
    struct decision d;
    decide(&m, &d);
    struct inbound_would would = would_be(&m);
    const struct attribution *a = &d.attribution;
    *rcpt = (struct inbound_rcpt) { .kind = a->kind,
                                    .connector = a->connector,
                                    .identity = a->identity,
                                    .token = d.token,
                                    .class = d.class,
                                    .by = d.by,
                                    .status_unknown = status_unknown,
                                    .is_own_sender = d.is_own_sender,
                                    .is_internal = a->kind == INBOUND_OWN &&
                                                   (a->connector->rights & INBOUND_INTERNAL) != 0 &&
                                                   is_own(set, sender),
                                    .keeps_fields = a->kind == INBOUND_OWN &&
                                                    (a->connector->rights & INBOUND_HEADERS) != 0,
                                    .would = would };
}

const char *inbound_kind_name(enum inbound_kind kind)
{
    static const char *const names[] = {
        [INBOUND_NONE] = "none",       [INBOUND_SUBMISSION] = "submission", [INBOUND_OWN] = "own",
        [INBOUND_PARTNER] = "partner", [INBOUND_REFUSED] = "refused",
    };
    CHECK((size_t)kind < ARRAY_COUNT(names));
    return names[kind];
}

/* ---- explaining ---- */

static enum pattern_kind covering_pattern(const struct inbound_set *set, const struct inbound *c,
                                          struct slice sender)
{
    struct pattern_match match;
    if (sender.size > 0)
        return pattern_set_find(c->senders, sender, &match) ? match.kind : PATTERN_NONE;
    uint32_t index = inbound_index(set, c);
    for (uint32_t at = set->lists[set->null_senders].first; at != INBOUND_LIST_END;
         at = set->links[at].next)
        if (set->links[at].connector == index)
            return PATTERN_ALL;
    return PATTERN_NONE;
}

static enum inbound_reason reason_of(const struct matter *m, const struct decision *d,
                                     const struct inbound *c, struct inbound_opinion *opinion)
{
    const struct attribution *a = &d->attribution;
    if (c->state == CONNECTOR_OFF)
        return INBOUND_IS_OFF;
    inbound_identify(c, m->session, &opinion->identity);
    if (c->type == CONNECTOR_PARTNER) {
        opinion->covers = covering_pattern(m->set, c, m->sender);
        if (opinion->covers == PATTERN_NONE)
            return INBOUND_NOT_COVERING;
    } else if (!own_takes_sender(c, m->sender)) {
        return INBOUND_NOT_SENDER;
    }
    if (!applies(m, c))
        return INBOUND_NOT_RECIPIENT;
    if (c == a->connector || c == d->by)
        return INBOUND_DECIDES;
    if (c->type == CONNECTOR_PARTNER && (a->kind == INBOUND_OWN || a->kind == INBOUND_SUBMISSION))
        return INBOUND_OWN_IS_FIRST;
    if (opinion->identity.token != TOKEN_NONE)
        return INBOUND_NOT_IDENTIFIED;
    return c->type == CONNECTOR_PARTNER &&
                   opinion->covers < covering_pattern(m->set, a->connector, m->sender)
               ? INBOUND_LESS_SPECIFIC
               : INBOUND_LESS_SO;
}

void inbound_opinion(const struct inbound_set *set, const struct inbound_session *session,
                     struct slice sender, const struct slice *recipient, unsigned index,
                     struct inbound_opinion *opinion)
{
    const struct inbound *c = inbound_at(set, index);
    struct matter m = { .set = set,
                        .session = session,
                        .sender = sender,
                        .recipient = recipient,
                        .with_tests = c->state == CONNECTOR_TEST };
    struct decision d;
    *opinion = (struct inbound_opinion) { .in_test = c->state == CONNECTOR_TEST };
    decide(&m, &d);
    opinion->reason = reason_of(&m, &d, c, opinion);
}
