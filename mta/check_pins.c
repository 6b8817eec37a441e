/*
 * check_pins.c - keys that will not be there for long (L-07): one pin alone, and one whose
 * certificate is about to expire
 *
 * What partners have shown is in a file of the server's (mta/cert_usage.h), and only what it was
 * shown itself. A key may stay when its certificate is renewed; who pins it has to ask.
 */
#include <stdio.h>
#include <time.h>

#include "mta/cert_usage.h"
#include "mta/check.h"
#include "mta/cli.h"
#include "mta/config.h"
#include "tls/tls_text.h"

enum { LINT_KEY_MAX = 128, PINS_WANTED = 2, SOON_S = 30 * CERT_USAGE_DAY_S };

struct pins {
    const char *title; /* "inbound \"bank\": cert-pin" */
    unsigned line;
    const uint8_t (*pins)[TLS_DIGEST_BYTES];
    unsigned count;
};

static void lint_soon(const struct config *config, struct config_report *report,
                      const json_t *usages, const struct pins *p, unsigned index)
{
    const json_t *shown = cert_usage_key(usages, p->pins[index]);
    const int64_t until = json_integer_value(json_object_get(shown, "until"));
    char day[TLS_TEXT_DATE_BYTES], hex[TLS_DIGEST_HEX_BYTES];
    if (shown == NULL || until - time(NULL) >= SOON_S)
        return;
    tls_text_date(until, day);
    tls_text_hex(slice_of(p->pins[index], TLS_DIGEST_BYTES), hex, sizeof(hex));
    config_report_add(report, CONFIG_WARNING, config->file, p->line, p->title,
                      "sha256:%.16s.. is the key of the certificate that %.200s showed last, which "
                      "expires on %s (L-07); ask whether the key stays, else list the next one",
                      hex, cli_text(shown, "where"), day);
}

static void lint_pins(const struct config *config, struct config_report *report,
                      const json_t *usages, const struct pins *p)
{
    if (p->count > 0 && p->count < PINS_WANTED)
        config_report_add(report, CONFIG_WARNING, config->file, p->line, p->title,
                          "one pin only: the next key will be refused on the day it comes (L-07); "
                          "ask for the next one and list both");
    for (unsigned i = 0; i < p->count; i++)
        lint_soon(config, report, usages, p, i);
}

void check_pins(const struct config *config, struct config_report *report)
{
    char path[CERT_USAGE_PATH_MAX], title[LINT_KEY_MAX];
    cert_usage_path(config, path);
    json_t *usages = cert_usage_read(path);
    for (unsigned i = 0; i < inbound_count(config->inbound); i++) {
        const struct inbound *c = inbound_at(config->inbound, i);
        snprintf(title, sizeof(title), "inbound \"%.64s\": cert-pin", c->name);
        lint_pins(config, report, usages,
                  &(struct pins) { title, c->line, c->pins, c->pins_count });
    }
    for (unsigned i = 0; i < config->outbound.count; i++) {
        const struct route *route = &config->outbound.connectors[i].route;
        snprintf(title, sizeof(title), "outbound \"%.64s\": tls-pin", route->name);
        lint_pins(config, report, usages,
                  &(struct pins) { title, route->line, route->tls.pins, route->tls.pins_count });
    }
    json_decref(usages);
}
