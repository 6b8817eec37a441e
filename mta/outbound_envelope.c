/*
 * outbound_envelope.c - the facts that outbound connectors are chosen by, from an envelope
 */
#include "mta/outbound_envelope.h"

#include "core/check.h"
#include "mta/config.h"

struct mail {
    struct outbound_facts facts;
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
        .size = envelope->body_bytes,
        .label = from == NULL ? slice_of(NULL, 0) : slice_of_string(from->label),
        .from_own = from != NULL && from->type == CONNECTOR_OWN,
    };
    if (envelope->sender.size > 0)
        mail->facts.sender_domain = domain_of(envelope->sender, mail->sender);
}

void outbound_decide(const struct config *config, const struct envelope *envelope,
                     struct recipient *recipients)
{
    struct mail mail;
    mail_of_envelope(&mail, config, envelope);
    for (uint32_t i = 0; i < envelope->recipients_count; i++) {
        struct outbound_choice choice;
        mail.facts.recipient_domain = domain_of(recipients[i].address, mail.recipient);
        outbound_select(&config->outbound, &mail.facts, &choice);
        const struct outbound *connector =
            choice.verdict == OUTBOUND_CONNECTOR ? choice.connector : NULL;
        recipients[i].connector =
            connector == NULL ? slice_of(NULL, 0) : slice_of_string(connector->route.name);
        bool sticky = connector == NULL || connector->sticky;
        recipients[i].floor = sticky ? (uint8_t)choice.floor : 0;
    }
}

size_t outbound_way(const struct config *config, const struct envelope *envelope,
                    const struct recipient *recipient, struct outbound_choice *choice,
                    char key[static DESTINATION_KEY_MAX])
{
    static_assert((int)ROUTE_KEY_BYTES <= (int)DESTINATION_KEY_MAX);
    const struct outbound_set *set = &config->outbound;
    /* A level that this version does not know was written by a later one: none is stricter. */
    const struct outbound_record record = {
        .connector = recipient->connector,
        .floor = (enum tls_level)MIN(recipient->floor, (uint8_t)TLS_LEVEL_INTERNAL),
    };
    struct mail mail;
    mail_of_envelope(&mail, config, envelope);
    mail.facts.recipient_domain = domain_of(recipient->address, mail.recipient);
    outbound_select_again(set, &mail.facts, &record, choice);
    if (choice->verdict == OUTBOUND_CONNECTOR || choice->verdict == OUTBOUND_DEFAULT)
        return route_key(outbound_route(set, choice), mail.facts.recipient_domain, choice->floor,
                         key);
    memcpy(key, QUEUE_PARKING_KEY, sizeof(QUEUE_PARKING_KEY));
    return sizeof(QUEUE_PARKING_KEY) - 1;
}
