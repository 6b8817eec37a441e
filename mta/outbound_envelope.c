/*
 * outbound_envelope.c - the facts that outbound connectors are chosen by, from an envelope
 */
#include "mta/outbound_envelope.h"

#include "core/check.h"
#include "mta/class.h"
#include "mta/config.h"
#include "mta/queue_orders.h"

struct mail {
    struct outbound_facts facts;
    const struct inbound *from;
    char recipient[PATTERN_TEXT_MAX];
    char sender[PATTERN_TEXT_MAX];
};

/* Addresses were checked when they came in; what another version left behind still goes somewhere,
 * and fails there with words. */
static struct slice domain_of(struct slice address, char out[PATTERN_TEXT_MAX])
{
    size_t at = address.size;
    while (at > 0 && address.data[at - 1] != '@')
        at--;
    int size = pattern_normalise(slice_from(address, at), out);
    return size < 0 ? SLICE("invalid") : slice_of(out, (size_t)size);
}

static void mail_of_envelope(struct mail *mail, const struct config *config,
                             const struct envelope *envelope)
{
    const struct inbound *from = inbound_named(config->inbound, envelope->connector);
    mail->facts = (struct outbound_facts) {
        .tls = (envelope->flags & ENVELOPE_TLS) != 0,
        .requiretls = (envelope->flags & ENVELOPE_REQUIRETLS) != 0,
        .size = envelope->body_bytes,
        .label = from == NULL ? slice_of(NULL, 0) : slice_of_string(from->label),
        .from_own = from != NULL && from->type == CONNECTOR_OWN,
    };
    mail->from = from;
    if (envelope->sender.size > 0)
        mail->facts.sender_domain = domain_of(envelope->sender, mail->sender);
}

static void mail_to(struct mail *mail, const struct recipient *recipient)
{
    mail->facts.recipient_domain = domain_of(recipient->address, mail->recipient);
    mail->facts.is_copy = (recipient->notify & RECIPIENT_COPY) != 0;
    mail->facts.copy_via = recipient->connector;
}

/* ---- copies ---- */

static bool is_among(const struct outbound_rule *const *copies, unsigned count,
                     const struct outbound_rule *rule)
{
    for (unsigned i = 0; i < count; i++)
        if (copies[i]->copy_via == rule->copy_via && strcmp(copies[i]->copy_to, rule->copy_to) == 0)
            return true;
    return false;
}

unsigned outbound_copies(const struct config *config, const struct envelope *envelope,
                         const struct outbound_rule *copies[static OUTBOUND_COPIES_MAX])
{
    const struct outbound_set *set = &config->outbound;
    unsigned count = 0;
    struct mail mail;
    if (!set->has_copies)
        return 0;
    mail_of_envelope(&mail, config, envelope);
    for (uint32_t i = 0; i < envelope->recipients_count; i++) {
        const struct recipient *recipient = &envelope->recipients[i];
        if (outbound_is_copied_to(set, recipient->address))
            continue;
        mail_to(&mail, recipient);
        for (unsigned k = 0; k < set->rules_count && count < OUTBOUND_COPIES_MAX; k++) {
            const struct outbound_rule *rule = &set->rules[k];
            if (rule->copy_to != NULL && !is_among(copies, count, rule) &&
                outbound_rule_fits(set, &mail.facts, rule))
                copies[count++] = rule;
        }
    }
    return count;
}

struct recipient outbound_copy_recipient(const struct outbound_rule *rule)
{
    return (struct recipient) {
        .address = slice_of_string(rule->copy_to),
        .connector = slice_of_string(rule->copy_via->route.name),
        .notify = NOTIFY_NEVER | RECIPIENT_COPY, /* the sender knows nothing of it */
    };
}

/* ---- decisions ---- */

void outbound_decide(const struct config *config, const struct envelope *envelope,
                     struct recipient *recipients)
{
    struct mail mail;
    mail_of_envelope(&mail, config, envelope);
    for (uint32_t i = 0; i < envelope->recipients_count; i++) {
        struct outbound_choice choice;
        mail_to(&mail, &recipients[i]);
        outbound_select(&config->outbound, &mail.facts, &choice);
        const struct outbound *connector =
            choice.verdict == OUTBOUND_CONNECTOR ? choice.connector : NULL;
        if (!mail.facts.is_copy)
            recipients[i].connector =
                connector == NULL ? slice_of(NULL, 0) : slice_of_string(connector->route.name);
        bool sticky = connector == NULL || connector->sticky;
        recipients[i].floor = sticky ? (uint8_t)choice.floor : 0;
        struct class_choice class;
        class_decide(config, &mail.facts, mail.from, &class);
        recipients[i].class = slice_of_string(class.name);
    }
}

static enum route_wish wish_of(const struct envelope *envelope)
{
    if (envelope->flags & ENVELOPE_REQUIRETLS)
        return envelope->sender.size > 0 ? ROUTE_WISH_REQUIRETLS : ROUTE_WISH_REQUIRETLS_NULL;
    return envelope->flags & ENVELOPE_TLS_OPTIONAL ? ROUTE_WISH_TLS_OPTIONAL : ROUTE_WISH_NONE;
}

static size_t key_of(const struct config *config, const struct envelope *envelope,
                     const struct mail *mail, const struct outbound_choice *choice,
                     char key[static DESTINATION_KEY_MAX])
{
    static_assert((int)ROUTE_KEY_BYTES <= (int)DESTINATION_KEY_MAX);
    if (choice->verdict == OUTBOUND_CONNECTOR || choice->verdict == OUTBOUND_DEFAULT)
        return route_key(outbound_route(&config->outbound, choice), mail->facts.recipient_domain,
                         choice->floor, wish_of(envelope), key);
    memcpy(key, QUEUE_PARKING_KEY, sizeof(QUEUE_PARKING_KEY));
    return sizeof(QUEUE_PARKING_KEY) - 1;
}

/* By the connector that an operator names, as if a rule did; the floor on record, and what rules
 * demand, go along. False: that one cannot take it, so it stays where it is. */
static bool reroute(const struct outbound_set *set, const struct mail *mail, const char *to,
                    enum tls_level recorded, struct outbound_choice *choice)
{
    struct outbound_facts facts = mail->facts;
    const struct outbound_record record = { .floor = recorded };
    struct outbound_choice other;
    facts.is_copy = true;
    facts.copy_via = slice_of_string(to);
    outbound_select_again(set, &facts, &record, &other);
    if (other.verdict != OUTBOUND_CONNECTOR)
        return false;
    *choice = other;
    return true;
}

size_t outbound_way(const struct config *config, const struct queue_orders *orders, uint64_t id,
                    const struct envelope *envelope, const struct recipient *recipient,
                    struct outbound_choice *choice, char key[static DESTINATION_KEY_MAX])
{
    const struct outbound_set *set = &config->outbound;
    /* A level that this version does not know was written by a later one: none is stricter. */
    const enum tls_level floor = (enum tls_level)MIN(recipient->floor, (uint8_t)TLS_LEVEL_INTERNAL);
    const struct outbound_record record = {
        .connector = recipient->connector,
        .floor = queue_orders_floor(orders, envelope, recipient, floor),
    };
    struct mail mail;
    mail_of_envelope(&mail, config, envelope);
    mail_to(&mail, recipient);
    outbound_select_again(set, &mail.facts, &record, choice);
    const size_t size = key_of(config, envelope, &mail, choice, key);
    const char *to =
        queue_orders_way(orders, id, envelope, recipient,
                         choice->connector == NULL ? "" : choice->connector->route.name, key);
    if (to == NULL || !reroute(set, &mail, to, record.floor, choice))
        return size;
    return key_of(config, envelope, &mail, choice, key);
}

/* ---- two configurations ---- */

static bool goes(const struct outbound_choice *choice)
{
    return choice->verdict == OUTBOUND_CONNECTOR || choice->verdict == OUTBOUND_DEFAULT;
}

/* As if no level was on record. One that is turned off keeps its mail. */
static void choose(const struct config *config, const struct envelope *envelope,
                   const struct recipient *recipient, struct outbound_choice *choice)
{
    const struct outbound_record record = { .connector = recipient->connector,
                                            .floor = TLS_LEVEL_NONE };
    struct mail mail;
    mail_of_envelope(&mail, config, envelope);
    mail_to(&mail, recipient);
    outbound_select_again(&config->outbound, &mail.facts, &record, choice);
}

void outbound_compare(const struct config *now, const struct config *next,
                      const struct envelope *envelope, const struct recipient *recipient,
                      struct outbound_change *change)
{
    struct outbound_choice before, after;
    choose(now, envelope, recipient, &before);
    choose(next, envelope, recipient, &after);
    const struct outbound *a = before.connector, *b = after.connector;
    /* What waits for one that is off had its level; what goes nowhere for another reason has none.
     */
    const enum tls_level off = a == NULL ? TLS_LEVEL_NONE : route_floor(&a->route);
    const enum tls_level floor = goes(&before) ? before.floor : off;
    *change = (struct outbound_change) {
        .from = a,
        .moves = a == NULL || b == NULL ? a != b || goes(&before) != goes(&after)
                                        : strcmp(a->route.name, b->route.name) != 0,
        .weaker = goes(&after) && after.floor < floor,
    };
}
