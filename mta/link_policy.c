/*
 * link_policy.c - what a host must show to get mail, and what is said when it does not
 *
 * The facts of a connection go into mta/host_policy.c, and what comes out of it into the session's
 * policy. A host that is refused is counted by its token and told of in the log, each time; what
 * follows for the mail is deliver.c's.
 */
#include <stdio.h>

#include "mta/next_hop.h"

static enum host_sts sts_of(enum sts_mode mode)
{
    switch (mode) {
    case STS_MODE_TESTING: return HOST_STS_TESTING;
    case STS_MODE_ENFORCE: return HOST_STS_ENFORCE;
    case STS_MODE_NONE:
    case STS_MODES: break;
    }
    return HOST_STS_NONE;
}

static unsigned message_of(enum route_wish wish)
{
    switch (wish) {
    case ROUTE_WISH_REQUIRETLS:
    case ROUTE_WISH_REQUIRETLS_NULL: return MESSAGE_REQUIRETLS;
    case ROUTE_WISH_TLS_OPTIONAL: return MESSAGE_TLS_NOT_REQUIRED;
    case ROUTE_WISH_NONE:
    case ROUTE_WISHES: break;
    }
    return 0;
}

void link_policy(struct link *link)
{
    const struct next_hop *hop = link->hop;
    const struct route *route = hop->route;
    const struct host_policy_facts facts = {
        .connector = route_floor(route),
        .floor = hop->floor,
        .floor_recorded = hop->floor_recorded,
        .sts = sts_of(hop->sts_facts.mode),
        .sts_lists = hop->sts_facts.lists,
        .message = message_of(hop->wish),
    };
    link->sts = hop->sts_facts;
    link->policy = host_policy(&facts);
    route_policy(route, link->policy.level, &link->tls);
}

bool link_grants_wish(const struct link *link)
{
    return link->hop->wish != ROUTE_WISH_REQUIRETLS ||
           (link->client->secured && (link->client->capabilities.can & SMTP_CAN_REQUIRETLS) != 0);
}

static enum outbound_token token_of_fault(enum smtp_tls_fault fault)
{
    switch (fault) {
    case SMTP_TLS_NO_FAULT: return FAULT_NONE;
    case SMTP_TLS_NOT_OFFERED: return FAULT_STARTTLS_NONE;
    case SMTP_TLS_REFUSED: return FAULT_STARTTLS_REFUSED;
    case SMTP_TLS_INJECTED: /* its doing or somebody's on the way: there is no session */
    case SMTP_TLS_HANDSHAKE: return FAULT_HANDSHAKE;
    case SMTP_TLS_TOO_WEAK: return FAULT_TOO_WEAK;
    case SMTP_TLS_CHAIN: return FAULT_CHAIN;
    case SMTP_TLS_EXPIRED: return FAULT_EXPIRED;
    case SMTP_TLS_REVOKED: return FAULT_REVOKED;
    case SMTP_TLS_REVOCATION_UNKNOWN: return FAULT_REVOCATION_UNKNOWN;
    case SMTP_TLS_NAME: return FAULT_NAME;
    case SMTP_TLS_PIN: return FAULT_PIN;
    case SMTP_TLS_TLSA: return FAULT_TLSA;
    case SMTP_TLS_STS: return FAULT_STS_CERT;
    case SMTP_TLS_FAULTS: break;
    }
    return FAULT_HANDSHAKE;
}

enum outbound_token link_token(const struct smtp_client_end *end)
{
    enum outbound_token token = token_of_fault(end->fault);
    return token != FAULT_NONE ? token : FAULT_CONNECT;
}

enum outbound_token hop_token(const struct destination *destination)
{
    const struct next_hop *hop = destination->owner;
    return hop == NULL || hop->token == FAULT_NONE ? FAULT_CONNECT : hop->token;
}

void link_log(const struct link *link, struct log_line *line)
{
    char governors[HOST_GOVERNORS_TEXT_MAX];
    log_number(line, "generation", (int64_t)link->generation->config->generation);
    log_string(line, "host", link->host);
    if (link->client != NULL) {
        log_address(line, "addr", &link->client->target.address);
        smtp_client_log_tls(link->client, line);
    }
    if (link->step == TLS_STEPS)
        log_string(line, "clear", "the TLS handshake failed before");
    host_governors_text(link->policy.governors, governors);
    log_string(line, "want", tls_level_name(link->policy.level));
    log_string(line, "policy", governors);
    if (link->sts.mode != STS_MODE_NONE)
        log_format(line, "sts", "%s %s", sts_mode_name(link->sts.mode), link->sts.id);
}

void link_refused(const struct link *link, enum outbound_token token, struct slice text)
{
    struct deliver *deliver = link->hop->deliver;
    const struct shard *shard = deliver->shard;
    metric_add(&deliver->metrics.tokens.hosts[token], 1);
    if (token == FAULT_STS_MX || token == FAULT_STS_CERT)
        sts_watch_refused(deliver->sts, link->sts.domain);
    link_count_refused(link, token);
    if (shard->log == NULL)
        return;
    struct log_line line;
    char governors[HOST_GOVERNORS_TEXT_MAX];
    const struct outbound_token_row *row = outbound_token_row(token);
    const struct smtp_enhanced status = row->retry.klass != 0 ? row->retry : row->expiry;
    host_governors_text(link->policy.governors | (token == FAULT_MEMORY ? GOVERNED_BY_MEMORY : 0U),
                        governors);
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "host_failed");
    log_string(&line, "destination", link->hop->destination->key);
    log_string(&line, "host", link->host);
    log_string(&line, "token", outbound_token_name(token));
    log_format(&line, "status", "%u.%u.%u", status.klass, status.subject, status.detail);
    log_string(&line, "want", tls_level_name(link->policy.level));
    log_string(&line, "policy", governors);
    log_text(&line, "why", text);
    log_end(&line);
}

void link_judge_demands(struct link *link, struct smtp_transaction *transaction)
{
    bool told = false;
    for (uint32_t i = 0; i < transaction->recipients_count; i++) {
        struct smtp_result *result = &transaction->recipients[i].result;
        bool early = result->stage == SMTP_STAGE_MAIL || result->stage == SMTP_STAGE_RCPT;
        if (!link->client->clear_unoffered || !early || result->enhanced.subject != 7 ||
            (result->code != 530 && result->code != 451))
            continue;
        result->verdict = SMTP_VERDICT_TEMPORARY;
        result->enhanced = outbound_token_row(FAULT_PEER_DEMANDS_TLS)->retry;
        link->hop->token = FAULT_PEER_DEMANDS_TLS;
        if (!told)
            link_refused(link, FAULT_PEER_DEMANDS_TLS, result->text);
        told = true;
    }
}
