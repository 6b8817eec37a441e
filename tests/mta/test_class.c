/*
 * test_class.c - classes of the configuration: what is refused, what is warned of, who gets which
 */
#include "mta/class.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "mta/check.h"
#include "mta/config.h"
#include "mta/outbound_envelope.h"

#define HEAD                                                                                       \
    "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"                    \
    "relay { domains = { corp.example } }\n"

static struct config_report report;

static struct config *config_of(const char *text)
{
    struct config *config = NULL;
    config_report_free(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s", report.count > 0 ? report.messages[0].text : "");
    return config;
}

static bool reports(enum config_severity severity, unsigned line, const char *key,
                    const char *words)
{
    for (unsigned i = 0; i < report.count; i++)
        if (report.messages[i].severity == severity && report.messages[i].line == line &&
            strcmp(report.messages[i].key, key) == 0 &&
            strstr(report.messages[i].text, words) != NULL)
            return true;
    return false;
}

static void refused(const char *text, unsigned line, const char *key, const char *words)
{
    struct config *config = NULL;
    config_report_free(&report);
    cr_assert_eq(config_load_text(slice_of_string(text), "test", 1, &report, &config), -EINVAL,
                 "%s", text);
    cr_assert(reports(CONFIG_ERROR, line, key, words), "%u: %s: %s", report.messages[0].line,
              report.messages[0].key, report.messages[0].text);
}

static void warned(const char *text, bool wanted, const char *key, const char *words)
{
    struct config *config = config_of(text);
    check_lint(config, &report);
    cr_assert_eq(reports(CONFIG_WARNING, 4, key, words), wanted, "%s", text);
    config_free(config);
}

/* ---- what is refused ---- */

Test(class, one_that_is_not_there_is_named_by_line_and_key)
{
    refused(HEAD "class news { priority = bulk }\n"
                 "rule r {\nclass = nwes }\n",
            6, "rule \"r\": class", "there is no class \"nwes\"");
    refused(HEAD
            "inbound i { type = partner state = enforce sender-domains = { d } tls = optional\n"
            "class = gone }\n",
            5, "inbound \"i\": class", "write one, or name another");
}

Test(class, values_that_make_no_sense)
{
    refused(HEAD "class c { priority = fast }\n", 4, "class \"c\": priority", "fast");
    refused(HEAD "class c { retry-initial = 5h }\n", 4, "class \"c\": retry-initial",
            "lower retry-initial");
    refused(HEAD "class c { retry-max = 1m }\n", 4, "class \"c\": retry-max", "raise it");
    refused(HEAD "class c { age-max = 1h delay-warning = 2h }\n", 4, "class \"c\": delay-warning",
            "is not before age-max");
    refused(HEAD "class c { age-max = 0 }\n", 4, "class \"c\": age-max", "");
    refused(HEAD "class \"a b\" { }\n", 4, "class \"a b\"", "a title has");
    refused(HEAD "class a23456789-123456789-123456789-12 { }\n", 4,
            "class \"a23456789-123456789-123456789-12\"", "31 octets at most");
    refused(HEAD "class a { priority = bulk }\nclass a { }\n", 5, "class \"a\"", "another one");
}

Test(class, there_are_fifteen_at_most)
{
    char text[2'048];
    for (unsigned count = CLASSES_MAX - 1; count <= CLASSES_MAX; count++) {
        int size = snprintf(text, sizeof(text), HEAD);
        for (unsigned i = 0; i < count; i++)
            size +=
                snprintf(text + size, sizeof(text) - (size_t)size, "class c%u { cost = 5 }\n", i);
        struct config *config = NULL;
        config_report_free(&report);
        int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
        cr_assert_eq(r, count < CLASSES_MAX ? 0 : -EINVAL);
        config_free(config);
    }
}

Test(class, what_had_better_not_be_is_warned_of)
{
    static const char nobody[] = "class \"c\": sender-domains";
    static const char everybody[] = "class \"c\": priority";
    warned(HEAD "class c { priority = bulk }\n", true, nobody, "no mail is of this class");
    warned(HEAD "class c { priority = bulk sender-domains = { d } }\n", false, nobody, "");
    warned(HEAD "class c { priority = bulk }\nrule r { class = c }\n", false, nobody, "");
    warned(HEAD "class c { priority = bulk }\ninbound i { type = partner state = enforce "
                "sender-domains = { d } tls = optional class = c }\n",
           false, nobody, "");
    warned(HEAD "class c { priority = urgent sender-domains = { * } }\n", true, everybody,
           "passes nobody");
    warned(HEAD "class c { priority = urgent sender-domains = { * } recipient-domains = { d } }\n",
           false, everybody, "");
    warned(HEAD "class c { priority = bulk sender-domains = { * } }\n", false, everybody, "");
}

/* ---- what a class is ---- */

Test(class, what_it_does_not_say_is_as_delivery_has_it)
{
    struct config *config = config_of(
        HEAD
        "delivery { retry-initial = 2m retry-max = 1h retry-factor = 3 retry-jitter = 0.1 "
        "age-max = 3d delay-warning = 4h }\n"
        "class b { priority = bulk retry-initial = 10m age-max = 1h }\nclass a { cost = 20 }\n");
    struct mail_class all[CLASSES_MAX];
    cr_assert_eq(class_list(&config->classes, all), 3);
    cr_assert_str_eq(all[0].name, "");
    cr_assert_eq(all[0].lane, LANE_NORMAL);
    cr_assert_eq(all[0].age_max_ms, 3 * 86'400'000);
    cr_assert_eq(all[0].warn_after_ms, 4 * 3'600'000);
    cr_assert_str_eq(all[1].name, "b", "by cost, then name");
    cr_assert_eq(all[1].lane, LANE_BULK);
    cr_assert_eq(all[1].retry_initial_ms, 600'000);
    cr_assert_eq(all[1].retry_max_ms, 3'600'000);
    cr_assert_eq(all[1].age_max_ms, 3'600'000);
    cr_assert_eq(all[1].warn_after_ms, 0, "it bounces before");
    cr_assert_str_eq(all[2].name, "a");
    cr_assert_eq(all[2].lane, LANE_NORMAL);
    cr_assert_eq(all[2].retry_factor_percent, 300);
    cr_assert_eq(all[2].retry_jitter_percent, 10);
    cr_assert_eq(all[2].age_max_ms, 0);
    cr_assert_eq(all[2].warn_after_ms, 4 * 3'600'000);
    cr_assert_not_null(class_named(&config->classes, "a"));
    cr_assert_null(class_named(&config->classes, ""));
    config_free(config);
}

/* ---- who gets which ---- */

static const char *class_of(const struct config *config, const char *sender, const char *recipient,
                            const char *connector)
{
    static struct recipient to;
    static char name[CLASS_NAME_MAX + 1];
    to = (struct recipient) { .address = slice_of_string(recipient) };
    const struct envelope e = { .sender = slice_of_string(sender),
                                .connector = slice_of_string(connector),
                                .body_bytes = 1'000,
                                .recipients = &to,
                                .recipients_count = 1 };
    outbound_decide(config, &e, &to);
    slice_to_string(to.class, name, sizeof(name));
    return name;
}

#define CLASSES                                                                                    \
    "class lists { priority = bulk sender-domains = { news.example, both.example } }\n"            \
    "class both { cost = 5 sender-domains = { both.example } recipient-domains = { there } }\n"    \
    "class alarms { priority = urgent recipient-domains = { pager.example } cost = 7 }\n"          \
    "class ruled { priority = urgent }\nclass partner { priority = bulk }\n"
#define INBOUND                                                                                    \
    "inbound i { type = partner state = enforce sender-domains = { * } tls = optional "            \
    "class = partner label = in }\n"

Test(class, without_any_mail_has_none)
{
    struct config *config = config_of(HEAD);
    cr_assert_str_eq(class_of(config, "a@news.example", "b@x.example", ""), "");
    config_free(config);
}

Test(class, its_own_lists_where_nothing_else_says)
{
    struct config *config = config_of(HEAD CLASSES);
    cr_assert_str_eq(class_of(config, "a@x.example", "b@x.example", ""), "");
    cr_assert_str_eq(class_of(config, "a@NEWS.example", "b@x.example", ""), "lists");
    cr_assert_str_eq(class_of(config, "a@both.example", "b@x.example", ""), "lists");
    cr_assert_str_eq(class_of(config, "a@both.example", "b@there", ""), "both", "the lower cost");
    cr_assert_str_eq(class_of(config, "a@news.example", "b@pager.example", ""), "alarms");
    cr_assert_str_eq(class_of(config, "", "b@x.example", ""), "", "bounces are in no sender list");
    cr_assert_str_eq(class_of(config, "", "b@pager.example", ""), "alarms");
    config_free(config);
}

Test(class, the_inbound_connector_before_lists_and_a_rule_before_it)
{
    struct config *config = config_of(
        HEAD CLASSES INBOUND "rule r { if-sender-domain = { boss.example } class = ruled }\n"
                             "rule q { if-recipient-domain = { slow } class = lists cost = 3 }\n");
    cr_assert_str_eq(class_of(config, "a@news.example", "b@pager.example", "i"), "partner");
    cr_assert_str_eq(class_of(config, "a@news.example", "b@pager.example", "gone"), "alarms");
    cr_assert_str_eq(class_of(config, "a@boss.example", "b@pager.example", "i"), "ruled");
    cr_assert_str_eq(class_of(config, "a@boss.example", "b@slow", "i"), "lists", "the lower cost");
    config_free(config);
}

Test(class, each_recipient_has_its_own)
{
    struct config *config = config_of(HEAD CLASSES);
    struct recipient to[] = { { .address = SLICE("a@pager.example") },
                              { .address = SLICE("b@x.example") } };
    const struct envelope e = { .sender = SLICE("s@news.example"),
                                .recipients = to,
                                .recipients_count = 2 };
    outbound_decide(config, &e, to);
    cr_assert(slice_equal(to[0].class, SLICE("alarms")));
    cr_assert(slice_equal(to[1].class, SLICE("lists")));
    config_free(config);
}
