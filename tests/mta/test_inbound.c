/*
 * test_inbound.c - inbound connectors: the vectors of CONNECTORS 16.2, each under its id, and what
 * must hold whatever the file says
 *
 * Configurations are read by the real reader; certificates are tls_peers as a session has them.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/random.h"
#include "mta/config.h"
#include "tls/tls_server.h"
#include "tests/core/fewer.h"

static const char head[] = "hostname = mx.corp.example\n"
                           "listener in { addresses = { 127.0.0.1:25 } }\n"
                           "relay { domains = { corp.example, sales.corp.example, brand.example }\n"
                           "        networks = { 10.0.0.0/8 } }\n";

/* The connectors of section 16.2; a %s takes more keys. */
#define P_GW                                                                                       \
    "inbound P-gw { type = partner state = enforce sender-domains = { \"*\" }\n"                   \
    "  addresses = { 192.0.2.0/28 } restrict = yes tls = optional }\n"
#define P_GW_NULL_NO                                                                               \
    "inbound P-gw { type = partner state = enforce sender-domains = { \"*\" } null-sender = no\n"  \
    "  addresses = { 192.0.2.0/28 } restrict = yes tls = optional }\n"
#define P_BANK_WITH(state, more)                                                                   \
    "inbound P-bank { type = partner state = " state " cert-roots = test restrict = yes\n"         \
    "  sender-domains = { bank.example, \"*.bank.example\" } cert-name = { mx.bank.example }\n"    \
    "  on-mismatch = reject " more " }\n"
#define P_BANK P_BANK_WITH("enforce", "")
#define P_TLS_WITH(more)                                                                           \
    "inbound P-tls { type = partner state = enforce sender-domains = { tls.example } " more " }\n"
#define P_TLS P_TLS_WITH("")
#define O_CERT_WITH(state, more)                                                                   \
    "inbound O-cert { type = own state = " state " cert-roots = test\n"                            \
    "  cert-name = { \"*.relay.corp.example\" } " more " }\n"
#define O_CERT O_CERT_WITH("enforce", "rights = { relay, internal }")
#define O_IP                                                                                       \
    "inbound O-ip { type = own state = enforce addresses = { 203.0.113.5 } rights = { relay }\n"   \
    "  tls = optional }\n"

struct facts {
    const char *peer;         /* NULL: 198.51.100.1 */
    unsigned tls;             /* 0: 1.3 with a hybrid group; PLAIN, or a version without one */
    const char *certificate;  /* name; NULL: none */
    enum tls_verdict verdict; /* NONE: valid */
    unsigned usage;           /* 0: client and server */
    enum tls_crl_status revocation;
    const char *from; /* domain; "": null */
    const char *to;   /* domain; NULL: corp.example */
};
enum { PLAIN = 1, V12 = TLS_VERSION_12, V13 = TLS_VERSION_13 };

static struct config *config_of(const char *connectors)
{
    static char text[1 << 20];
    struct config_report report;
    struct config *config = NULL;
    /* any bundle will do: verdicts are given */
    snprintf(text, sizeof(text),
             "%sroots test { file = \"/etc/ssl/certs/ca-certificates.crt\" }\n%s", head,
             connectors);
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s: %s", report.count > 0 ? report.messages[0].key : "",
                 report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return config;
}

static const struct tls_roots *test_roots(const struct config *config)
{
    for (unsigned i = 0; i < config->roots_count; i++)
        if (strcmp(config->roots[i].name, "test") == 0)
            return config->roots[i].roots;
    return NULL;
}

static struct tls_peer peer_of(const struct facts *facts)
{
    struct tls_peer peer = { .verdict = facts->verdict == TLS_VERDICT_NONE ? TLS_VERDICT_VALID
                                                                           : facts->verdict };
    tls_names_add(&peer.leaf.names, slice_of_string(facts->certificate));
    peer.leaf.usage = facts->usage == 0 ? TLS_USAGE_CLIENT | TLS_USAGE_SERVER : facts->usage;
    peer.has_key = true;
    memset(peer.leaf.spki, 0x11, sizeof(peer.leaf.spki));
    return peer;
}

struct session {
    struct inbound_session facts;
    struct net_address address;
    struct tls_peer peer;
};

static void session_of(const struct config *config, const struct facts *facts, struct session *s)
{
    const char *text = facts->peer == NULL ? "198.51.100.1" : facts->peer;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &s->address), 0);
    s->facts = (struct inbound_session) {
        .peer = &s->address,
        .tls_version = facts->tls == 0       ? V13
                       : facts->tls == PLAIN ? 0
                                             : facts->tls,
        .is_hybrid = facts->tls == 0,
        .is_submission = networks_hold(config->relay.networks, &s->address),
    };
    if (facts->certificate != NULL) {
        s->peer = peer_of(facts);
        s->facts.certificates_count = 1;
        s->facts.certificates[0].roots = test_roots(config);
        s->facts.certificates[0].peer = &s->peer;
        s->facts.certificates[0].revocation = facts->revocation;
    }
    inbound_candidates(config->inbound, &s->facts);
}

struct answer {
    struct inbound_mail mail;
    struct inbound_rcpt rcpt; /* whatever MAIL was answered */
};

static struct answer ask(const struct config *config, const struct facts *facts)
{
    struct session session;
    struct answer answer;
    struct slice from = slice_of_string(facts->from);
    session_of(config, facts, &session);
    inbound_mail(config->inbound, &session.facts, from, &answer.mail);
    inbound_rcpt(config->inbound, &session.facts, from,
                 slice_of_string(facts->to == NULL ? "corp.example" : facts->to), &answer.rcpt);
    return answer;
}

static unsigned code_of(const struct config *config, enum connector_token token,
                        enum connector_class class)
{
    return connector_reply(token, class, inbound_defaults(config->inbound)->replies)->code;
}

static void expect_accepted(const char *connectors, struct facts facts, const char *connector)
{
    struct config *config = config_of(connectors);
    struct answer a = ask(config, &facts);
    cr_assert_eq(a.mail.token, TOKEN_NONE, "MAIL: %s", connector_token_name(a.mail.token));
    cr_assert_eq(a.rcpt.token, TOKEN_NONE, "RCPT: %s", connector_token_name(a.rcpt.token));
    cr_assert_str_eq(a.rcpt.connector == NULL ? "" : a.rcpt.connector->name, connector);
    config_free(config);
}

/* Refused at MAIL, or (MAIL taken) at RCPT, with that token and code. */
static void expect_refused(const char *connectors, struct facts facts, bool at_mail,
                           enum connector_token token, unsigned code)
{
    struct config *config = config_of(connectors);
    struct answer a = ask(config, &facts);
    if (at_mail) {
        cr_assert_eq(a.mail.token, token, "%s", connector_token_name(a.mail.token));
        cr_assert_eq(code_of(config, token, a.mail.class), code);
    } else {
        cr_assert_eq(a.mail.token, TOKEN_NONE, "MAIL: %s", connector_token_name(a.mail.token));
    }
    cr_assert_eq(a.rcpt.token, token, "%s", connector_token_name(a.rcpt.token));
    cr_assert_eq(code_of(config, token, a.rcpt.class), code);
    config_free(config);
}

/* ---- the vectors ---- */

Test(inbound, I_01_nobody_is_accepted_for_own_domains)
{
    expect_accepted("", (struct facts) { .tls = PLAIN, .from = "x.example" }, "");
}

Test(inbound, I_02_nobody_relays)
{
    expect_refused("", (struct facts) { .from = "x.example", .to = "y.example" }, false,
                   TOKEN_RELAY_DENIED, 550);
}

Test(inbound, I_03_tls_required)
{
    expect_refused(P_TLS, (struct facts) { .tls = PLAIN, .from = "tls.example" }, true,
                   TOKEN_TLS_REQUIRED, 451);
}

Test(inbound, I_04_tls_without_a_certificate_is_enough)
{
    expect_accepted(P_TLS, (struct facts) { .tls = V12, .from = "tls.example" }, "P-tls");
}

Test(inbound, I_05_tls_required_and_rejected)
{
    expect_refused(P_TLS_WITH("on-missing-tls = reject"),
                   (struct facts) { .tls = PLAIN, .from = "tls.example" }, true, TOKEN_TLS_REQUIRED,
                   530);
}

Test(inbound, I_06_bank_with_its_certificate)
{
    expect_accepted(P_BANK,
                    (struct facts) { .certificate = "mx.bank.example", .from = "bank.example" },
                    "P-bank");
}

Test(inbound, I_07_bank_without)
{
    expect_refused(P_BANK, (struct facts) { .from = "bank.example" }, false, TOKEN_CERT_NONE, 550);
}

Test(inbound, I_08_bank_with_another_name)
{
    expect_refused(P_BANK,
                   (struct facts) { .certificate = "other.example", .from = "bank.example" }, false,
                   TOKEN_CERT_NAME, 550);
}

Test(inbound, I_09_bank_from_an_unknown_root)
{
    expect_refused(P_BANK,
                   (struct facts) { .certificate = "mx.bank.example",
                                    .verdict = TLS_VERDICT_UNTRUSTED,
                                    .from = "bank.example" },
                   false, TOKEN_CERT_UNTRUSTED, 550);
}

Test(inbound, I_11_any_usage)
{
    expect_accepted(P_BANK,
                    (struct facts) { .certificate = "mx.bank.example",
                                     .usage = TLS_USAGE_SERVER,
                                     .from = "bank.example" },
                    "P-bank");
}

Test(inbound, I_12_client_usage_demanded)
{
    expect_refused(P_BANK_WITH("enforce", "cert-usage = client"),
                   (struct facts) { .certificate = "mx.bank.example",
                                    .usage = TLS_USAGE_SERVER,
                                    .from = "bank.example" },
                   false, TOKEN_CERT_USAGE, 550);
}

Test(inbound, I_13_not_covered)
{
    expect_accepted(P_BANK,
                    (struct facts) { .certificate = "mx.bank.example", .from = "x.example" }, "");
}

Test(inbound, I_14_gateway)
{
    expect_accepted(P_GW, (struct facts) { .peer = "192.0.2.3", .from = "x.example" }, "P-gw");
}

Test(inbound, I_15_past_the_gateway)
{
    expect_refused(P_GW, (struct facts) { .from = "x.example" }, false, TOKEN_ADDRESS_MISMATCH,
                   550);
}

Test(inbound, I_16_bounces_go_through_the_gateway_too)
{
    expect_refused(P_GW, (struct facts) { .from = "" }, false, TOKEN_ADDRESS_MISMATCH, 550);
}

Test(inbound, I_17_null_sender_let_be)
{
    expect_accepted(P_GW_NULL_NO, (struct facts) { .from = "" }, "");
}

Test(inbound, I_19_only_the_most_specific_lockdown)
{
    expect_accepted(P_GW P_BANK,
                    (struct facts) { .certificate = "mx.bank.example", .from = "bank.example" },
                    "P-bank");
}

Test(inbound, I_20_the_gateway_does_not_stand_in_for_the_bank)
{
    expect_refused(P_GW P_BANK, (struct facts) { .peer = "192.0.2.3", .from = "bank.example" },
                   false, TOKEN_CERT_NONE, 550);
    expect_accepted(P_GW P_BANK "inbound-defaults { lockdown = any }\n",
                    (struct facts) { .peer = "192.0.2.3", .from = "bank.example" }, "P-gw");
}

Test(inbound, I_21_own_is_exempt_from_lockdown)
{
    expect_accepted(P_GW O_CERT,
                    (struct facts) { .certificate = "a.relay.corp.example", .from = "x.example" },
                    "O-cert");
}

Test(inbound, I_22_relay_by_a_certificate_in_an_own_domain)
{
    expect_accepted(O_CERT,
                    (struct facts) { .certificate = "a.relay.corp.example",
                                     .from = "x.example",
                                     .to = "y.example" },
                    "O-cert");
}

Test(inbound, I_23_relay_of_an_own_sender_by_address)
{
    expect_accepted(
        O_IP, (struct facts) { .peer = "203.0.113.5", .from = "corp.example", .to = "y.example" },
        "O-ip");
}

Test(inbound, I_24_relay_of_a_foreign_sender_by_address)
{
    expect_refused(O_IP,
                   (struct facts) { .peer = "203.0.113.5", .from = "x.example", .to = "y.example" },
                   false, TOKEN_RELAY_DENIED, 550);
}

Test(inbound, I_25_bounces_are_not_relayed_by_address)
{
    expect_refused(O_IP, (struct facts) { .peer = "203.0.113.5", .from = "", .to = "y.example" },
                   false, TOKEN_RELAY_DENIED, 550);
}

Test(inbound, I_26_bounces_are_relayed_by_certificate)
{
    expect_accepted(
        O_CERT,
        (struct facts) { .certificate = "a.relay.corp.example", .from = "", .to = "y.example" },
        "O-cert");
}

Test(inbound, I_27_test_grants_nothing)
{
    struct config *config = config_of(O_CERT_WITH("test", "rights = { relay }"));
    struct answer a = ask(config, &(struct facts) { .certificate = "a.relay.corp.example",
                                                    .from = "x.example",
                                                    .to = "y.example" });
    cr_assert_eq(a.rcpt.token, TOKEN_RELAY_DENIED);
    cr_assert_not_null(a.rcpt.would.connector);
    cr_assert_str_eq(a.rcpt.would.connector->name, "O-cert");
    cr_assert_eq(a.rcpt.would.token, TOKEN_NONE);
    config_free(config);
}

Test(inbound, I_28_test_refuses_nothing)
{
    struct config *config = config_of(P_BANK_WITH("test", ""));
    struct answer a = ask(config, &(struct facts) { .from = "bank.example" });
    cr_assert_eq(a.mail.token, TOKEN_NONE);
    cr_assert_eq(a.rcpt.token, TOKEN_NONE);
    cr_assert_eq(a.rcpt.kind, INBOUND_NONE);
    cr_assert_str_eq(a.rcpt.would.connector->name, "P-bank");
    cr_assert_eq(a.rcpt.would.token, TOKEN_CERT_NONE);
    config_free(config);
}

Test(inbound, I_29_certificate_before_address)
{
    expect_accepted(O_IP O_CERT,
                    (struct facts) { .peer = "203.0.113.5",
                                     .certificate = "a.relay.corp.example",
                                     .from = "x.example" },
                    "O-cert");
}

#define NO_ANONYMOUS "inbound-defaults { own-sender-anonymous = reject }\n"

Test(inbound, I_31_own_sender_without_proof)
{
    expect_refused(NO_ANONYMOUS, (struct facts) { .from = "corp.example" }, false, TOKEN_OWN_SENDER,
                   550);
}

Test(inbound, I_32_null_sender_is_nobodys)
{
    expect_accepted(NO_ANONYMOUS, (struct facts) { .from = "" }, "");
}

Test(inbound, I_33_submission_may_use_our_domains)
{
    struct config *config = config_of(NO_ANONYMOUS P_GW);
    struct answer a = ask(
        config, &(struct facts) { .peer = "10.1.2.3", .from = "corp.example", .to = "y.example" });
    cr_assert_eq(a.rcpt.token, TOKEN_NONE);
    cr_assert_eq(a.rcpt.kind, INBOUND_SUBMISSION);
    config_free(config);
}

/* I-35 and I-36 are in test_smtp_policy.c. */

Test(inbound, revocation_by_mode)
{
    static const struct {
        const char *mode;
        enum tls_crl_status status;
        enum connector_token token;
        unsigned code;
    } rows[] = {
        { "off", TLS_CRL_REVOKED, TOKEN_NONE, 0 },
        { "off", TLS_CRL_UNKNOWN, TOKEN_NONE, 0 },
        { "soft", TLS_CRL_GOOD, TOKEN_NONE, 0 },
        { "soft", TLS_CRL_UNKNOWN, TOKEN_NONE, 0 },
        { "soft", TLS_CRL_REVOKED, TOKEN_CERT_REVOKED, 550 },
        { "hard", TLS_CRL_GOOD, TOKEN_NONE, 0 },
        { "hard", TLS_CRL_NONE, TOKEN_NONE, 0 },
        { "hard", TLS_CRL_UNKNOWN, TOKEN_REVOCATION_UNKNOWN, 451 },
        { "hard", TLS_CRL_REVOKED, TOKEN_CERT_REVOKED, 550 },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[1'024];
        snprintf(text, sizeof(text), P_BANK_WITH("enforce", "cert-revocation = %s"), rows[i].mode);
        struct facts facts = { .certificate = "mx.bank.example",
                               .revocation = rows[i].status,
                               .from = "bank.example" };
        if (rows[i].token == TOKEN_NONE)
            expect_accepted(text, facts, "P-bank");
        else
            expect_refused(text, facts, false, rows[i].token, rows[i].code);
    }
}

/* Only who would be let in otherwise makes us fetch. */
Test(inbound, who_wants_to_know_about_a_revocation)
{
    static const struct {
        const char *name, *mode;
        enum tls_crl_status status;
        bool is_wanted;
    } rows[] = {
        { "mx.bank.example", "soft", TLS_CRL_UNKNOWN, true },
        { "mx.bank.example", "hard", TLS_CRL_UNKNOWN, true },
        { "mx.bank.example", "off", TLS_CRL_UNKNOWN, false },
        { "mx.bank.example", "hard", TLS_CRL_GOOD, false },
        { "other.example", "hard", TLS_CRL_UNKNOWN, false },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[1'024];
        snprintf(text, sizeof(text), P_BANK_WITH("test", "cert-revocation = %s"), rows[i].mode);
        struct config *config = config_of(text);
        struct answer a = ask(config, &(struct facts) { .certificate = rows[i].name,
                                                        .revocation = rows[i].status,
                                                        .from = "bank.example" });
        const struct inbound *wanted = rows[i].is_wanted ? inbound_at(config->inbound, 0) : NULL;
        cr_assert_eq(a.mail.status_unknown, wanted, "%u", i);
        cr_assert_eq(a.rcpt.status_unknown, wanted, "%u", i);
        config_free(config);
    }
}

/* CONNECTORS 6.2: what cannot be judged now is never a refusal for good. */
Test(inbound, one_of_ours_whose_revocation_is_not_known_is_deferred)
{
    const char *connectors =
        O_CERT_WITH("enforce", "rights = { relay } cert-revocation = hard") P_GW;
    struct facts facts = { .certificate = "a.relay.corp.example",
                           .revocation = TLS_CRL_UNKNOWN,
                           .from = "x.example",
                           .to = "y.example" };
    expect_refused(connectors, facts, false, TOKEN_REVOCATION_UNKNOWN, 451);
    facts.to = "corp.example";
    expect_refused(connectors, facts, false, TOKEN_REVOCATION_UNKNOWN, 451);
    facts.revocation = TLS_CRL_REVOKED;
    expect_refused(connectors, facts, false, TOKEN_ADDRESS_MISMATCH, 550);
    facts.revocation = TLS_CRL_GOOD;
    expect_accepted(connectors, facts, "O-cert");
}

Test(inbound, I_38_not_for_this_recipient)
{
    static const char connectors[] =
        P_BANK_WITH("enforce", "recipient-own-domains = { brand.example }");
    expect_accepted(connectors, (struct facts) { .from = "bank.example" }, "");
    expect_refused(connectors, (struct facts) { .from = "bank.example", .to = "brand.example" },
                   false, TOKEN_CERT_NONE, 550);
}

Test(inbound, I_40_version)
{
    expect_refused(P_TLS_WITH("tls-min = 1.3"),
                   (struct facts) { .tls = V12, .from = "tls.example" }, true, TOKEN_TLS_TOO_WEAK,
                   451);
}

Test(inbound, I_41_group)
{
    expect_refused(P_TLS_WITH("min-group = hybrid"),
                   (struct facts) { .tls = V13, .from = "tls.example" }, true, TOKEN_TLS_TOO_WEAK,
                   451);
    expect_accepted(P_TLS_WITH("min-group = hybrid"), (struct facts) { .from = "tls.example" },
                    "P-tls");
}

Test(inbound, I_44_replies_of_exchange)
{
    static const char connectors[] = P_BANK "inbound-defaults { replies = exchange }\n";
    struct config *config = config_of(connectors);
    struct answer a = ask(config, &(struct facts) { .from = "bank.example" });
    const struct connector_reply *reply =
        connector_reply(a.rcpt.token, a.rcpt.class, inbound_defaults(config->inbound)->replies);
    cr_assert_eq(reply->code, 550);
    cr_assert_eq(reply->enhanced.subject, 7);
    cr_assert_eq(reply->enhanced.detail, 51);
    config_free(config);
}

/* ---- more of sections 4 and 5 ---- */

static const char pin_ours[] =
    "sha256:1111111111111111111111111111111111111111111111111111111111111111";
static const char pin_other[] =
    "sha256:2222222222222222222222222222222222222222222222222222222222222222";

static const char *bank_with_pin(const char *check, const char *pin)
{
    static char text[1'024];
    snprintf(text, sizeof(text),
             P_BANK_WITH("enforce", "cert-check = \"%s\" cert-pin = { \"%s\" }"), check, pin);
    return text;
}

Test(inbound, pins)
{
    struct facts good = { .certificate = "mx.bank.example", .from = "bank.example" };
    struct facts self_signed = good;
    self_signed.verdict = TLS_VERDICT_UNTRUSTED;
    expect_accepted(bank_with_pin("name+pin", pin_ours), good, "P-bank");
    expect_refused(bank_with_pin("name+pin", pin_other), good, false, TOKEN_CERT_PIN, 550);
    expect_refused(bank_with_pin("name+pin", pin_ours), self_signed, false, TOKEN_CERT_UNTRUSTED,
                   550);
    expect_accepted(bank_with_pin("name-or-pin", pin_other), good, "P-bank");
    expect_accepted(bank_with_pin("name-or-pin", pin_ours), self_signed, "P-bank");
    expect_refused(bank_with_pin("name-or-pin", pin_other), self_signed, false,
                   TOKEN_CERT_UNTRUSTED, 550);
    expect_accepted(bank_with_pin("pin", pin_ours), self_signed, "P-bank");
    expect_refused(bank_with_pin("pin", pin_other), self_signed, false, TOKEN_CERT_PIN, 550);
}

Test(inbound, own_wildcards_are_not_taken)
{
    static const char exact[] = "inbound O { type = own state = enforce cert-roots = test\n"
                                "  cert-name = { mx.relay.corp.example } rights = { relay } %s }\n";
    char plain[512], wildcard[512];
    struct facts facts = { .certificate = "*.relay.corp.example",
                           .from = "x.example",
                           .to = "y.example" };
    snprintf(plain, sizeof(plain), exact, "");
    snprintf(wildcard, sizeof(wildcard), exact, "cert-wildcard = yes");
    expect_refused(plain, facts, false, TOKEN_RELAY_DENIED, 550);
    expect_accepted(wildcard, facts, "O");
}

Test(inbound, both_and_either)
{
    static const char way[] = "inbound O { type = own state = enforce cert-roots = test\n"
                              "  cert-name = { a.relay.corp.example } addresses = { 203.0.113.5 }\n"
                              "  rights = { relay } identify = %s }\n";
    char both[512], either[512];
    struct facts certificate = { .certificate = "a.relay.corp.example",
                                 .from = "corp.example",
                                 .to = "y.example" };
    struct facts address = { .peer = "203.0.113.5", .from = "corp.example", .to = "y.example" };
    struct facts all = certificate;
    all.peer = "203.0.113.5";
    snprintf(both, sizeof(both), way, "both");
    snprintf(either, sizeof(either), way, "either");
    expect_refused(both, certificate, false, TOKEN_RELAY_DENIED, 550);
    expect_refused(both, address, false, TOKEN_RELAY_DENIED, 550);
    expect_accepted(both, all, "O");
    expect_accepted(either, certificate, "O");
    expect_accepted(either, address, "O");
}

Test(inbound, the_longer_prefix_and_then_cost_and_name)
{
    static const char all[] =
        "inbound b { type = own state = enforce addresses = { 203.0.113.0/24 }\n"
        "  tls = optional cost = 5 }\n"
        "inbound a { type = own state = enforce addresses = { 203.0.113.0/24 }\n"
        "  tls = optional cost = 5 }\n"
        "inbound c { type = own state = enforce addresses = { 203.0.113.0/24 }\n"
        "  tls = optional cost = 4 }\n"
        "inbound d { type = own state = enforce addresses = { 203.0.113.0/28 }\n"
        "  tls = optional }\n";
    expect_accepted(all, (struct facts) { .peer = "203.0.113.5", .from = "x.example" }, "d");
    expect_accepted(all, (struct facts) { .peer = "203.0.113.99", .from = "x.example" }, "c");
    static const char two[] =
        "inbound b { type = own state = enforce addresses = { 203.0.113.0/24 }\n"
        "  tls = optional }\n"
        "inbound a { type = own state = enforce addresses = { 203.0.113.0/24 }\n"
        "  tls = optional }\n";
    expect_accepted(two, (struct facts) { .peer = "203.0.113.5", .from = "x.example" }, "a");
}

Test(inbound, a_partner_is_never_a_way_out)
{
    expect_refused(P_GW,
                   (struct facts) { .peer = "192.0.2.3", .from = "x.example", .to = "y.example" },
                   false, TOKEN_RELAY_DENIED, 550);
    expect_refused(P_BANK,
                   (struct facts) { .certificate = "mx.bank.example",
                                    .from = "bank.example",
                                    .to = "y.example" },
                   false, TOKEN_RELAY_DENIED, 550);
}

Test(inbound, internal_needs_a_sender_of_ours)
{
    struct config *config = config_of(O_CERT);
    struct facts facts = { .certificate = "a.relay.corp.example", .from = "corp.example" };
    cr_assert(ask(config, &facts).rcpt.is_internal);
    facts.from = "x.example";
    cr_assert_not(ask(config, &facts).rcpt.is_internal);
    config_free(config);
}

Test(inbound, a_star_among_our_domains_makes_no_name_ours)
{
    static const char text[] = "hostname = mx.corp.example\n"
                               "listener in { addresses = { 127.0.0.1:25 } }\n"
                               "roots test { file = \"/etc/ssl/certs/ca-certificates.crt\" }\n"
                               "relay { domains = { \"*\" } i-run-an-open-relay = yes }\n" O_CERT;
    struct config_report report;
    struct config *config;
    config_report_init(&report);
    cr_assert_eq(config_load_text(slice_of_string(text), "t", 1, &report, &config), 0);
    struct answer a = ask(
        config, &(struct facts) { .certificate = "a.relay.corp.example", .from = "", .to = "" });
    cr_assert_eq(a.rcpt.kind, INBOUND_OWN);
    config_report_free(&report);
    config_free(config);
}

Test(inbound, names_that_a_certificate_may_only_seem_to_bear)
{
    static const char *const names[] = { "relay.corp.example", "xrelay.corp.example",
                                         "a.relay.corp.example.evil.example", "*.corp.example",
                                         "a.relay.corp.examples" };
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++)
        expect_refused(
            O_CERT,
            (struct facts) { .certificate = names[i], .from = "corp.example", .to = "y.example" },
            false, TOKEN_RELAY_DENIED, 550);
}

Test(inbound, asks_for_certificates_of_whom_it_may_concern)
{
    struct net_address in, out;
    cr_assert_eq(net_parse(SLICE("203.0.113.5"), 0, &in), 0);
    cr_assert_eq(net_parse(SLICE("203.0.114.5"), 0, &out), 0);
    struct config *config = config_of(P_BANK);
    cr_assert(inbound_asks(config->inbound, &out));
    config_free(config);
    config = config_of(P_BANK_WITH("enforce", "addresses = { 203.0.113.0/24 } identify = both"));
    cr_assert(inbound_asks(config->inbound, &in));
    cr_assert_not(inbound_asks(config->inbound, &out));
    config_free(config);
    config = config_of(P_GW P_BANK_WITH("off", ""));
    cr_assert_not(inbound_asks(config->inbound, &in));
    config_free(config);
}

Test(inbound, too_many_candidates_keep_the_first)
{
    static char text[1 << 14];
    size_t size = 0;
    for (unsigned i = 0; i < 20; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size,
                                 "inbound c%02u { type = own state = enforce tls = optional\n"
                                 "  addresses = { 203.0.113.0/24 } cost = %u }\n",
                                 i, 100 - i);
    struct config *config = config_of(text);
    struct session session;
    session_of(config, &(struct facts) { .peer = "203.0.113.5" }, &session);
    cr_assert_eq(session.facts.candidates.count, INBOUND_CANDIDATES_MAX);
    cr_assert(session.facts.candidates.more);
    cr_assert_eq(session.facts.candidates.at[0], 0);
    expect_accepted(text, (struct facts) { .peer = "203.0.113.5", .from = "x.example" }, "c19");
    config_free(config);
}

Test(inbound, opinions_give_each_its_reason)
{
    struct config *config = config_of(P_GW P_BANK O_CERT P_TLS);
    struct session session;
    struct slice to = SLICE("corp.example");
    enum inbound_reason reasons[4];
    session_of(config, &(struct facts) { .peer = "192.0.2.3" }, &session);
    for (unsigned i = 0; i < 4; i++) { /* by name: O-cert, P-bank, P-gw, P-tls */
        struct inbound_opinion opinion;
        inbound_opinion(config->inbound, &session.facts, SLICE("bank.example"), &to, i, &opinion);
        reasons[i] = opinion.reason;
    }
    cr_assert_eq(reasons[0], INBOUND_NOT_IDENTIFIED);
    cr_assert_eq(reasons[1], INBOUND_DECIDES);
    cr_assert_eq(reasons[2], INBOUND_LESS_SPECIFIC);
    cr_assert_eq(reasons[3], INBOUND_NOT_COVERING);
    config_free(config);
}

/* ---- properties ---- */

enum { MANY = 60 };

static const char *const domains[] = { "a.example", "*.a.example", "b.a.example", "*",
                                       "c.example" };
static const char *const networks[] = { "192.0.2.0/24", "192.0.2.0/28", "198.51.100.1",
                                        "203.0.113.0/24" };
static const char *const names[] = { "mx.a.example", "*.a.example", "a.relay.corp.example",
                                     "*.relay.corp.example" };

static void random_connector(struct random *random, unsigned index, char out[512])
{
    bool own = random_below(random, 2) == 0, certificate = random_below(random, 2) == 0;
    char who[128], what[128];
    const char *floor = random_below(random, 3) == 0 ? "tls-min = 1.3" : "tls-min = 1.2";
    if (certificate)
        snprintf(who, sizeof(who), "cert-roots = test cert-name = { \"%s\" } %s",
                 names[random_below(random, ARRAY_COUNT(names))], floor);
    else
        snprintf(who, sizeof(who), "addresses = { %s } %s",
                 networks[random_below(random, ARRAY_COUNT(networks))],
                 random_below(random, 2) == 0 ? "tls = optional" : floor);
    if (own)
        snprintf(what, sizeof(what), "type = own rights = { relay }");
    else
        snprintf(what, sizeof(what), "type = partner sender-domains = { \"%s\" } restrict = %s",
                 domains[random_below(random, ARRAY_COUNT(domains))],
                 random_below(random, 2) == 0 ? "yes" : "no");
    snprintf(out, 512, "inbound c%02u { state = %s %s %s cost = %u }\n", index,
             random_below(random, 4) == 0 ? "test" : "enforce", what, who,
             (unsigned)random_below(random, 3));
}

static struct facts random_facts(struct random *random)
{
    static const char *const peers[] = { "192.0.2.3", "192.0.2.99", "198.51.100.1", "203.0.113.7" };
    static const char *const froms[] = { "a.example", "b.a.example", "c.example", "corp.example",
                                         "" };
    static const unsigned versions[] = { 0, PLAIN, V12, V13 };
    static const char *const presented[] = { NULL, "mx.a.example", "a.relay.corp.example",
                                             "*.relay.corp.example" };
    struct facts facts = { .peer = peers[random_below(random, ARRAY_COUNT(peers))],
                           .tls = versions[random_below(random, ARRAY_COUNT(versions))],
                           .from = froms[random_below(random, ARRAY_COUNT(froms))],
                           .to = random_below(random, 2) == 0 ? "y.example" : NULL };
    if (facts.tls != PLAIN)
        facts.certificate = presented[random_below(random, ARRAY_COUNT(presented))];
    return facts;
}

static bool same(const struct answer *a, const struct answer *b)
{
    const char *left = a->rcpt.connector == NULL ? "" : a->rcpt.connector->name;
    const char *right = b->rcpt.connector == NULL ? "" : b->rcpt.connector->name;
    return a->mail.token == b->mail.token && a->rcpt.token == b->rcpt.token &&
           a->rcpt.kind == b->rcpt.kind && a->rcpt.class == b->rcpt.class &&
           strcmp(left, right) == 0;
}

Test(inbound, the_order_in_the_file_decides_nothing)
{
    for (uint64_t seed = 1; seed <= FEWER(40); seed++) {
        static char sections[MANY][512], one[MANY * 512], other[MANY * 512];
        struct random random;
        unsigned count, order[MANY];
        random_seed(&random, seed);
        count = 1 + (unsigned)random_below(&random, 12);
        *one = *other = '\0';
        for (unsigned i = 0; i < count; i++) {
            random_connector(&random, i, sections[i]);
            strcat(one, sections[i]);
            order[i] = i;
        }
        for (unsigned i = count; i-- > 1;) {
            unsigned k = (unsigned)random_below(&random, i + 1), kept = order[i];
            order[i] = order[k];
            order[k] = kept;
        }
        for (unsigned i = 0; i < count; i++)
            strcat(other, sections[order[i]]);
        struct config *a = config_of(one), *b = config_of(other);
        for (unsigned i = 0; i < 200; i++) {
            struct facts facts = random_facts(&random);
            struct answer left = ask(a, &facts), right = ask(b, &facts);
            cr_assert(same(&left, &right), "seed %llu", (unsigned long long)seed);
        }
        config_free(a);
        config_free(b);
    }
}

/* Own connectors grant, partners never: without the own ones nothing more is allowed to relay, and
 * without the partners nothing less. */
Test(inbound, own_connectors_grant_and_partners_never)
{
    for (uint64_t seed = 1; seed <= FEWER(40); seed++) {
        static char all[MANY * 512], own[MANY * 512], partners[MANY * 512], section[512];
        struct random random;
        random_seed(&random, 1'000 + seed);
        *all = *own = *partners = '\0';
        unsigned count = 1 + (unsigned)random_below(&random, 12);
        for (unsigned i = 0; i < count; i++) {
            random_connector(&random, i, section);
            strcat(all, section);
            strcat(strstr(section, "type = own") != NULL ? own : partners, section);
        }
        struct config *a = config_of(all), *o = config_of(own), *p = config_of(partners);
        for (unsigned i = 0; i < 200; i++) {
            struct facts facts = random_facts(&random);
            struct answer with_all = ask(a, &facts), with_own = ask(o, &facts);
            struct answer with_partners = ask(p, &facts);
            if (with_all.rcpt.token == TOKEN_NONE)
                cr_assert_eq(with_own.rcpt.token, TOKEN_NONE, "seed %llu",
                             (unsigned long long)seed);
            if (facts.to != NULL)
                cr_assert_neq(with_partners.rcpt.token, TOKEN_NONE, "seed %llu",
                              (unsigned long long)seed);
        }
        config_free(a);
        config_free(o);
        config_free(p);
    }
}

/* A fact that is stricter (TLS instead of none, a newer version, a hybrid group) is never refused
 * where a weaker one was taken. */
Test(inbound, better_tls_is_never_worse_off)
{
    static const unsigned ladder[] = { PLAIN, V12, V13, 0 };
    for (uint64_t seed = 1; seed <= FEWER(40); seed++) {
        static char text[MANY * 512], section[512];
        struct random random;
        random_seed(&random, 2'000 + seed);
        *text = '\0';
        unsigned count = 1 + (unsigned)random_below(&random, 12);
        for (unsigned i = 0; i < count; i++) {
            random_connector(&random, i, section);
            strcat(text, section);
        }
        struct config *config = config_of(text);
        for (unsigned i = 0; i < 100; i++) {
            struct facts facts = random_facts(&random);
            bool taken = false;
            facts.certificate = NULL;
            for (unsigned k = 0; k < ARRAY_COUNT(ladder); k++) {
                facts.tls = ladder[k];
                bool now = ask(config, &facts).rcpt.token == TOKEN_NONE;
                cr_assert(now || !taken, "seed %llu", (unsigned long long)seed);
                taken = now;
            }
        }
        config_free(config);
    }
}
