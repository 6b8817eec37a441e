/*
 * sts_online.h - a domain's policy of MTA-STS, asked for once by a command
 *
 * DNS is asked as the server does (mta/lookup.h), the policy host at the addresses that it gave;
 * whatever was cached does not count. Runs to its end on the calling thread.
 */
#ifndef RINGPOST_MTA_STS_ONLINE_H
#define RINGPOST_MTA_STS_ONLINE_H

#include "core/dns.h"
#include "mta/config.h"
#include "mta/sts_policy.h"

enum { STS_ONLINE_WHY = 256 };
enum sts_online {
    STS_ONLINE_NONE,   /* no record: the domain has no policy */
    STS_ONLINE_FAILED, /* a record, and no policy that can be had: why */
    STS_ONLINE_FOUND,
};
enum sts_online sts_online(const struct config *config, const struct dns_options *dns,
                           const char *domain, struct sts_policy *policy,
                           char id[static STS_ID_MAX], char why[static STS_ONLINE_WHY]);

#endif
