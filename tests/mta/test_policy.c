/*
 * test_policy.c - the relay decision: what must be refused first
 */
#include <criterion/criterion.h>

#include "mta/config.h"
#include "mta/policy.h"

static struct config *config;

static void setup(void)
{
    static const char text[] =
        "hostname = mx.example.org\n"
        "listener in { addresses = { 127.0.0.1:25 } proxy-from = { 10.9.0.0/16 } }\n"
        "listener strict { addresses = { 127.0.0.1:26 } relay = no }\n"
        "relay { domains = { \"*.d.example\", e.example, \"[192.0.2.1]\" }\n"
        "        networks = { 10.0.0.0/8, 2001:db8::/32 } }\n";
    static struct config_report report;
    config_report_init(&report);
    cr_assert_eq(config_load_text(slice_of_string(text), "test", 1, &report, &config), 0, "%s",
                 report.count > 0 ? report.messages[0].text : "");
    config_report_free(&report);
}

static void teardown(void)
{
    config_free(config);
}

/* The token of a recipient, by a sender from somewhere. */
static enum connector_token decide(unsigned listener, const char *client,
                                   const char *recipient_domain)
{
    struct net_address address;
    cr_assert_eq(net_parse(slice_of_string(client), 0, &address), 0);
    struct inbound_session session = {
        .peer = &address,
        .is_submission = policy_is_submission(config, &config->listeners[listener], &address),
    };
    struct inbound_rcpt rcpt;
    inbound_candidates(config->inbound, &session);
    inbound_rcpt(config->inbound, &session, SLICE("sender.example"),
                 slice_of_string(recipient_domain), &rcpt);
    return rcpt.token;
}

TestSuite(policy, .init = setup, .fini = teardown);

Test(policy, strangers_do_not_relay)
{
    static const char *const clients[] = { "127.0.0.1",     "::1",         "11.0.0.1",
                                           "9.255.255.255", "2001:db9::1", "192.0.2.1",
                                           "169.254.0.1" };
    static const char *const domains[] = { "d.example",       "x.e.example",   "example",
                                           "other",           "[192.0.2.2]",   "ee.example",
                                           "e.example.other", "mx.example.org" };
    for (unsigned i = 0; i < ARRAY_COUNT(clients); i++)
        for (unsigned k = 0; k < ARRAY_COUNT(domains); k++) {
            enum connector_token token = decide(0, clients[i], domains[k]);
            cr_assert_eq(token, TOKEN_RELAY_DENIED, "%s to %s", clients[i], domains[k]);
        }
}

Test(policy, a_listener_may_keep_networks_from_relaying)
{
    cr_assert_eq(decide(1, "10.1.2.3", "other"), TOKEN_RELAY_DENIED);
    cr_assert_eq(decide(0, "10.1.2.3", "other"), TOKEN_NONE);
    cr_assert_eq(decide(0, "2001:db8:ffff::1", "other"), TOKEN_NONE);
    cr_assert_eq(decide(1, "10.1.2.3", "e.example"), TOKEN_NONE);
}

Test(policy, our_domains_are_for_everybody)
{
    cr_assert_eq(decide(0, "198.51.100.1", "e.example"), TOKEN_NONE);
    cr_assert_eq(decide(1, "::1", "a.b.d.example"), TOKEN_NONE);
    cr_assert_eq(decide(0, "198.51.100.1", "[192.0.2.1]"), TOKEN_NONE);
    cr_assert_eq(decide(0, "198.51.100.1", ""), TOKEN_NONE);
    cr_assert(slice_equal(policy_postmaster_domain(config), SLICE("e.example")));
}

Test(policy, only_listed_peers_speak_proxy)
{
    struct net_address peer;
    cr_assert_eq(net_parse(SLICE("10.8.255.255"), 0, &peer), 0);
    cr_assert(!policy_expects_proxy(&config->listeners[0], &peer));
    cr_assert_eq(net_parse(SLICE("10.9.0.1"), 0, &peer), 0);
    cr_assert(policy_expects_proxy(&config->listeners[0], &peer));
    cr_assert(!policy_expects_proxy(&config->listeners[1], &peer));
}
