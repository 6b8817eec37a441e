/*
 * sts_policy.h - what a domain says about its mail hosts' TLS: MTA-STS (RFC 8461), read and asked
 *
 * Pure. The record in DNS names the version of a policy; the policy is a text that the domain's web
 * host gives out. Both are read strictly: what is not as section 3 has it is no record, or no
 * policy, and the words say why. What section 3 tells a reader to overlook (fields it does not
 * know, further ones of a field that there is one of) is overlooked.
 */
#ifndef RINGPOST_MTA_STS_POLICY_H
#define RINGPOST_MTA_STS_POLICY_H

#include "core/slice.h"

enum {
    STS_ID_MAX = 33,            /* with its terminator */
    STS_DOCUMENT_MAX = 65'536,  /* bytes; RFC 8461 3.3 */
    STS_PATTERNS_BYTES = 4'096, /* of a policy, each with a terminator; more: no policy */
    STS_PATTERN_MAX = 256,
    STS_AGE_MAX = 31'557'600, /* seconds, RFC 8461 3.2: a year. More is taken for this */
    STS_AGE_MIN = 300,        /* less is taken for this: policies are not fetched for each mail */
    STS_WHY_MAX = 128,
};

enum sts_mode { STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE, STS_MODES };
const char *sts_mode_name(enum sts_mode mode);

struct sts_policy {
    uint32_t max_age_s;
    uint16_t patterns_bytes;
    uint8_t mode; /* enum sts_mode */
    uint8_t reserved;
    char patterns[STS_PATTERNS_BYTES]; /* of MX hosts, lower case, one behind the other */
};

enum sts_txt {
    STS_TXT_OTHER,   /* not one of MTA-STS */
    STS_TXT_INVALID, /* one, and malformed */
    STS_TXT_VALID,
};
/* rdata of a TXT record at _mta-sts.DOMAIN. id: when VALID. */
enum sts_txt sts_txt_read(struct slice rdata, char id[static STS_ID_MAX]);

/* 0, or -EINVAL and why. */
[[nodiscard]] int sts_policy_read(struct slice text, struct sts_policy *policy,
                                  char why[static STS_WHY_MAX]);
/* One pattern after the other, beginning with NULL; NULL: that was the last one. */
const char *sts_policy_pattern(const struct sts_policy *policy, const char *last);
/* Is this host, by its name in the MX record without trailing dot, one of them? */
bool sts_policy_lists(const struct sts_policy *policy, const char *host);

/* "text/plain", with or without parameters (RFC 8461 3.2). */
bool sts_content_type_ok(const char *content_type);

#endif
