/*
 * link_tlsrpt.c - a session with an MX host, as a report about TLS sees it (RFC 8460)
 *
 *   link refused before it is connected to, handshake failed, or ready --> a row is counted
 *
 * Each connection counts once, also one that is tried again with less, or that takes no mail for
 * other reasons. Not counted: hosts that the configuration names, addresses, LMTP, connectors
 * without TLS, messages that may go without it (TLS-Required: no), and hosts that did not answer.
 */
#include <stdio.h>

#include "mta/next_hop.h"

/* The domain whose MX it is; "": nothing is reported of it. */
static const char *subject_of(const struct link *link)
{
    const struct next_hop *hop = link->hop;
    const struct route *route = hop->route;
    if (route == NULL || route->protocol != ROUTE_SMTP || link->tls.level == TLS_LEVEL_NONE ||
        hop->wish == ROUTE_WISH_TLS_OPTIONAL || link->to.host == NULL)
        return "";
    bool named;
    const char *domain = hop_subject(hop, link->host, &named);
    return named || *domain == '[' ? "" : domain;
}

static void records_text(const struct tls_dane_set *set, char out[static TLSRPT_RECORDS_BYTES])
{
    size_t size = 0;
    for (unsigned i = 0; set != NULL && i < set->count; i++) {
        char text[TLS_DANE_TEXT_MAX];
        tls_dane_text(set, i, text);
        if (size + strlen(text) + 2 > TLSRPT_RECORDS_BYTES)
            return;
        size += (size_t)snprintf(out + size, TLSRPT_RECORDS_BYTES - size, "%s%s",
                                 size > 0 ? "\n" : "", text);
    }
}

static bool is_dane(const struct link *link)
{
    switch (link->dane.dane) {
    case HOST_DANE_USABLE:
    case HOST_DANE_UNUSABLE:
    case HOST_DANE_BAD:
    case HOST_DANE_BOGUS: return true;
    case HOST_DANE_OFF:
    case HOST_DANE_INSECURE:
    case HOST_DANE_ABSENT:
    case HOST_DANES: break;
    }
    return false;
}

/* client NULL: it was not connected to. */
static void count(const struct link *link, const struct smtp_client *client,
                  enum outbound_token token, bool by_sts)
{
    struct tlsrpt_shard *tlsrpt = link->hop->deliver->tlsrpt;
    const bool reported = token == FAULT_NONE || *outbound_token_row(token)->report != '\0';
    if (tlsrpt == NULL || tlsrpt->shard == NULL || !reported)
        return;
    const char *domain = subject_of(link);
    if (*domain == '\0')
        return;
    struct tlsrpt_row row;
    memset(&row, 0, sizeof(row));
    row.token = token;
    snprintf(row.domain, sizeof(row.domain), "%s", domain);
    snprintf(row.policy_domain, sizeof(row.policy_domain), "%s", domain);
    if (link->sts.mode != STS_MODE_NONE && (by_sts || !is_dane(link))) {
        row.type = TLSRPT_STS;
        row.sts_mode = link->sts.mode;
        snprintf(row.sts_id, sizeof(row.sts_id), "%s", link->sts.id);
    } else if (is_dane(link)) {
        row.type = TLSRPT_TLSA;
        snprintf(row.policy_domain, sizeof(row.policy_domain), "%s", link->dane.base);
        records_text(link->dane.set, row.records);
    }
    if (token != FAULT_NONE) {
        snprintf(row.host, sizeof(row.host), "%s", link->host);
        row.to = link->to.address;
        row.to.port = 0;
        if (client != NULL && client->target.source != NULL)
            row.from = *client->target.source;
        row.from.port = 0;
    }
    tlsrpt_count(tlsrpt, &row);
}

/* A policy in testing stops nothing, and is not met. */
static enum outbound_token testing_fault(const struct link *link)
{
    struct tls_facts facts;
    if (link->sts.mode != STS_MODE_TESTING || link->policy.dane)
        return FAULT_NONE;
    if (link->policy.reported != FAULT_NONE)
        return link->policy.reported;
    if (tls_client_also_ok(link->client->connection.tls))
        return FAULT_NONE;
    tls_session_facts(link->client->connection.tls, &facts);
    if (facts.peer == NULL)
        return FAULT_STS_CERT;
    switch (facts.peer->verdict) {
    case TLS_VERDICT_VALID: return FAULT_NAME;
    case TLS_VERDICT_EXPIRED: return FAULT_EXPIRED;
    default: return FAULT_CHAIN;
    }
}

void link_tlsrpt_ready(struct link *link)
{
    const struct smtp_client *client = link->client;
    if (link->is_reported)
        return; /* it waited for what floor memory says */
    link->is_reported = true;
    if (client->secured)
        count(link, client, testing_fault(link), false);
    else
        count(link, client, client->clear_unoffered ? FAULT_STARTTLS_NONE : FAULT_HANDSHAKE, false);
}

void link_tlsrpt_gone(const struct link *link, const struct smtp_client *client,
                      const struct smtp_client_end *end)
{
    if (link->is_reported || end->fault == SMTP_TLS_NO_FAULT)
        return;
    const struct smtp_client_end cert = { .fault = end->cert };
    const bool by_sts = end->fault == SMTP_TLS_STS;
    count(link, client, link_token(by_sts && end->cert != SMTP_TLS_NO_FAULT ? &cert : end), by_sts);
}

void link_tlsrpt_unused(const struct link *link)
{
    count(link, NULL, link->policy.token, link->policy.token == FAULT_STS_MX);
}
