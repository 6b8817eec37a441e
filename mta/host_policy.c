/*
 * host_policy.c - the strictest of all that govern a host
 *
 * In the order of CONNECTORS 8.4: what the message demands, DANE, MTA-STS where DANE does not
 * decide, and the connector's own under all of them.
 */
#include "mta/host_policy.h"

#include <stdio.h>

#include "core/check.h"

/* RFC 7672 2.2: the level, or the token. */
static void apply_dane(const struct host_policy_facts *facts, struct host_policy *policy)
{
    if (facts->dane_mode == DANE_NONE)
        return;
    if (facts->dane_mode == DANE_MUST)
        policy->governors |= GOVERNED_BY_DANE;
    switch (facts->dane) {
    case HOST_DANE_USABLE: policy->dane = true; [[fallthrough]];
    case HOST_DANE_UNUSABLE: /* RFC 7672 2.2: TLS, whoever it is */
        policy->governors |= GOVERNED_BY_DANE;
        policy->level = MAX(policy->level, TLS_LEVEL_ENCRYPT);
        break;
    case HOST_DANE_BAD:
        policy->governors |= GOVERNED_BY_DANE;
        policy->token = FAULT_TLSA_BAD;
        return;
    case HOST_DANE_BOGUS:
        policy->governors |= GOVERNED_BY_DANE;
        policy->token = FAULT_DNSSEC;
        return;
    case HOST_DANE_OFF:
    case HOST_DANE_INSECURE:
    case HOST_DANE_ABSENT: break;
    case HOST_DANES: CHECK(false); break;
    }
    if (facts->dane_mode == DANE_MUST && !policy->dane)
        policy->token = FAULT_DANE_REQUIRED;
}

/* RFC 8461 2: where DANE decides, it decides; of a policy the MX names still count if whoever
 * forges DNS could have chosen them. */
static void apply_sts(const struct host_policy_facts *facts, struct host_policy *policy)
{
    if (facts->sts == HOST_STS_NONE || (policy->dane && facts->mx_secure))
        return;
    enum outbound_token token = facts->sts_lists ? FAULT_NONE : FAULT_STS_MX;
    if (facts->sts == HOST_STS_TESTING) {
        policy->reported = token;
        return;
    }
    policy->governors |= GOVERNED_BY_STS;
    policy->sts = !policy->dane;
    policy->level = MAX(policy->level, TLS_LEVEL_ENCRYPT);
    if (policy->token == FAULT_NONE)
        policy->token = token;
}

struct host_policy host_policy(const struct host_policy_facts *facts)
{
    struct host_policy policy = {
        .level = MAX(facts->connector, facts->floor),
        .requiretls = (facts->message & MESSAGE_REQUIRETLS) != 0,
        .governors = GOVERNED_BY_CONNECTOR,
    };
    if (facts->floor > facts->connector)
        policy.governors |= facts->floor_recorded ? GOVERNED_BY_RECORD : GOVERNED_BY_RULE;
    policy.no_memory = !policy.requiretls && (facts->message & MESSAGE_TLS_NOT_REQUIRED) != 0;
    if (!policy.no_memory) {
        apply_dane(facts, &policy);
        apply_sts(facts, &policy);
    } else if (facts->dane_mode == DANE_MUST) {
        /* not learned from outside: the operator's own word */
        apply_dane(facts, &policy);
    }
    if (policy.requiretls) {
        policy.governors |= GOVERNED_BY_REQUIRETLS;
        if (!policy.dane && !policy.sts)
            policy.level = MAX(policy.level, TLS_LEVEL_NAME);
    }
    return policy;
}

/* ---- words ---- */

void host_governors_text(unsigned governors, char out[static HOST_GOVERNORS_TEXT_MAX])
{
    static const char *const names[GOVERNORS] = { "connector", "rule",       "recorded", "dane",
                                                  "sts",       "requiretls", "memory" };
    size_t size = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < GOVERNORS; i++)
        if (governors & 1U << i)
            size += (size_t)snprintf(out + size, HOST_GOVERNORS_TEXT_MAX - size, "%s%s",
                                     size > 0 ? "," : "", names[i]);
}

const char *host_dane_name(enum host_dane dane)
{
    static const char *const names[HOST_DANES] = {
        [HOST_DANE_OFF] = "off",           [HOST_DANE_INSECURE] = "insecure",
        [HOST_DANE_ABSENT] = "absent",     [HOST_DANE_USABLE] = "usable",
        [HOST_DANE_UNUSABLE] = "unusable", [HOST_DANE_BAD] = "malformed",
        [HOST_DANE_BOGUS] = "bogus",
    };
    CHECK(dane < HOST_DANES);
    return names[dane];
}
