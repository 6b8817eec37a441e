/*
 * test_host_policy.c - what a host must show, row by row (CONNECTORS 8.4, 16.4)
 */
#include <criterion/criterion.h>

#include "core/compiler.h"
#include "mta/host_policy.h"

struct row {
    const char *id;
    struct host_policy_facts facts;
    struct host_policy expected;
};

#define MAY .connector = TLS_LEVEL_MAY, .mx_secure = true
#define BY_CONNECTOR .governors = GOVERNED_BY_CONNECTOR
#define AND_DANE .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE
#define AND_STS .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_STS

/* clang-format off */
static const struct row rows[] = {
    { "T-01 may, nothing else", { MAY }, { .level = TLS_LEVEL_MAY, BY_CONNECTOR } },
    { "T-04 encrypt", { .connector = TLS_LEVEL_ENCRYPT }, { .level = TLS_LEVEL_ENCRYPT, BY_CONNECTOR } },
    { "T-07 name", { .connector = TLS_LEVEL_NAME }, { .level = TLS_LEVEL_NAME, BY_CONNECTOR } },
    { "T-11 may, usable TLSA",
      { MAY, .dane = HOST_DANE_USABLE }, { .level = TLS_LEVEL_ENCRYPT, .dane = true, AND_DANE } },
    { "T-11 usable TLSA, of an own host by name",
      { .connector = TLS_LEVEL_NAME, .dane = HOST_DANE_USABLE, .mx_secure = true },
      { .level = TLS_LEVEL_NAME, .dane = true, AND_DANE } },
    { "T-14 usage 1 only",
      { MAY, .dane = HOST_DANE_UNUSABLE }, { .level = TLS_LEVEL_ENCRYPT, AND_DANE } },
    { "T-15 lookup bogus",
      { MAY, .dane = HOST_DANE_BOGUS },
      { .token = FAULT_DNSSEC, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "T-15 and not where DANE is none",
      { MAY, .dane_mode = DANE_NONE, .dane = HOST_DANE_BOGUS }, { .level = TLS_LEVEL_MAY, BY_CONNECTOR } },
    { "malformed",
      { MAY, .dane = HOST_DANE_BAD }, { .token = FAULT_TLSA_BAD, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "may, absent", { MAY, .dane = HOST_DANE_ABSENT }, { .level = TLS_LEVEL_MAY, BY_CONNECTOR } },
    { "may, insecure", { MAY, .dane = HOST_DANE_INSECURE }, { .level = TLS_LEVEL_MAY, BY_CONNECTOR } },
    { "T-17 must, absent",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_ABSENT },
      { .token = FAULT_DANE_REQUIRED, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "T-17 must, insecure",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_INSECURE },
      { .token = FAULT_DANE_REQUIRED, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "T-17 must, not validating",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_OFF },
      { .token = FAULT_DANE_REQUIRED, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "T-17 must, unusable",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_UNUSABLE },
      { .token = FAULT_DANE_REQUIRED, .level = TLS_LEVEL_ENCRYPT, AND_DANE } },
    { "must, bogus says what it is",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_BOGUS },
      { .token = FAULT_DNSSEC, .level = TLS_LEVEL_MAY, AND_DANE } },
    { "must, usable",
      { .connector = TLS_LEVEL_ENCRYPT, .dane_mode = DANE_MUST, .dane = HOST_DANE_USABLE },
      { .level = TLS_LEVEL_ENCRYPT, .dane = true, AND_DANE } },
    { "T-18 enforce, not listed",
      { MAY, .sts = HOST_STS_ENFORCE },
      { .token = FAULT_STS_MX, .level = TLS_LEVEL_ENCRYPT, .sts = true, AND_STS } },
    { "enforce, listed",
      { MAY, .sts = HOST_STS_ENFORCE, .sts_lists = true },
      { .level = TLS_LEVEL_ENCRYPT, .sts = true, AND_STS } },
    { "T-19 testing, not listed",
      { MAY, .sts = HOST_STS_TESTING },
      { .level = TLS_LEVEL_MAY, .reported = FAULT_STS_MX, BY_CONNECTOR } },
    { "testing, listed",
      { MAY, .sts = HOST_STS_TESTING, .sts_lists = true }, { .level = TLS_LEVEL_MAY, BY_CONNECTOR } },
    { "enforce under DANE: DANE decides",
      { MAY, .dane = HOST_DANE_USABLE, .sts = HOST_STS_ENFORCE },
      { .level = TLS_LEVEL_ENCRYPT, .dane = true, AND_DANE } },
    { "enforce under DANE, where the MX was not signed: its names count",
      { .connector = TLS_LEVEL_MAY, .dane = HOST_DANE_USABLE, .sts = HOST_STS_ENFORCE },
      { .token = FAULT_STS_MX, .level = TLS_LEVEL_ENCRYPT, .dane = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE | GOVERNED_BY_STS } },
    { "enforce and listed repair no bogus DANE",
      { MAY, .dane = HOST_DANE_BOGUS, .sts = HOST_STS_ENFORCE, .sts_lists = true },
      { .token = FAULT_DNSSEC, .level = TLS_LEVEL_ENCRYPT, .sts = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE | GOVERNED_BY_STS } },
    { "enforce beside TLSA that cannot be used",
      { MAY, .dane = HOST_DANE_UNUSABLE, .sts = HOST_STS_ENFORCE, .sts_lists = true },
      { .level = TLS_LEVEL_ENCRYPT, .sts = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE | GOVERNED_BY_STS } },
    { "T-21 TLS-Required: no, enforce fails",
      { MAY, .sts = HOST_STS_ENFORCE, .message = MESSAGE_TLS_NOT_REQUIRED },
      { .level = TLS_LEVEL_MAY, .no_memory = true, BY_CONNECTOR } },
    { "TLS-Required: no, and bogus DANE",
      { MAY, .dane = HOST_DANE_BOGUS, .message = MESSAGE_TLS_NOT_REQUIRED },
      { .level = TLS_LEVEL_MAY, .no_memory = true, BY_CONNECTOR } },
    { "TLS-Required: no under a connector and a rule",
      { MAY, .floor = TLS_LEVEL_NAME, .dane = HOST_DANE_USABLE, .message = MESSAGE_TLS_NOT_REQUIRED },
      { .level = TLS_LEVEL_NAME, .no_memory = true, .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_RULE } },
    { "TLS-Required: no, and the operator's dane = must",
      { MAY, .dane_mode = DANE_MUST, .dane = HOST_DANE_ABSENT, .message = MESSAGE_TLS_NOT_REQUIRED },
      { .token = FAULT_DANE_REQUIRED, .level = TLS_LEVEL_MAY, .no_memory = true, AND_DANE } },
    { "T-23 REQUIRETLS alone asks for a name",
      { MAY, .message = MESSAGE_REQUIRETLS },
      { .level = TLS_LEVEL_NAME, .requiretls = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_REQUIRETLS } },
    { "T-23 REQUIRETLS with DANE: that authenticates",
      { MAY, .dane = HOST_DANE_USABLE, .message = MESSAGE_REQUIRETLS },
      { .level = TLS_LEVEL_ENCRYPT, .dane = true, .requiretls = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE | GOVERNED_BY_REQUIRETLS } },
    { "REQUIRETLS with MTA-STS: that authenticates",
      { MAY, .sts = HOST_STS_ENFORCE, .sts_lists = true, .message = MESSAGE_REQUIRETLS },
      { .level = TLS_LEVEL_ENCRYPT, .sts = true, .requiretls = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_STS | GOVERNED_BY_REQUIRETLS } },
    { "REQUIRETLS wins over TLS-Required: no",
      { MAY, .dane = HOST_DANE_USABLE, .message = MESSAGE_REQUIRETLS | MESSAGE_TLS_NOT_REQUIRED },
      { .level = TLS_LEVEL_ENCRYPT, .dane = true, .requiretls = true,
        .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE | GOVERNED_BY_REQUIRETLS } },
    { "S-19 a floor on record",
      { MAY, .floor = TLS_LEVEL_NAME, .floor_recorded = true },
      { .level = TLS_LEVEL_NAME, .governors = GOVERNED_BY_CONNECTOR | GOVERNED_BY_RECORD } },
    { "a rule that asks for less",
      { .connector = TLS_LEVEL_NAME, .floor = TLS_LEVEL_ENCRYPT }, { .level = TLS_LEVEL_NAME, BY_CONNECTOR } },
};
/* clang-format on */

Test(host_policy, strictest_of_all)
{
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct host_policy *e = &rows[i].expected;
        const struct host_policy p = host_policy(&rows[i].facts);
        const char *id = rows[i].id;
        cr_expect_str_eq(outbound_token_name(p.token), outbound_token_name(e->token), "%s: %s", id,
                         outbound_token_name(p.token));
        cr_expect_str_eq(tls_level_name(p.level), tls_level_name(e->level), "%s: %s", id,
                         tls_level_name(p.level));
        cr_expect_eq(p.dane, e->dane, "%s", id);
        cr_expect_eq(p.sts, e->sts, "%s", id);
        cr_expect_eq(p.requiretls, e->requiretls, "%s", id);
        cr_expect_eq(p.no_memory, e->no_memory, "%s", id);
        cr_expect_eq(p.governors, e->governors, "%s: %x", id, p.governors);
        cr_expect_eq(p.reported, e->reported, "%s", id);
    }
}

/* Whatever is learned from outside, a host shows the connector at least what it asks for. */
Test(host_policy, outside_never_lowers)
{
    for (enum tls_level level = TLS_LEVEL_MAY; level < TLS_LEVELS; level++)
        for (enum host_dane dane = 0; dane < HOST_DANES; dane++)
            for (enum host_sts sts = HOST_STS_NONE; sts <= HOST_STS_ENFORCE; sts++)
                for (unsigned message = 0; message < 4; message++) {
                    const struct host_policy_facts facts = {
                        .connector = level, .dane = dane, .sts = sts, .message = message
                    };
                    const struct host_policy p = host_policy(&facts);
                    cr_assert_geq(p.level, level);
                    cr_assert_not(p.dane && p.sts);
                    if (p.dane || p.sts)
                        cr_assert_geq(p.level, TLS_LEVEL_ENCRYPT);
                }
}

Test(host_policy, words)
{
    char text[HOST_GOVERNORS_TEXT_MAX];
    host_governors_text(0, text);
    cr_assert_str_eq(text, "");
    host_governors_text(GOVERNED_BY_CONNECTOR | GOVERNED_BY_DANE, text);
    cr_assert_str_eq(text, "connector,dane");
    host_governors_text((1U << GOVERNORS) - 1, text);
    cr_assert_str_eq(text, "connector,rule,recorded,dane,sts,requiretls,memory");
    for (enum host_dane dane = 0; dane < HOST_DANES; dane++)
        cr_assert_gt(strlen(host_dane_name(dane)), 0);
}
