/*
 * test_exchange_import.c - connectors of Exchange, and files that were made to hurt
 */
#include "mta/exchange_import.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "mta/config.h"

struct result {
    struct exchange_sums sums;
    char *out, *messages;
};

static struct result import(const char *text)
{
    struct result result;
    size_t size;
    json_error_t error;
    json_t *list = json_loads(text, 0, &error);
    cr_assert_not_null(list, "%s", error.text);
    FILE *out = open_memstream(&result.out, &size);
    FILE *messages = open_memstream(&result.messages, &size);
    exchange_import(list, out, messages, &result.sums);
    fclose(out);
    fclose(messages);
    json_decref(list);
    return result;
}

static void result_free(struct result *result)
{
    free(result->out);
    free(result->messages);
}

/* Taken as the configuration that it is, with what it leaves out. */
static struct config *loaded(const char *sections)
{
    char *text;
    cr_assert(asprintf(&text,
                       "hostname = mx1.corp.example\n"
                       "relay { domains = { corp.example } }\n"
                       "listener \"in\" { addresses = { \"127.0.0.1:2525\" } }\n%s",
                       sections) > 0);
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "imported", 1, &report, &config);
    cr_assert_eq(r, 0, "%s\n%s: %s", text, report.count > 0 ? report.messages[0].key : "",
                 report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
    free(text);
    return config;
}

#define PARTNER "\"Enabled\":true,\"ConnectorType\":\"Partner\","
#define OWN "\"Enabled\":true,\"ConnectorType\":1,"

Test(exchange_import, nothing_of_a_file_ends_a_string_or_a_comment)
{
    struct result r = import(
        "[{" PARTNER "\"Name\":\"evil\\\" {\\n}\\ninbound \\\"x\\\" { ${HOME} \\u001b[2J\","
        "\"Comment\":\"x\\n    restrict = no\\u0085\\r\\n\","
        "\"SenderDomains\":[\"smtp:a.example\\\" } rights = { "
        "\\\"relay;1\",\"smtp:${HOME}.example\","
        "\"smtp:good.example;1\"],\"RequireTls\":true,"
        "\"TlsSenderCertificateName\":\"mx.a.example\",\"RestrictDomainsToCertificate\":true,"
        "\"Evil\\n}\":\"y\"}]");
    cr_assert_eq(r.sums.connectors, 1);
    cr_assert_eq(r.sums.errors, 0, "%s", r.messages);
    cr_assert_null(strchr(r.out, '\x1b'));
    struct config *config = loaded(r.out);
    cr_assert_eq(inbound_count(config->inbound), 1);
    const struct inbound *c = inbound_at(config->inbound, 0);
    cr_assert(c->restricts && c->state == CONNECTOR_TEST && c->type == CONNECTOR_PARTNER);
    cr_assert_eq(pattern_set_count(c->senders), 1);
    config_free(config);
    result_free(&r);
}

Test(exchange_import, what_cannot_be_a_connector_is_a_comment)
{
    static const char *const bad[] = {
        "{" PARTNER
        "\"Name\":\"a\",\"RecipientDomains\":[\"d.example\"],\"SmartHosts\":[\"192.0.2.0/28\"]}",
        "{" PARTNER "\"Name\":\"b\",\"RecipientDomains\":[\"d.example\"],\"SmartHosts\":[],"
        "\"UseMXRecord\":false}",
        "{" PARTNER
        "\"Name\":\"c\",\"RecipientDomains\":[\"d.example\"],\"SmartHosts\":[\"mx:evil.example\"]}",
        "{" PARTNER
        "\"Name\":\"d\",\"SmartHosts\":[\"192.0.2.1\"],\"TlsSettings\":\"DomainValidation\"}",
        "{" PARTNER "\"Name\":\"e\",\"UseMXRecord\":true,\"TlsSettings\":3}",
        "{" PARTNER "\"Name\":\"f\",\"SmartHosts\":[{\"Address\":\"h\"}]}",
        "{" OWN "\"Name\":\"g\",\"SenderDomains\":[\"smtp:*;1\"]}",
        "{" PARTNER
        "\"Name\":\"h\",\"SenderDomains\":[\"*\"],\"RestrictDomainsToCertificate\":true}",
        "{" OWN "\"Name\":\"i\",\"SenderDomains\":\"*\",\"TlsSenderCertificateName\":\"*\"}",
        "{\"Name\":\"j\",\"ConnectorType\":7,\"UseMXRecord\":true}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        char text[512];
        snprintf(text, sizeof(text), "[%s]", bad[i]);
        struct result r = import(text);
        cr_assert_geq(r.sums.errors, 1, "%s: %s", bad[i], r.out);
        struct config *config = loaded(r.out);
        cr_assert_eq(config->outbound.count + inbound_count(config->inbound), 0, "%s", r.out);
        config_free(config);
        result_free(&r);
    }
}

Test(exchange_import, an_object_of_neither_kind_or_both_is_an_error)
{
    struct result r =
        import("[{\"Name\":\"x\"},{\"SenderDomains\":[],\"SmartHosts\":[\"h.example\"]},7]");
    cr_assert_eq(r.sums.errors, 3);
    cr_assert_eq(r.sums.connectors, 0);
    result_free(&r);
}

Test(exchange_import, titles_are_ours_and_each_is_one_of_a_kind)
{
    struct result r = import("[{" PARTNER "\"Name\":\"Bank (in)\",\"UseMXRecord\":true},"
                             "{" PARTNER "\"Name\":\"Bank [in]\",\"UseMXRecord\":true},"
                             "{" PARTNER "\"Name\":\"\\u00fc\",\"UseMXRecord\":true}]");
    cr_assert_not_null(strstr(r.out, "outbound \"Bank-in\" {"), "%s", r.out);
    cr_assert_not_null(strstr(r.out, "outbound \"Bank-in-2\" {"), "%s", r.out);
    cr_assert_not_null(strstr(r.out, "outbound \"connector\" {"), "%s", r.out);
    config_free(loaded(r.out));
    result_free(&r);
}

/* Which keys a property becomes; each line is one that must be there, or with '!' must not. */
static void expect(const char *object, const char *const *lines)
{
    char text[1024];
    snprintf(text, sizeof(text), "[%s]", object);
    struct result r = import(text);
    cr_assert_eq(r.sums.errors, 0, "%s", r.messages);
    config_free(loaded(r.out));
    for (; *lines != NULL; lines++) {
        bool absent = **lines == '!';
        cr_assert_eq(strstr(r.out, *lines + absent) == NULL, absent, "%s in\n%s", *lines, r.out);
    }
    result_free(&r);
}
#define EXPECT(object, ...) expect("{" object "}", (const char *const[]) { __VA_ARGS__, NULL })

Test(exchange_import, inbound_properties)
{
    EXPECT(PARTNER "\"Name\":\"x\",\"SenderDomains\":[\"smtp:*.d.example;3\"],\"RequireTls\":false",
           "sender-domains = { \"d.example\", \"*.d.example\" }", "cost = 3", "tls = optional",
           "!restrict");
    EXPECT(PARTNER "\"Name\":\"x\",\"SenderDomains\":[\"smtp:*.d.example;3\",\"smtp:e.example;5\"]",
           "cost = 3", "different costs");
    EXPECT(PARTNER "\"Name\":\"x\",\"SenderDomains\":{\"value\":[\"d.example\"],\"Count\":1},"
                   "\"SenderIPAddresses\":[\"192.0.2.1\",\"192.0.2.1\",\"192.0.2.1-192.0.2.9\"],"
                   "\"RestrictDomainsToIPAddresses\":\"True\",\"RequireTls\":true",
           "addresses = { \"192.0.2.1\" }", "restrict = yes", "192.0.2.1-192.0.2.9", "!identify");
    EXPECT(PARTNER "\"Name\":\"x\",\"SenderDomains\":[\"*\"],\"SenderIPAddresses\":[\"192.0.2.1\"],"
                   "\"TlsSenderCertificateName\":\"mx.d.example\",\"RequireTls\":true,"
                   "\"RestrictDomainsToIPAddresses\":true,\"RestrictDomainsToCertificate\":true",
           "identify = both", "restrict = yes", "not documented");
    EXPECT(PARTNER "\"Name\":\"x\",\"SenderDomains\":[\"*\"],"
                   "\"TlsSenderCertificateName\":\"mx.d.example\",\"RequireTls\":true",
           "cert-name = { \"mx.d.example\" }", "!restrict = yes", "is not refused");
    EXPECT(OWN "\"Name\":\"x\",\"SenderDomains\":[\"smtp:*;1\"],\"TreatMessagesAsInternal\":true,"
               "\"TlsSenderCertificateName\":\"*.r.corp.example\",\"RequireTls\":false",
           "!sender-domains", "rights = { \"relay\", \"internal\" }", "cert-wildcard = yes",
           "tls = required");
    EXPECT(OWN "\"Name\":\"x\",\"RequireTls\":true,\"TlsSenderCertificateName\":"
               "\"<I>CN=Some CA, C=US<S>CN=mail.corp.example, O=Corp\"",
           "cert-name = { \"mail.corp.example\" }", "issuer is not looked at");
    EXPECT(OWN "\"Name\":\"x\",\"RequireTls\":true,"
               "\"TlsSenderCertificateName\":\"mail.protection.outlook.com\"",
           "!rights = { \"relay\"", "any of whom could relay");
    EXPECT(
        "\"Enabled\":false,\"ConnectorType\":\"partner\",\"Name\":\"x\",\"SenderDomains\":[\"*\"],"
        "\"AssociatedAcceptedDomains\":[\"corp.example\"],\"EFUsers\":[\"a@corp.example\"]",
        "state = off", "recipient-own-domains = { \"corp.example\" }", "EFUsers has no equal");
}

Test(exchange_import, outbound_properties)
{
    EXPECT(PARTNER "\"Name\":\"x\",\"UseMXRecord\":true,\"SmartHosts\":[\"ignored.example\"],"
                   "\"RecipientDomains\":[\"*.d.example\"],\"TlsSettings\":\"encryptiononly\"",
           "domains = { \"*.d.example\" }", "hosts = { \"mx\" }", "tls = encrypt", "state = test");
    EXPECT(PARTNER
           "\"Name\":\"x\",\"SmartHosts\":[\"[2001:db8::1]\"],\"RecipientDomains\":\"d.example\","
           "\"TlsSettings\":4,\"TlsDomain\":\"mx.d.example\"",
           "hosts = { \"[2001:db8::1]\" }", "tls = name", "tls-name = { \"mx.d.example\" }");
    EXPECT(PARTNER "\"Name\":\"x\",\"UseMXRecord\":true,\"TlsSettings\":null,"
                   "\"IsTransportRuleScoped\":true,\"RecipientDomains\":[\"d.example\"]",
           "scope = rule", "tls = may", "!domains = {", "use = x");
    EXPECT(PARTNER "\"Name\":\"x\",\"UseMXRecord\":true,\"AllAcceptedDomains\":true,"
                   "\"RecipientDomains\":[\"d.example\"]",
           "!all-own", "goes to no partner");
    EXPECT(OWN "\"Name\":\"x\",\"SmartHosts\":[\"h.corp.example\"],\"AllAcceptedDomains\":true,"
               "\"CloudServicesMailEnabled\":true",
           "domains = { \"all-own\" }", "headers = keep");
}

Test(exchange_import, all_mail_and_the_connector_that_it_comes_back_through_share_a_label)
{
#define ALL                                                                                        \
    "{" OWN                                                                                        \
    "\"Name\":\"out\",\"SmartHosts\":[\"h.corp.example\"],\"RouteAllMessagesViaOnPremises\":true}"
#define BACK                                                                                       \
    "\"ConnectorType\":1,\"Name\":\"in\",\"RequireTls\":true,\"TlsSenderCertificateName\":\"h."    \
    "corp.example\"}"
    struct result r = import("[" ALL ",{\"Enabled\":true," BACK "]");
    struct config *config = loaded(r.out);
    cr_assert(config->outbound.connectors[0].all_mail);
    cr_assert_str_eq(config->outbound.connectors[0].label, "on-premises");
    cr_assert_str_eq(inbound_at(config->inbound, 0)->label, "on-premises");
    config_free(config);
    result_free(&r);
    static const char *const alone[] = { "[" ALL "]", "[" ALL ",{\"Enabled\":false," BACK "]" };
    for (unsigned i = 0; i < 2; i++) {
        r = import(alone[i]);
        config = loaded(r.out);
        cr_assert_not(config->outbound.connectors[0].all_mail);
        cr_assert_not_null(strstr(r.messages, "RouteAllMessagesViaOnPremises needs"));
        config_free(config);
        result_free(&r);
    }
}
