/*
 * outbound.c - the choice of an outbound connector
 *
 * Pure, and without memory of its own. What a connector in test would do is found by choosing a
 * second time as if it were enforced.
 */
#include "mta/outbound.h"

#include "core/check.h"
#include "mta/connector_names.h"

struct selection {
    const struct outbound_set *set;
    const struct outbound_facts *facts;
    bool tests; /* those in test count as enforced */
    bool own;   /* the recipient's domain is ours */
};

bool outbound_is_own(const struct outbound_set *set, struct slice domain)
{
    struct pattern_match match;
    /* An open relay takes mail for *, and is not everybody's home for that. */
    return pattern_set_find(set->own, domain, &match) && match.kind != PATTERN_ALL;
}

bool outbound_domains_fit(const struct outbound_set *set, const struct outbound_domains *domains,
                          struct slice domain)
{
    struct pattern_match match;
    return !domains->given || pattern_set_find(domains->patterns, domain, &match) ||
           (domains->own && outbound_is_own(set, domain));
}

static bool labels_fit(const struct outbound_labels *labels, struct slice label)
{
    for (unsigned i = 0; i < labels->count; i++)
        if (slice_equal(slice_of_string(labels->labels[i]), label))
            return true;
    return labels->count == 0;
}

static bool is_in_force(const struct selection *s, const struct outbound *connector)
{
    return connector->state == CONNECTOR_ENFORCE ||
           (s->tests && connector->state == CONNECTOR_TEST);
}

static bool is_eligible(const struct selection *s, const struct outbound *connector)
{
    return is_in_force(s, connector) && !connector->by_rule &&
           outbound_domains_fit(s->set, &connector->senders, s->facts->sender_domain) &&
           labels_fit(&connector->from_labels, s->facts->label);
}

static bool takes_size(const struct outbound *connector, uint64_t size)
{
    return connector->size_max == 0 || size <= connector->size_max;
}

/* Those servers sent it to us themselves: not to them again. */
static bool returns(const struct selection *s, const struct outbound *connector)
{
    return s->facts->from_own && slice_equal(slice_of_string(connector->label), s->facts->label);
}

/* False: none of them is eligible. Else the first that takes the size, or it is too large. */
static bool choose_among(const struct selection *s, const struct outbound_list *list,
                         struct outbound_choice *choice)
{
    const struct outbound *small = NULL;
    for (unsigned i = 0; i < list->count; i++) {
        const struct outbound *connector = &s->set->connectors[list->members[i]];
        if (!is_eligible(s, connector) || (list == &s->set->all_mail && returns(s, connector)))
            continue;
        if (takes_size(connector, s->facts->size)) {
            *choice =
                (struct outbound_choice) { .verdict = OUTBOUND_CONNECTOR, .connector = connector };
            return true;
        }
        small = small == NULL ? connector : small;
    }
    if (small == NULL)
        return false;
    *choice = (struct outbound_choice) { .verdict = OUTBOUND_BOUNCE,
                                         .reason = OUTBOUND_TOO_LARGE,
                                         .connector = small };
    return true;
}

static bool answers(enum outbound_if asked, bool fact)
{
    return asked == OUTBOUND_EITHER || fact == (asked == OUTBOUND_YES);
}

static bool rule_fits(const struct selection *s, const struct outbound_rule *rule)
{
    const struct outbound_facts *facts = s->facts;
    return outbound_domains_fit(s->set, &rule->senders, facts->sender_domain) &&
           outbound_domains_fit(s->set, &rule->recipients, facts->recipient_domain) &&
           labels_fit(&rule->labels, facts->label) &&
           (!rule->asks_size || facts->size > rule->size_over) && answers(rule->tls, facts->tls) &&
           answers(rule->requiretls, facts->requiretls);
}

/* The first that names a connector, and the strictest level of all. */
static const struct outbound_rule *rules_apply(const struct selection *s, enum tls_level *require)
{
    const struct outbound_rule *naming = NULL;
    for (unsigned i = 0; i < s->set->rules_count; i++) {
        const struct outbound_rule *rule = &s->set->rules[i];
        if (!rule_fits(s, rule))
            continue;
        *require = MAX(*require, rule->require);
        if (naming == NULL && rule->use != NULL)
            naming = rule;
    }
    return naming;
}

/* connector NULL: there is none by that name any more. */
static void choose_named(const struct selection *s, const struct outbound_rule *rule,
                         const struct outbound *connector, struct outbound_choice *choice)
{
    if (connector == NULL) {
        *choice =
            (struct outbound_choice) { .verdict = OUTBOUND_DEFER, .reason = OUTBOUND_UNAVAILABLE };
        return;
    }
    bool works = is_in_force(s, connector) && takes_size(connector, s->facts->size);
    *choice = (struct outbound_choice) {
        .verdict = works                ? OUTBOUND_CONNECTOR
                   : connector->bounces ? OUTBOUND_BOUNCE
                                        : OUTBOUND_DEFER,
        .reason = works ? OUTBOUND_CHOSEN : OUTBOUND_UNAVAILABLE,
        .connector = connector,
        .rule = rule,
    };
}

static bool choose_by_domain(const struct selection *s, struct outbound_choice *choice)
{
    const struct outbound_set *set = s->set;
    struct pattern_match matches[PATTERN_MATCHES_MAX];
    unsigned count = pattern_set_find_all(set->patterns, s->facts->recipient_domain, matches);
    unsigned at = 0;
    for (; at < count && matches[at].kind != PATTERN_ALL; at++)
        if (choose_among(s, &set->lists[matches[at].value], choice))
            return true;
    if (s->own && choose_among(s, &set->all_own, choice))
        return true;
    return at < count && choose_among(s, &set->lists[matches[at].value], choice);
}

static void choose(const struct selection *s, struct outbound_choice *choice)
{
    enum tls_level require = TLS_LEVEL_NONE;
    const struct outbound_rule *rule = rules_apply(s, &require);
    if (s->facts->is_copy)
        choose_named(s, NULL, outbound_named(s->set, s->facts->copy_via), choice);
    else if (rule != NULL)
        choose_named(s, rule, rule->use, choice);
    else if ((s->own || !choose_among(s, &s->set->all_mail, choice)) &&
             !choose_by_domain(s, choice))
        *choice = (struct outbound_choice) {
            .verdict = s->own ? OUTBOUND_DEFER : OUTBOUND_DEFAULT,
            .reason = s->own ? OUTBOUND_NO_WAY : OUTBOUND_CHOSEN,
        };
    choice->floor = require;
    if (choice->verdict == OUTBOUND_CONNECTOR || choice->verdict == OUTBOUND_DEFAULT)
        choice->floor = MAX(require, route_floor(outbound_route(s->set, choice)));
}

void outbound_select(const struct outbound_set *set, const struct outbound_facts *facts,
                     struct outbound_choice *choice)
{
    struct selection s = { .set = set,
                           .facts = facts,
                           .own = outbound_is_own(set, facts->recipient_domain) };
    choose(&s, choice);
    if (!set->has_tests)
        return;
    struct outbound_choice other;
    s.tests = true;
    choose(&s, &other);
    if (other.connector != NULL && other.connector->state == CONNECTOR_TEST)
        choice->would = other.connector;
}

bool outbound_rule_fits(const struct outbound_set *set, const struct outbound_facts *facts,
                        const struct outbound_rule *rule)
{
    const struct selection s = { .set = set, .facts = facts };
    return rule_fits(&s, rule);
}

bool outbound_is_copied_to(const struct outbound_set *set, struct slice address)
{
    for (unsigned i = 0; i < set->rules_count; i++)
        if (set->rules[i].copy_to != NULL &&
            slice_equal_nocase(slice_of_string(set->rules[i].copy_to), address))
            return true;
    return false;
}

enum outbound_why outbound_opinion(const struct outbound_set *set,
                                   const struct outbound_facts *facts, unsigned index)
{
    CHECK(index < set->count);
    const struct outbound *c = &set->connectors[index];
    struct selection s = { .set = set,
                           .facts = facts,
                           .tests = c->state == CONNECTOR_TEST,
                           .own = outbound_is_own(set, facts->recipient_domain) };
    struct outbound_choice choice;
    if (c->state == CONNECTOR_OFF)
        return OUTBOUND_IS_OFF;
    choose(&s, &choice);
    if (choice.connector == c)
        return choice.reason == OUTBOUND_TOO_LARGE ? OUTBOUND_IS_TOO_SMALL : OUTBOUND_DECIDES;
    if (c->by_rule || choice.rule != NULL)
        return OUTBOUND_NOT_NAMED;
    if (!outbound_domains_fit(set, &c->senders, facts->sender_domain))
        return OUTBOUND_NOT_SENDER;
    if (!labels_fit(&c->from_labels, facts->label))
        return OUTBOUND_NOT_LABEL;
    if (c->all_mail && returns(&s, c))
        return OUTBOUND_CAME_THENCE;
    if (!c->all_mail &&
        (!c->domains.given || !outbound_domains_fit(set, &c->domains, facts->recipient_domain)))
        return OUTBOUND_NOT_DOMAIN;
    return takes_size(c, facts->size) ? OUTBOUND_FITS_LESS : OUTBOUND_IS_TOO_SMALL;
}

void outbound_select_again(const struct outbound_set *set, const struct outbound_facts *facts,
                           const struct outbound_record *record, struct outbound_choice *choice)
{
    const struct outbound *before = outbound_named(set, record->connector);
    outbound_select(set, facts, choice);
    choice->floor = MAX(choice->floor, record->floor);
    if (before != NULL && before->state == CONNECTOR_OFF) {
        choice->verdict = OUTBOUND_DEFER;
        choice->reason = OUTBOUND_OFF;
        choice->connector = before;
    }
}

const struct route *outbound_route(const struct outbound_set *set,
                                   const struct outbound_choice *choice)
{
    CHECK(choice->verdict == OUTBOUND_CONNECTOR || choice->verdict == OUTBOUND_DEFAULT);
    return choice->verdict == OUTBOUND_DEFAULT ? set->default_route : &choice->connector->route;
}

const struct outbound *outbound_named(const struct outbound_set *set, struct slice name)
{
    if (name.size == 0 || set->by_name == NULL)
        return NULL;
    for (uint32_t at = connector_name_hash(name);; at++) {
        const uint32_t found = set->by_name[at & set->by_name_mask];
        if (found == 0)
            return NULL;
        const struct outbound *connector = &set->connectors[found - 1];
        if (slice_equal(slice_of_string(connector->route.name), name))
            return connector;
    }
}

const char *outbound_reason_text(enum outbound_reason reason)
{
    static const char *const texts[] = {
        [OUTBOUND_CHOSEN] = "",
        [OUTBOUND_TOO_LARGE] = "the message is larger than the connector for this recipient takes",
        [OUTBOUND_UNAVAILABLE] =
            "the connector that a rule names is off, in test, too small or gone",
        [OUTBOUND_NO_WAY] = "the domain is ours, and no connector says where its mail goes",
        [OUTBOUND_OFF] = "the connector that has it is off",
    };
    CHECK((size_t)reason < ARRAY_COUNT(texts));
    return texts[reason];
}
