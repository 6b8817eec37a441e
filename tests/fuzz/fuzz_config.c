/*
 * fuzz_config.c - any text is a configuration or has a reason why not, and never poisons the next
 *
 * One that is good decides about mail, and relays for those only who may. It gets all its memory
 * back, libConfuse's as well.
 */
#include <errno.h>
#include <ifaddrs.h>

#include "core/check.h"
#include "mta/config.h"
#include "mta/policy.h"
#include "tests/fuzz/library_memory.h"
#include "tls/tls_server.h"

static const char good[] = "hostname = a.example\nlistener in { addresses = { 127.0.0.1:25 } }\n"
                           "relay { domains = { \"*.b\" } }\n";
static struct config_report report;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_own(const struct config *config, struct slice domain)
{
    struct pattern_match match;
    return config->relay.domains != NULL && pattern_set_find(config->relay.domains, domain, &match);
}

/* Mail for others is taken of those only who may. */
static void decide(const struct config *config, const struct inbound_session *session,
                   struct slice sender, struct slice recipient)
{
    struct inbound_mail mail;
    struct inbound_rcpt rcpt;
    inbound_mail(config->inbound, session, sender, &mail);
    CHECK((mail.token != TOKEN_NONE) == (mail.by != NULL));
    inbound_rcpt(config->inbound, session, sender, recipient, &rcpt);
    CHECK((rcpt.connector == NULL) ==
          (rcpt.kind == INBOUND_NONE || rcpt.kind == INBOUND_SUBMISSION));
    if (rcpt.token == TOKEN_NONE && recipient.size > 0 && !is_own(config, recipient))
        CHECK(session->is_submission ||
              (rcpt.kind == INBOUND_OWN && (rcpt.connector->rights & INBOUND_RELAY) != 0));
}

static void use(const struct config *config)
{
    static const char *const domains[] = { "a.example", "x.y.z", "[192.0.2.1]", "" };
    struct net_address client = { .octets = { [10] = 0xff, [11] = 0xff, [12] = 10 } };
    CHECK(config->listeners_count > 0 && config->listeners_count <= CONFIG_LISTENERS_MAX);
    CHECK(config->limits.recipients_max >= CONFIG_RECIPIENTS_FLOOR);
    CHECK(*config->hostname != '\0' && *config->relay.postmaster_domain != '\0');
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        CHECK(listener->addresses_count > 0 && listener->addresses[0].port != 0);
        CHECK(listener->size_max <= config->limits.message_bytes_max);
        struct inbound_session session = {
            .peer = &client,
            .is_submission = policy_is_submission(config, listener, &client),
            .tls_version = i % 2 == 0 ? TLS_VERSION_13 : 0,
            .is_hybrid = true,
        };
        inbound_candidates(config->inbound, &session);
        for (unsigned k = 0; k < ARRAY_COUNT(domains); k++) {
            struct slice domain = slice_of_string(domains[k]);
            decide(config, &session, slice_of_string(domains[3 - k]), domain);
            decide(config, &session, domain, domain);
            char key[ROUTE_KEY_BYTES];
            const struct outbound_facts outbound = { .recipient_domain = domain,
                                                     .sender_domain = domain };
            struct outbound_choice choice;
            outbound_select(&config->outbound, &outbound, &choice);
            if (choice.verdict == OUTBOUND_BOUNCE || choice.verdict == OUTBOUND_DEFER)
                continue;
            const struct route *route = outbound_route(&config->outbound, &choice);
            CHECK(route_key(route, domain, choice.floor, ROUTE_WISH_REQUIRETLS, key) < sizeof(key));
            CHECK(route->hosts_count > 0 && route->hosts[0].port != 0);
        }
    }
}

/* The machine's addresses, asked for once (--wrap). */
static struct ifaddrs *addresses;
int __real_getifaddrs(struct ifaddrs **list);
int __wrap_getifaddrs(struct ifaddrs **list);
void __wrap_freeifaddrs(struct ifaddrs *list);

int __wrap_getifaddrs(struct ifaddrs **list)
{
    if (addresses == NULL)
        CHECK(__real_getifaddrs(&addresses) == 0);
    *list = addresses;
    return 0;
}

void __wrap_freeifaddrs(struct ifaddrs *list)
{
    CHECK(list == addresses);
}

static void run(const uint8_t *data, size_t size)
{
    struct config *config;
    config_report_init(&report);
    int r = config_load_text(slice_of(data, size), "fuzz", 1, &report, &config);
    CHECK(r == 0 || r == -EINVAL);
    CHECK((r == 0) == (report.errors == 0));
    CHECK((r == 0) == (config != NULL));
    for (unsigned i = 0; i < report.count; i++)
        CHECK(*report.messages[i].text != '\0');
    if (r == 0)
        use(config);
    config_free(config);
    config_report_free(&report);
    if (size % 8 != 0)
        return;
    r = config_load_text(slice_of(good, sizeof(good) - 1), "good", 2, &report, &config);
    CHECK(r == 0 && report.count == 0);
    CHECK(pattern_set_count(config->relay.domains) == 1);
    config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct library_memory *memory;
    if (memory == NULL)
        memory = library_memory_new(false);
    size_t bytes = library_memory_bytes(memory);
    library_memory_use(memory);
    run(data, size);
    if (library_memory_bytes(memory) > bytes) {
        bytes = library_memory_bytes(memory); /* what is made once is not made again */
        run(data, size);
        CHECK(library_memory_bytes(memory) <= bytes);
    }
    library_memory_use(NULL);
    return 0;
}
