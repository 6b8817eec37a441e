/*
 * fuzz_sts.c - MTA-STS records and policies, and what follows from them for a host
 *
 * The first octet chooses: a TXT record's rdata, or a policy. What was read is written as it was
 * understood, and read again: that must give the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/sts_policy.h"

static void again(const struct sts_policy *policy)
{
    static char text[STS_DOCUMENT_MAX];
    struct sts_policy same;
    char why[STS_WHY_MAX];
    int size = snprintf(text, sizeof(text), "version: STSv1\nmode: %s\nmax_age: %u\n",
                        sts_mode_name((enum sts_mode)policy->mode), policy->max_age_s);
    for (const char *p = NULL; (p = sts_policy_pattern(policy, p)) != NULL;) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "mx: %s\r\n", p);
        if (p[0] != '*') {
            CHECK(sts_policy_lists(policy, p));
        } else {
            char host[STS_PATTERN_MAX + 1];
            snprintf(host, sizeof(host), "a%s", p + 1);
            CHECK(sts_policy_lists(policy, host));
        }
    }
    CHECK(!sts_policy_lists(policy, ""));
    CHECK(!sts_policy_lists(policy, "."));
    CHECK(sts_policy_read(slice_of(text, (size_t)size), &same, why) == 0);
    CHECK(memcmp(&same, policy, sizeof(same)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice rest = slice_of(data + 1, size - 1);
    if (data[0] & 1) {
        char id[STS_ID_MAX] = "";
        if (sts_txt_read(rest, id) == STS_TXT_VALID)
            CHECK(strlen(id) > 0);
        return 0;
    }
    struct sts_policy policy;
    char why[STS_WHY_MAX];
    int r = sts_policy_read(rest, &policy, why);
    CHECK((r == 0) == (why[0] == '\0'));
    if (r == 0)
        again(&policy);
    return 0;
}
