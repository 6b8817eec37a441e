/*
 * link_policy.c - what a host must show to get mail, and what is said when it does not
 *
 * The facts of a connection go into mta/host_policy.c, and what comes out of it into the session's
 * policy. A host that is refused is counted by its token and told of in the log, each time; what
 * follows for the mail is deliver.c's.
 */
#include <stdio.h>

#include "core/check.h"
#include "mta/next_hop.h"
#include "tls/tls_verify.h"

const char *hop_subject(const struct next_hop *hop, const char *host, bool *named)
{
    const struct route *route = hop->route;
    const char *domain = "";
    *named = false;
    for (unsigned i = 0; i < route->hosts_count && !*named; i++) {
        const struct route_host *each = &route->hosts[i];
        *named = each->kind == ROUTE_HOST_NAME && host != NULL && strcmp(each->name, host) == 0;
        if (*named)
            domain = each->name;
        else if (*domain == '\0' && each->kind == ROUTE_HOST_MX)
            domain = hop->domain;
        else if (*domain == '\0' && each->kind == ROUTE_HOST_MX_OF)
            domain = each->name;
    }
    return domain;
}

/* What the certificate may be for, where the connector does not say: the host's name as configured,
 * or the domain whose MX it is, and all below it. What DNS calls an MX host is no reference:
 * whoever forges the one could choose the other. */
unsigned hop_names(const struct next_hop *hop, const char *host, struct hop_names *names)
{
    bool named;
    const char *domain = hop_subject(hop, host, &named);
    if (named) {
        names->names[0] = slice_of_string(host);
        return 1;
    }
    if (*domain == '\0')
        return 0;
    int size = snprintf(names->below, sizeof(names->below), "*.%s", domain);
    CHECK(size > 2 && (size_t)size < sizeof(names->below));
    names->names[0] = slice_of(names->below + 2, (size_t)size - 2);
    names->names[1] = slice_of(names->below, (size_t)size);
    return 2;
}

static void on_looked_up(struct dane_lookup *lookup)
{
    link_known(container_of(lookup, struct link, dane));
}

bool link_ask(struct link *link)
{
    const struct next_hop *hop = link->hop;
    const struct route *route = hop->route;
    struct net_address ignored;
    bool tls = MAX(route_floor(route), hop->floor) != TLS_LEVEL_NONE;
    if (!tls || route->dane == DANE_NONE || link->generation->config->dns.trust_anchor_file == NULL)
        return true;
    const struct hop_target *to = &link->to;
    bool named = to->host != NULL && *to->host != '[' &&
                 net_parse(slice_of_string(to->host), 0, &ignored) < 0;
    const struct dane_host host = {
        .host = named ? to->host : NULL,
        .canonical = to->canonical,
        .port = to->address.port,
        .secure = to->secure,
        .mx_secure = to->mx_secure,
    };
    link->dane.looked_up = on_looked_up;
    return dane_lookup_start(&link->dane, &hop->deliver->danes, &host);
}

/* RFC 7672 3.2.2: the TLSA base domain, and the domain whose MX it is, or the host as configured.
 */
static void dane_policy(struct link *link)
{
    struct tls_client_policy *policy = &link->tls;
    unsigned count = 0;
    link->dane_names[count++] = slice_of_string(link->dane.base);
    if (hop_names(link->hop, link->to.host, &link->names) > 0)
        link->dane_names[count++] = link->names.names[0];
    policy->dane = link->dane.set;
    policy->dane_names = link->dane_names;
    policy->dane_names_count = count;
    tls_client_policy_seal(policy, link->hop->route->tls_names, link->hop->route->tls_names_count);
}

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

struct host_policy hop_policy(const struct next_hop *hop, const struct sts_facts *sts,
                              enum host_dane dane, bool mx_secure)
{
    const struct host_policy_facts facts = {
        .connector = route_floor(hop->route),
        .floor = hop->floor,
        .floor_recorded = hop->floor_recorded,
        .sts = sts_of(sts->mode),
        .sts_lists = sts->lists,
        .dane_mode = hop->route->dane,
        .dane = dane,
        .mx_secure = mx_secure,
        .message = message_of(hop->wish),
    };
    return host_policy(&facts);
}

void link_policy(struct link *link)
{
    link->policy = hop_policy(link->hop, &link->sts, link->dane.dane, link->to.mx_secure);
    route_policy(link->hop->route, link->policy.level, &link->tls);
    if (link->policy.dane)
        dane_policy(link);
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
    case SMTP_TLS_CLIENT_CERT: return FAULT_CLIENT_CERT;
    case SMTP_TLS_FAULTS: break;
    }
    return FAULT_HANDSHAKE;
}

enum outbound_token link_token(const struct smtp_client_end *end)
{
    enum outbound_token token = token_of_fault(end->fault);
    if (token != FAULT_NONE)
        return token;
    if (end->asked && end->code >= 400 && outbound_reply_is_client_cert(end->enhanced, end->text))
        return FAULT_CLIENT_CERT;
    return end->why == SMTP_GONE_LOOP ? FAULT_LOOP : FAULT_CONNECT;
}

enum outbound_token hop_token(const struct destination *destination)
{
    const enum outbound_token token = destination->owner_note;
    return token == FAULT_NONE ? FAULT_CONNECT : token;
}

static enum connector_replies replies_of(const struct config *config)
{
    return inbound_defaults(config->inbound)->replies;
}

struct smtp_enhanced hop_status(const struct deliver *deliver, enum outbound_token token, bool over)
{
    return outbound_token_status(token, over, replies_of(deliver->generations->current->config),
                                 false);
}

static const char *got(const struct smtp_client *client)
{
    struct tls_facts facts;
    if (!client->secured || client->connection.tls == NULL)
        return "clear";
    tls_session_facts(client->connection.tls, &facts);
    if (tls_client_dane(client->connection.tls) >= TLS_DANE_EE)
        return tls_dane_match_name(tls_client_dane(client->connection.tls));
    if (facts.peer == NULL || facts.peer->verdict != TLS_VERDICT_VALID)
        return "encrypt";
    return tls_client_name_ok(client->connection.tls) ? "name" : "chain";
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
    if (link->client != NULL)
        log_string(line, "got", got(link->client));
    log_string(line, "memory", floor_finding_name(link->floor.finding));
}

static void refused(const struct link *link, enum outbound_token token, struct smtp_enhanced status,
                    struct slice text)
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

static struct smtp_enhanced status_of(const struct link *link, enum outbound_token token)
{
    return outbound_token_status(token, false, replies_of(link->generation->config),
                                 link->policy.dane);
}

void link_refused(const struct link *link, enum outbound_token token, struct slice text)
{
    const bool answered = token == FAULT_CLIENT_CERT && link->answered.klass != 0;
    refused(link, token, answered ? link->answered : status_of(link, token), text);
}

/* ---- replies that are about protection ---- */

void link_reply_begin(struct link *link)
{
    const struct smtp_client *client = link->client;
    link->reply_means = client->clear_unoffered ? FAULT_PEER_DEMANDS_TLS
                        : client->secured && tls_client_asked(client->connection.tls)
                            ? FAULT_CLIENT_CERT
                            : FAULT_NONE;
}

enum outbound_token link_reply_token(const struct link *link, const struct smtp_result *result)
{
    const bool early = result->stage == SMTP_STAGE_MAIL || result->stage == SMTP_STAGE_RCPT;
    switch (link->reply_means) {
    case FAULT_PEER_DEMANDS_TLS:
        return early && result->enhanced.subject == 7 &&
                       (result->code == 530 || result->code == 451)
                   ? FAULT_PEER_DEMANDS_TLS
                   : FAULT_NONE;
    case FAULT_CLIENT_CERT:
        return result->code >= 400 && outbound_reply_is_client_cert(result->enhanced, result->text)
                   ? FAULT_CLIENT_CERT
                   : FAULT_NONE;
    default: return FAULT_NONE;
    }
}

void link_judge_replies(struct link *link, struct smtp_transaction *transaction)
{
    bool told = false;
    if (link->reply_means == FAULT_NONE)
        return;
    for (uint32_t i = 0; i < transaction->recipients_count; i++) {
        struct smtp_result *result = &transaction->recipients[i].result;
        const enum outbound_token token = link_reply_token(link, result);
        if (token == FAULT_NONE)
            continue;
        if (token == FAULT_PEER_DEMANDS_TLS) {
            result->verdict = SMTP_VERDICT_TEMPORARY;
            result->enhanced = status_of(link, token);
        }
        if (result->verdict == SMTP_VERDICT_TEMPORARY)
            link->hop->destination->owner_note = (uint8_t)token;
        if (!told)
            refused(link, token, result->enhanced, result->text);
        told = true;
    }
}
