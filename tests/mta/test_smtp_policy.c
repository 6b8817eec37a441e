/*
 * test_smtp_policy.c - vectors of CONNECTORS 16.2 about revocation, with real certificates
 * and lists; and sessions whose mail is refused again and again
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/config.h"
#include "tests/mta/smtp_server_world.h"
#include "tests/tls/pki_crl.h"
#include "tls/tls_server.h"

#define URL "http://crl.bank.example/a.crl"

/* P-bank with cert-revocation = hard, and one session of the bank's server. */
struct world {
    char directory[PKI_PATH_BYTES];
    struct config *config;
    struct pki *root, *leaf;
    struct tls_peer peer;
    struct net_address address;
    struct inbound_session session;
};

static struct config *config_of(const char *roots)
{
    char text[2'048];
    struct config_report report;
    struct config *config = NULL;
    snprintf(text, sizeof(text),
             "hostname = mx.corp.example\n"
             "listener in { addresses = { 127.0.0.1:25 } }\n"
             "relay { domains = { corp.example } }\n"
             "roots bank { file = \"%s\" }\n"
             "inbound P-bank { type = partner state = enforce cert-roots = bank restrict = yes\n"
             "  sender-domains = { bank.example } cert-name = { mx.bank.example }\n"
             "  on-mismatch = reject cert-revocation = hard }\n",
             roots);
    config_report_init(&report);
    cr_assert_eq(config_load_text(slice_of_string(text), "test", 1, &report, &config), 0, "%s",
                 report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return config;
}

static void look_up(struct world *w, const struct tls_crls *set)
{
    char why[TLS_WHY_MAX];
    w->session.certificates[0].revocation = tls_crls_status(set, &w->peer.questions, PKI_NOW, why);
}

static void world_make(struct world *w, struct pki_options leaf)
{
    static char pem[8'192];
    *w = (struct world) { .config = NULL };
    pki_directory_make(w->directory);
    w->root = pki_make(NULL, (struct pki_options) { .cn = "Bank", .is_ca = true });
    leaf.names[0] = SLICE("mx.bank.example");
    w->leaf = pki_make(w->root, leaf);
    pem[0] = '\0';
    pki_pem_certificate(w->root, pem, sizeof(pem));
    w->config = config_of(pki_file(w->directory, "bank.pem", pem, 0644));
    const struct tls_roots *roots = w->config->inbound_bundles[0];
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(w->leaf, NULL);
    cr_assert_eq(tls_verify_chain(chain, roots, TLS_PURPOSE_ANY, PKI_NOW, &w->peer), 0);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    cr_assert_eq(w->peer.verdict, TLS_VERDICT_VALID, "%s", w->peer.reason);
    cr_assert_eq(net_parse(SLICE("192.0.2.7"), 0, &w->address), 0);
    w->session.peer = &w->address;
    w->session.tls_version = TLS_VERSION_13;
    w->session.certificates_count = 1;
    w->session.certificates[0].roots = roots;
    w->session.certificates[0].peer = &w->peer;
    look_up(w, NULL);
    inbound_candidates(w->config->inbound, &w->session);
}

static void world_end(struct world *w)
{
    config_free(w->config);
    pki_free(w->root);
    pki_free(w->leaf);
    pki_directory_remove(w->directory);
}

static struct inbound_rcpt rcpt(const struct world *w)
{
    struct inbound_mail mail;
    struct inbound_rcpt rcpt;
    inbound_mail(w->config->inbound, &w->session, SLICE("bank.example"), &mail);
    inbound_rcpt(w->config->inbound, &w->session, SLICE("bank.example"), SLICE("corp.example"),
                 &rcpt);
    cr_assert_eq(mail.token, TOKEN_NONE);
    cr_assert_eq(mail.status_unknown, rcpt.status_unknown);
    return rcpt;
}

static unsigned code_of(const struct inbound_rcpt *rcpt)
{
    return connector_reply(rcpt->token, rcpt->class, CONNECTOR_REPLIES_PLAIN)->code;
}

Test(smtp_policy, I_35_unknown_until_the_list_is_there)
{
    struct world w;
    struct tls_crls *set;
    world_make(&w, (struct pki_options) { .crls = { URL } });
    struct inbound_rcpt first = rcpt(&w);
    cr_assert_eq(first.token, TOKEN_REVOCATION_UNKNOWN);
    cr_assert_eq(code_of(&first), 451);
    cr_assert_str_eq(first.status_unknown->name, "P-bank"); /* so the list is fetched */

    struct tls_crl *list = pki_crl(w.root, URL, &(struct pki_crl_options) { .many = 10 });
    cr_assert_eq(tls_crls_make(&list, 1, &set), 0);
    look_up(&w, set);
    struct inbound_rcpt next = rcpt(&w);
    cr_assert_eq(next.token, TOKEN_NONE);
    cr_assert_null(next.status_unknown);
    tls_crls_drop(set);
    tls_crl_drop(list);

    list = pki_crl(w.root, URL, &(struct pki_crl_options) { .revoked = { w.leaf }, .many = 10 });
    cr_assert_eq(tls_crls_make(&list, 1, &set), 0);
    look_up(&w, set);
    struct inbound_rcpt last = rcpt(&w);
    cr_assert_eq(last.token, TOKEN_CERT_REVOKED);
    cr_assert_eq(code_of(&last), 550);
    tls_crls_drop(set);
    tls_crl_drop(list);
    world_end(&w);
}

Test(smtp_policy, I_36_six_days_and_no_pointer)
{
    struct world w;
    world_make(&w, (struct pki_options) { .not_before = PKI_NOW - PKI_DAY,
                                          .not_after = PKI_NOW + 5 * PKI_DAY });
    struct inbound_rcpt verdict = rcpt(&w);
    cr_assert_eq(verdict.token, TOKEN_NONE);
    cr_assert_str_eq(verdict.connector->name, "P-bank");
    cr_assert_null(verdict.status_unknown);
    world_end(&w);
}

/* ---- refusals by connectors ---- */

#define P_BANK                                                                                     \
    "} inbound p { type = partner state = enforce sender-domains = { bank.test } restrict = yes "  \
    "addresses = { 198.51.100.1 } tls = optional "
#define O_SITE "} inbound o { type = own state = enforce addresses = { 192.0.2.2 } tls = optional }"

/* The code of the last of count messages that a connector refuses, all of them whole. */
static int refused_messages(struct talk *t, unsigned count, const char *from, const char *to)
{
    char text[256];
    int code = 0;
    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "MAIL FROM:<a@%s>\r\n", from);
        code = talk_say(t, text);
        if (code != 250)
            continue;
        snprintf(text, sizeof(text), "RCPT TO:<b@%s>\r\n", to);
        code = talk_say(t, text);
        if (code != 421)
            cr_assert_eq(talk_say(t, "RSET\r\n"), 250);
    }
    return code;
}

Test(smtp_policy, the_sixth_message_that_is_refused_ends_it)
{
    static const struct {
        const char *config, *from, *to;
        int code;
    } cases[] = {
        { "}", "them.test", "far.test", 550 },
        { P_BANK "}", "bank.test", "us.test", 550 },
        { P_BANK "on-mismatch = defer }", "bank.test", "us.test", 451 },
        { "} inbound t { type = partner state = enforce sender-domains = { tls.test } }",
          "tls.test", "us.test", 451 },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct smtp_world *w = smtp_world_make(5, cases[i].config, 64, 8);
        struct talk *t = talk_hello(w);
        cr_assert_eq(refused_messages(t, 5, cases[i].from, cases[i].to), cases[i].code, "%u: %s", i,
                     t->reply);
        cr_assert_eq(refused_messages(t, 1, cases[i].from, cases[i].to), 421, "%u: %s", i,
                     t->reply);
        cr_assert_eq(w->service.metrics.bad_commands, 6);
        cr_assert_eq(talk_read(t), GONE);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_policy, a_message_that_is_taken_begins_the_count_anew)
{
    struct smtp_world *w = smtp_world_make(5, "}", 64, 8);
    struct talk *t = talk_hello(w);
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(refused_messages(t, 4, "them.test", "far.test"), 550);
        cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\n"), 250);
        cr_assert_eq(talk_say(t, "RCPT TO:<r@far.test>\r\n"), 550, "the fifth");
        cr_assert_eq(talk_say(t, "RCPT TO:<r@us.test>\r\n"), 250);
        cr_assert_eq(talk_say(t, "DATA\r\n"), 354);
        cr_assert_eq(talk_say(t, "\r\nx\r\n.\r\n"), 250);
    }
    cr_assert_eq(w->accepted, 4);
    cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\nRCPT TO:<r@far.test>\r\n"), 250);
    cr_assert_eq(talk_read(t), 421, "the 21st of bad-commands");
    talk_leave(t);
    smtp_world_free(w);
}

/* Who comes again with the same recipients in the same order must get to the last one. */
Test(smtp_policy, recipients_that_are_deferred_cut_nobody_off)
{
    struct smtp_world *w = smtp_world_make(5, P_BANK "on-mismatch = defer }", 64, 8);
    struct talk *t = talk_hello(w);
    cr_assert_eq(talk_say(t, "MAIL FROM:<a@bank.test>\r\n"), 250);
    for (unsigned i = 0; i < 60; i++)
        cr_assert_eq(talk_say(t, "RCPT TO:<r@us.test>\r\n"), 451, "%u: %s", i, t->reply);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(talk_say(t, "WHAT\r\n"), 500, "%u", i);
    cr_assert_eq(talk_say(t, "WHAT\r\n"), 421);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_policy, own_servers_and_those_without_a_limit_go_on)
{
    static const char *const configs[] = {
        O_SITE " limits { bad-commands = 100 }",
        "} limits { refused-messages = 0 bad-commands = 100 }",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(configs); i++) {
        struct smtp_world *w = smtp_world_make(5, configs[i], 64, 8);
        struct talk *t = talk_hello(w);
        cr_assert_eq(refused_messages(t, 50, "them.test", "far.test"), 550, "%u: %s", i, t->reply);
        talk_leave(t);
        smtp_world_free(w);
    }
}
