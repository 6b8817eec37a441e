/*
 * test_reload_census.c - two configurations, and a recipient that waits
 */
#include "mta/reload_census.h"

#include <criterion/criterion.h>

#include "core/compiler.h"
#include "mta/config.h"
#include "mta/outbound_envelope.h"

#define HEAD                                                                                       \
    "hostname = mx.example.org\nlistener in { addresses = { 127.0.0.1:25 } }\n"                    \
    "relay { domains = { corp.example } }\n"
#define OUT(name, keys) "outbound " name " { type = partner hosts = { h } " keys " }\n"
#define ON "state = enforce domains = { bank.example } "
#define BANK(keys) OUT("bank", ON keys)
#define REST OUT("rest", "state = enforce domains = { * } tls = may")
#define FROM(label)                                                                                \
    "inbound from { type = own state = enforce addresses = { 192.0.2.1 } tls = optional label = "  \
    "" label " }\n"

static struct config *config_of(const char *text)
{
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert_eq(r, 0, "%s: %s", report.count > 0 ? report.messages[0].text : "", text);
    config_report_free(&report);
    return config;
}

/* Mail for x@bank.example that was accepted by connector. */
static const struct row {
    const char *now, *next, *connector;
    bool needed, moves, weaker;
    const char *from; /* "": none */
} rows[] = {
    { BANK("tls = name") REST, BANK("tls = name") REST, "bank", false, false, false, "bank" },
    { BANK("tls = encrypt") REST, BANK("tls = name") REST, "bank", true, false, false, "bank" },
    { BANK("tls = name") REST, BANK("tls = encrypt") REST, "bank", true, false, true, "bank" },
    { BANK("tls = may cleartext = never") REST, BANK("tls = encrypt") REST, "bank", true, false,
      false, "bank" },
    { BANK("tls = name") REST, REST, "bank", true, true, true, "bank" },
    { BANK("tls = may") REST, REST, "bank", true, true, false, "bank" },
    { BANK("tls = name"), "", "bank", true, true, true, "bank" },
    /* renamed */
    { BANK("tls = name") REST, OUT("new", ON "tls = name") REST, "bank", true, true, false,
      "bank" },
    /* a more specific one takes it away */
    { OUT("wide", "state = enforce domains = { * } tls = encrypt"),
      OUT("wide", "state = enforce domains = { * } tls = encrypt") BANK("tls = may"), "wide", true,
      true, true, "wide" },
    /* in test it carries nothing; off, it keeps what it has, until it is gone */
    { BANK("tls = name") REST,
      OUT("bank", "state = test domains = { bank.example } tls = name") REST, "bank", true, true,
      true, "bank" },
    { BANK("tls = name") REST,
      OUT("bank", "state = off domains = { bank.example } tls = name") REST, "bank", true, false,
      false, "bank" },
    { OUT("bank", "state = off domains = { bank.example } tls = name") REST, REST, "bank", true,
      true, true, "bank" },
    { OUT("bank", "state = off domains = { bank.example } tls = name") REST,
      BANK("tls = name") REST, "bank", true, false, false, "bank" },
    /* by MX before, and what another sender's mail is told by */
    { "", BANK("tls = encrypt"), "", true, true, false, "" },
    { REST, BANK("tls = encrypt") REST, "rest", true, true, false, "rest" },
    { REST "rule r { require = encrypt }\n", REST, "rest", true, false, true, "rest" },
    { FROM("a") REST BANK("tls = name from-labels = { a }"),
      FROM("b") REST BANK("tls = name from-labels = { a }"), "bank", true, true, true, "bank" },
};

Test(reload_census, choices_side_by_side)
{
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct row *row = &rows[i];
        char text[2][2'048];
        snprintf(text[0], sizeof(text[0]), "%s%s", HEAD, row->now);
        snprintf(text[1], sizeof(text[1]), "%s%s", HEAD, row->next);
        struct config *now = config_of(text[0]), *next = config_of(text[1]);
        const struct recipient to = { .address = SLICE("x@bank.example"),
                                      .connector = slice_of_string(row->connector),
                                      .floor = TLS_LEVEL_NAME };
        const struct envelope e = { .sender = SLICE("s@sender.example"),
                                    .connector = SLICE("from"),
                                    .recipients = &to,
                                    .recipients_count = 1 };
        struct outbound_change change;
        outbound_compare(now, next, &e, &to, &change);
        cr_expect_eq(reload_census_is_needed(now, next), row->needed, "row %zu: needed", i);
        cr_expect_eq(change.moves, row->moves, "row %zu: moves", i);
        cr_expect_eq(change.weaker, row->weaker, "row %zu: weaker", i);
        cr_expect_str_eq(change.from == NULL ? "" : change.from->route.name, row->from,
                         "row %zu: from", i);
        config_free(now);
        config_free(next);
    }
}
