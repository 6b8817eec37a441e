/*
 * test_check_fleet.c - L-19 over several files: for each way to run in a circle some that do, and
 * some that look like it
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mta/check.h"
#include "mta/config.h"
#include "tests/mta/findings.h"

#define NODE(number)                                                                               \
    "hostname = mx" number ".example.org\n"                                                        \
    "listener in { addresses = { 192.0.2." number ":25 } }\n"                                      \
    "relay { domains = { example.org } }\n"
#define WAY_IN(name, state, domains, hosts, more)                                                  \
    "outbound " name " { type = own state = " state " domains = { " domains " } hosts = { " hosts  \
    " } " more " }\n"
#define WAY(name, domains, hosts) WAY_IN(name, "enforce", domains, hosts, "")
#define KNOWS(label, address)                                                                      \
    "inbound " label " { type = own state = enforce tls = optional addresses = { " address         \
    " } label = " label " }\n"
#define STORE WAY("store", "all-own", "198.51.100.1")

static struct config_report report;

/* The files are n1, n2, .. */
static void look(const char *const *texts, unsigned count)
{
    struct config *configs[CHECK_FLEET_MAX];
    config_report_free(&report);
    for (unsigned i = 0; i < count; i++) {
        char name[8];
        snprintf(name, sizeof(name), "n%u", i + 1);
        const int r = config_load_text(slice_of_string(texts[i]), name, 1, &report, &configs[i]);
        cr_assert_eq(r, 0, "%s: %s", texts[i], report.count > 0 ? report.messages[0].text : "");
    }
    config_report_free(&report);
    check_fleet((const struct config *const *)configs, count, &report);
    for (unsigned i = 0; i < count; i++)
        config_free(configs[i]);
}

#define LOOK(...)                                                                                  \
    look((const char *const[]) { __VA_ARGS__ },                                                    \
         sizeof((const char *const[]) { __VA_ARGS__ }) / sizeof(const char *))
#define ERRORS(words) findings(&report, CONFIG_ERROR, words)
#define WARNINGS(words) findings(&report, CONFIG_WARNING, words)
#define BAD(...)                                                                                   \
    do {                                                                                           \
        LOOK(__VA_ARGS__);                                                                         \
        cr_assert_eq(ERRORS("in a circle (L-19)"), 1, "%u", report.count);                         \
        cr_assert_eq(report.count, 1);                                                             \
    } while (0)
#define DOUBTFUL(...)                                                                              \
    do {                                                                                           \
        LOOK(__VA_ARGS__);                                                                         \
        cr_assert_eq(WARNINGS("may run in a circle (L-19)"), 1, "%u", report.count);               \
        cr_assert_eq(report.count, 1);                                                             \
    } while (0)
#define GOOD(...)                                                                                  \
    do {                                                                                           \
        LOOK(__VA_ARGS__);                                                                         \
        cr_assert_eq(report.count, 0, "%s", report.count > 0 ? report.messages[0].text : "");      \
    } while (0)

Test(check_fleet, L_19_two_that_send_to_each_other)
{
    LOOK(NODE("1") WAY("a", "example.org", "192.0.2.2"),
         NODE("2") WAY("b", "example.org", "192.0.2.1"));
    cr_assert_eq(report.count, 1);
    const struct config_message *m = &report.messages[0];
    cr_assert_eq(m->severity, CONFIG_ERROR);
    cr_assert_str_eq(m->file, "n1");
    cr_assert_eq(m->line, 4);
    cr_assert_str_eq(m->key, "outbound \"a\": hosts");
    cr_assert_str_eq(m->text,
                     "mail for example.org runs in a circle (L-19): to n2, by its outbound "
                     "\"b\" back here; let one of them lead out of the fleet");
    GOOD(NODE("1") WAY("a", "example.org", "192.0.2.2"), NODE("2") STORE);
    GOOD(NODE("1") STORE, NODE("2") WAY("a", "example.org", "192.0.2.1"));
    GOOD(NODE("1") WAY("a", "example.org", "192.0.2.2"));
}

Test(check_fleet, L_19_three_whichever_comes_first)
{
    static const char one[] = NODE("1") WAY("a", "all-own", "192.0.2.2");
    static const char two[] = NODE("2") WAY("b", "example.org", "192.0.2.3");
    static const char three[] = NODE("3") WAY("c", "*", "192.0.2.1");
    static const char out[] = NODE("3") STORE;
    BAD(one, two, three);
    cr_assert_eq(ERRORS("to n2, by its outbound \"b\" to n3, by its outbound \"c\" back here"), 1);
    BAD(three, one, two);
    BAD(NODE("9") WAY("x", "example.org", "192.0.2.1"), one, two, three);
    cr_assert_str_eq(report.messages[0].file, "n2", "the way into a circle is none");
    GOOD(one, two, out);
}

Test(check_fleet, L_19_each_circle_once)
{
    LOOK(NODE("1") WAY("a", "c.test, \"*.c.test\", d.test, \"*\", all-own", "192.0.2.2, 192.0.2.3"),
         NODE("2") WAY("b", "\"*\", all-own", "192.0.2.1"),
         NODE("3") WAY("c", "\"*\", all-own", "192.0.2.1"));
    cr_assert_eq(ERRORS("in a circle"), 2);
    cr_assert_eq(report.count, 2);
}

Test(check_fleet, L_19_it_has_to_be_the_same_domain)
{
#define WIDE NODE("1") WAY("a", "\"*.d.test\"", "192.0.2.2")
    BAD(WIDE, NODE("2") WAY("b", "x.d.test", "192.0.2.1"));
    cr_assert_eq(ERRORS("mail for x.d.test"), 1);
    GOOD(WIDE, NODE("2") WAY("b", "d.test", "192.0.2.1"));
    GOOD(WIDE, NODE("2") WAY("b", "e.test", "192.0.2.1"));
    GOOD(WIDE WAY("out", "x.d.test", "198.51.100.1"), NODE("2") WAY("b", "x.d.test", "192.0.2.1"));
    BAD(NODE("1") WAY("a", "\"*\"", "192.0.2.2"), NODE("2") WAY("b", "d.test", "192.0.2.1"));
    GOOD(NODE("1") WAY("a", "\"*\"", "192.0.2.2"), NODE("2") WAY("b", "e.test", "192.0.2.3"),
         NODE("3") WAY("c", "f.test", "192.0.2.1"));
}

Test(check_fleet, L_19_how_a_node_is_found)
{
#define LEADS_BACK(head, host) NODE("1") WAY("a", "d", host), head WAY("b", "d", "192.0.2.1")
    static const char other[] = "hostname = mx2.example.org listener in { addresses = { "
                                "\"0.0.0.0:25\", \"127.0.0.1:26\" } banner = in.example.net }\n";
    BAD(LEADS_BACK(NODE("2"), "mx2.example.org"));
    BAD(LEADS_BACK(NODE("2"), "198.51.100.1, 192.0.2.2"));
    GOOD(LEADS_BACK(NODE("2"), "\"192.0.2.2:26\""));
    GOOD(LEADS_BACK(NODE("2"), "\"mx2.example.org:26\""));
    GOOD(LEADS_BACK(NODE("2"), "\"mx:mx2.example.org\""));
    GOOD(NODE("1") WAY("a", "d", "mx"), NODE("2") WAY("b", "d", "192.0.2.1"));
    static char text[1'024];
    snprintf(text, sizeof(text), "%s%s", other, WAY("b", "d", "192.0.2.1"));
    BAD(NODE("1") WAY("a", "d", "in.example.net"), text);
    BAD(NODE("1") WAY("a", "d", "\"127.0.0.1:26\""), text);
    GOOD(NODE("1") WAY("a", "d", "127.0.0.1"), text);
    GOOD(NODE("1") WAY("a", "d", "localhost"), text);
    GOOD(NODE("1") WAY("a", "d", "203.0.113.1"), text);
    snprintf(text, sizeof(text), "%s%sdelivery { own-addresses = { 203.0.113.1 } }", other,
             WAY("b", "d", "192.0.2.1"));
    BAD(NODE("1") WAY("a", "d", "203.0.113.1"), text);
}

Test(check_fleet, L_19_one_alone_that_is_not_the_first)
{
    GOOD(NODE("1") WAY("a", "d", "192.0.2.1"), NODE("2") STORE); /* lint of the file itself */
    BAD(NODE("1") STORE, NODE("2") WAY("b", "d", "mx2.example.org"));
    cr_assert_eq(ERRORS("(L-19): back here; "), 1);
    cr_assert_str_eq(report.messages[0].file, "n2");
}

Test(check_fleet, L_19_all_mail_and_its_label)
{
#define ALL_MAIL                                                                                   \
    "outbound a { type = own state = enforce all-mail = yes label = dc hosts = { 192.0.2.2 } }\n"
    static const char two[] = NODE("2") WAY("b", "\"*\"", "192.0.2.1");
    GOOD(NODE("1") STORE ALL_MAIL KNOWS("dc", "192.0.2.2"), two);
    BAD(NODE("1") STORE ALL_MAIL KNOWS("other", "192.0.2.2"), two);
    BAD(NODE("1") STORE ALL_MAIL, two);
    DOUBTFUL(NODE("1") STORE ALL_MAIL KNOWS("dc", "192.0.2.2") KNOWS("other", "192.0.2.3"), two);
}

Test(check_fleet, L_19_labels_keep_them_apart)
{
    static const char two[] = NODE("2") WAY("b", "d", "192.0.2.1");
#define LABELLED WAY_IN("a", "enforce", "d", "192.0.2.2", "from-labels = { in }")
    GOOD(NODE("1") LABELLED KNOWS("back", "192.0.2.2"), two);
    GOOD(NODE("1") LABELLED, two);
    BAD(NODE("1") LABELLED KNOWS("in", "192.0.2.2"), two);
    DOUBTFUL(NODE("1") LABELLED KNOWS("in", "192.0.2.9") KNOWS("back", "192.0.2.2"), two);
}

Test(check_fleet, L_19_connectors_in_test_are_told_of_before)
{
    static const char two[] = NODE("2") WAY("b", "d", "192.0.2.1");
    DOUBTFUL(NODE("1") WAY_IN("a", "test", "d", "192.0.2.2", ""), two);
    GOOD(NODE("1") WAY_IN("a", "off", "d", "192.0.2.2", ""), two);
}

Test(check_fleet, L_19_by_sender_and_by_rule)
{
    static const char two[] = NODE("2") WAY("b", "d.test", "192.0.2.1");
    BAD(NODE("1") WAY_IN("a", "enforce", "d.test", "192.0.2.2", "sender-domains = { s.test }"),
        two);
    GOOD(NODE("1") WAY_IN("a", "enforce", "d.test", "192.0.2.2", "sender-domains = { s.test }"),
         NODE("2") WAY_IN("b", "enforce", "d.test", "192.0.2.1", "sender-domains = { t.test }"));
#define BY_RULE "outbound a { type = own state = enforce scope = rule hosts = { 192.0.2.2 } }\n"
    BAD(NODE("1") BY_RULE "rule r { if-recipient-domain = { d.test } "
                          "if-sender-domain = { \"*.s.test\" } use = a }",
        two);
    GOOD(NODE("1") BY_RULE, two);
}

Test(check_fleet, bounds_are_told)
{
    enum { MANY = 40 };
    static char texts[MANY][2'048];
    const char *list[MANY];
    for (unsigned i = 0; i < MANY; i++) { /* each sends to each: more circles than are told */
        size_t size = (size_t)snprintf(texts[i], sizeof(texts[i]),
                                       "hostname = h%u.test\nlistener in { addresses = { "
                                       "192.0.2.%u } }\noutbound o { type = own state = enforce "
                                       "domains = { d } hosts = { 192.0.2.%u",
                                       i, i + 1, (i + 1) % MANY + 1);
        for (unsigned k = 0; k < MANY; k++)
            size += (size_t)snprintf(texts[i] + size, sizeof(texts[i]) - size, ", 192.0.2.%u",
                                     k == i ? (i + 1) % MANY + 1 : k + 1);
        strcpy(texts[i] + size, " } }\n");
        list[i] = texts[i];
    }
    look(list, MANY);
    cr_assert_eq(ERRORS("in a circle"), 32);
    cr_assert_eq(WARNINGS("more circles than the 32"), 1);

    static char senders[8'192] =
        NODE("1") "outbound a { type = own state = enforce domains = { d } "
                  "hosts = { 192.0.2.2 } sender-domains = { s";
    size_t size = strlen(senders);
    for (unsigned i = 0; i < 70; i++)
        size += (size_t)snprintf(senders + size, sizeof(senders) - size, ", s%u.test", i);
    strcpy(senders + size, " } }\n");
    LOOK(senders, NODE("2") WAY("b", "d", "192.0.2.1"));
    cr_assert_eq(ERRORS("in a circle"), 1);
    cr_assert_eq(WARNINGS("too many domains and senders"), 1);
}
