/*
 * tlsrpt_report.h - what is counted, as the policies of a report (RFC 8460 section 4), and a report
 *
 * Pure, but for memory of jansson's. The policies of a domain and day are kept in the form that
 * they are reported in: an array of {"policy", "summary", "failure-details"}.
 *
 * Bounds: of a domain and day TLSRPT_POLICIES_MAX policies, TLSRPT_DETAILS_MAX failures that are
 * told apart. Further failures are counted by their type alone, so that the numbers add up; of a
 * further policy nothing is.
 */
#ifndef RINGPOST_MTA_TLSRPT_REPORT_H
#define RINGPOST_MTA_TLSRPT_REPORT_H

#include <jansson.h>

#include "mta/tlsrpt_count.h"

enum { TLSRPT_POLICIES_MAX = 16, TLSRPT_DETAILS_MAX = 100, TLSRPT_DAY_TEXT_MAX = 16 };

struct tlsrpt_policy {
    enum tlsrpt_policy_type type;
    const char *domain;
    const struct sts_policy *sts; /* STS; NULL: what it says is not known */
    const char *records;          /* TLSA: a line each */
};

/* Texts that are "" are left out. */
struct tlsrpt_failure {
    const char *result; /* section 4.3 */
    const char *from, *host, *to;
    const char *reason; /* in words */
};

/* failure NULL: good sessions. 0; -ENOBUFS: too many policies; -ENOMEM. */
[[nodiscard]] int tlsrpt_add(json_t *policies, const struct tlsrpt_policy *policy,
                             const struct tlsrpt_failure *failure, uint64_t count);

struct tlsrpt_head {
    const char *organization;
    const char *contact;
    const char *hostname; /* whose report it is: a part of its id */
    const char *domain;
    uint32_t day; /* of UTC, since the epoch */
};
/* Takes policies over. NULL: out of memory. */
json_t *tlsrpt_report(const struct tlsrpt_head *head, json_t *policies);

/* "2026-11-26" */
void tlsrpt_day_text(uint32_t day, char out[static TLSRPT_DAY_TEXT_MAX]);
/* 0 or -EINVAL. */
[[nodiscard]] int tlsrpt_day_read(const char *text, uint32_t *day);

#endif
