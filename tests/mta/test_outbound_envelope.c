/*
 * test_outbound_envelope.c - copies that rules make, and where they go
 */
#include "mta/outbound_envelope.h"

#include <criterion/criterion.h>

#include "mta/config.h"

#define HEAD                                                                                       \
    "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"                    \
    "relay { domains = { corp.example } }\n"                                                       \
    "outbound all { type = own state = enforce domains = { * } hosts = { h } }\n"                  \
    "outbound archive { type = own state = enforce scope = rule hosts = { a } tls = encrypt }\n"   \
    "outbound vault { type = own state = enforce scope = rule hosts = { v } }\n"
#define COPY(name, condition, to, via)                                                             \
    "rule " name " { " condition " copy-to = \"" to "\" copy-via = " via " }\n"

static struct config *config_of(const char *text)
{
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    return config;
}

static struct recipient recipients[16];

static struct envelope mail(unsigned count, const char *const *to)
{
    for (unsigned i = 0; i < count; i++)
        recipients[i] = (struct recipient) { .address = slice_of_string(to[i]) };
    return (struct envelope) { .sender = SLICE("s@sender.example"),
                               .recipients = recipients,
                               .recipients_count = count,
                               .body_bytes = 1'000 };
}
#define MAIL(...)                                                                                  \
    mail(sizeof((const char *[]) { __VA_ARGS__ }) / sizeof(char *),                                \
         (const char *[]) { __VA_ARGS__ })

static const struct outbound_rule *copies[OUTBOUND_COPIES_MAX];

Test(outbound_envelope, without_rules_for_it_there_is_no_copy)
{
    struct config *config = config_of(HEAD "rule r { use = vault }\n");
    struct envelope e = MAIL("a@x.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 0);
    config_free(config);
    config =
        config_of(HEAD COPY("r", "if-recipient-domain = { y.example }", "j@j.example", "vault"));
    cr_assert_eq(outbound_copies(config, &e, copies), 0);
    config_free(config);
}

Test(outbound_envelope, one_copy_of_a_message_whoever_and_however_many_fit)
{
    struct config *config = config_of(
        HEAD COPY("a", "if-recipient-domain = { x.example }", "j@j.example", "vault")
            COPY("b", "if-sender-domain = { sender.example }", "j@j.example", "vault")
                COPY("c", "if-sender-domain = { sender.example }", "j@j.example", "archive"));
    struct envelope e = MAIL("a@y.example", "b@x.example", "c@x.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 2, "two ways to the same address are two");
    config_free(config);
}

Test(outbound_envelope, mail_to_where_copies_go_makes_none)
{
    struct config *config = config_of(HEAD COPY("a", "", "J@j.example", "vault")
                                          COPY("b", "", "k@k.example", "archive"));
    struct envelope e = MAIL("j@J.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 0);
    e = MAIL("j@j.example", "K@k.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 0, "two archives do not copy to each other");
    e = MAIL("j@j.example", "a@x.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 2, "but the other recipient's is copied");
    config_free(config);
}

Test(outbound_envelope, more_copies_than_there_may_be_are_not_made)
{
    char text[4'096];
    int size = snprintf(text, sizeof(text), "%s", HEAD);
    for (unsigned i = 0; i < OUTBOUND_COPIES_MAX + 2; i++)
        size += snprintf(text + size, sizeof(text) - (size_t)size,
                         "rule r%u { copy-to = \"j%u@j.example\" copy-via = vault }\n", i, i);
    struct config *config = config_of(text);
    struct envelope e = MAIL("a@x.example");
    cr_assert_eq(outbound_copies(config, &e, copies), OUTBOUND_COPIES_MAX);
    config_free(config);
}

static struct outbound_choice choice;

static const char *way(const struct config *config, const struct envelope *e,
                       const struct recipient *recipient)
{
    static char key[DESTINATION_KEY_MAX];
    (void)outbound_way(config, NULL, 0, e, recipient, &choice, key);
    return key;
}

Test(outbound_envelope, a_copy_goes_by_its_connector_and_keeps_it)
{
    struct config *config = config_of(
        HEAD COPY("a", "", "j@j.example", "archive") "rule u { use = vault }\n"
                                                     "rule s { if-recipient-domain = { j.example } "
                                                     "require = name }\n");
    struct envelope e = MAIL("a@x.example");
    cr_assert_eq(outbound_copies(config, &e, copies), 1);
    recipients[1] = outbound_copy_recipient(copies[0]);
    e.recipients_count = 2;
    outbound_decide(config, &e, recipients);
    cr_assert(slice_equal(recipients[0].connector, SLICE("vault")));
    cr_assert(slice_equal(recipients[1].connector, SLICE("archive")), "use is for the original");
    cr_assert_eq(recipients[1].floor, TLS_LEVEL_NAME, "require for whoever fits");
    cr_assert_eq(recipients[1].notify, NOTIFY_NEVER | RECIPIENT_COPY);
    cr_assert_str_eq(way(config, &e, &recipients[1]), "outbound:archive!name");
    config_free(config);
    /* the rule is gone, the connector is there; then that is gone, too: it waits for it */
    struct recipient copy = { .address = SLICE("j@j.example"),
                              .connector = SLICE("archive"),
                              .floor = TLS_LEVEL_ENCRYPT,
                              .notify = NOTIFY_NEVER | RECIPIENT_COPY };
    config = config_of(HEAD "rule u { use = vault }\n");
    cr_assert_str_eq(way(config, &e, &copy), "outbound:archive");
    copy.connector = SLICE("gone");
    cr_assert_str_eq(way(config, &e, &copy), QUEUE_PARKING_KEY);
    cr_assert_eq(choice.verdict, OUTBOUND_DEFER);
    cr_assert_eq(choice.reason, OUTBOUND_UNAVAILABLE);
    config_free(config);
}

Test(outbound_envelope, a_rule_with_half_a_copy_is_refused)
{
    static const char *const bad[] = {
        HEAD "rule r { copy-to = \"j@j.example\" }\n",
        HEAD "rule r { copy-via = vault }\n",
        HEAD COPY("r", "", "no address", "vault"),
        HEAD COPY("r", "", "j@j.example", "nobody"),
    };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
        struct config_report report;
        struct config *config = NULL;
        config_report_init(&report);
        cr_assert_lt(config_load_text(slice_of_string(bad[i]), "test", 1, &report, &config), 0,
                     "%u", i);
        cr_assert_eq(report.errors, 1, "%u", i);
        config_report_free(&report);
    }
}
