/*
 * control_horizon.c - certificates of partners whose connectors demand TLS, for an operator
 *
 * A page is a walk over records of certificates (mta/cert_seen.h), so that of thousands of them
 * control has time for other things in between. Who asks puts them in the order of their expiry.
 */
#include <errno.h>
#include <string.h>

#include "mta/cert_text.h"
#include "mta/control.h"
#include "tls/tls_text.h"

enum { US_IN_S = 1'000'000, S_IN_DAY = 86'400, PAGE_LOOKED_AT = 1'000, PAGE_RECORDS = 200 };

/* What its connector wants of a certificate. */
struct wanted {
    const uint8_t (*pins)[TLS_DIGEST_BYTES];
    unsigned pins_count;
};

/* False: there is no such connector, or it does without TLS. */
static bool demands_tls(const struct config *config, const struct cert_place *place,
                        struct wanted *wanted)
{
    const struct slice name = slice_of_string(place->title);
    if (place->side == CERT_OF_IN) {
        const struct inbound *c = inbound_named(config->inbound, name);
        if (c == NULL || !c->needs_tls)
            return false;
        *wanted = (struct wanted) { c->pins, c->pins_count };
        return true;
    }
    const struct outbound *c =
        place->side == CERT_OF_OUT ? outbound_named(&config->outbound, name) : NULL;
    if (c == NULL || route_floor(&c->route) < TLS_LEVEL_ENCRYPT)
        return false;
    *wanted = (struct wanted) { c->route.tls.pins, c->route.tls.pins_count };
    return true;
}

static const char *pin_word(const struct wanted *wanted, const struct cert_seen *record)
{
    for (unsigned i = 0; i < wanted->pins_count; i++)
        if (memcmp(wanted->pins[i], record->spki, TLS_DIGEST_BYTES) == 0)
            return "listed";
    return wanted->pins_count == 0 ? "none" : "other";
}

static json_t *usage_json(unsigned usage)
{
    json_t *list = json_array();
    if ((usage & TLS_USAGE_CLIENT) != 0)
        json_array_append_new(list, json_string("client"));
    if ((usage & TLS_USAGE_SERVER) != 0)
        json_array_append_new(list, json_string("server"));
    if ((usage & (TLS_USAGE_ANY | TLS_USAGE_UNLIMITED)) != 0)
        json_array_append_new(list, json_string("any"));
    return list;
}

static json_t *record_json(const struct cert_place *place, const struct cert_seen *record,
                           const struct wanted *wanted, int64_t now)
{
    char date[TLS_TEXT_DATE_BYTES], digest[TLS_DIGEST_HEX_BYTES];
    tls_text_date(record->not_after, date);
    tls_text_hex(slice_of(record->digest, TLS_DIGEST_BYTES), digest, sizeof(digest));
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:s, s:o, s:I, s:I, s:s}", "connector",
        place->title, "direction", place->side == CERT_OF_IN ? "in" : "out", "where", place->where,
        "days_left", (json_int_t)cert_days_left(record->not_after, now), "not_after", date, "names",
        record->names, "issuer", record->issuer, "root", record->root, "valid", (int)record->valid,
        "pin", pin_word(wanted, record), "usage", usage_json(record->usage), "first",
        (json_int_t)record->first, "last", (json_int_t)record->last, "sha256", digest);
}

json_t *control_certificates_horizon(struct control *control, unsigned days,
                                     struct cert_place *place)
{
    const int64_t now = control->shard.wall_us / US_IN_S;
    struct store *store = control->certificates.store;
    struct cert_seen record;
    struct wanted wanted;
    json_t *list = json_array();
    int r = store == NULL ? -ENOENT : 0;
    for (unsigned i = 0; r == 0 && i < PAGE_LOOKED_AT && json_array_size(list) < PAGE_RECORDS;
         i++) {
        r = cert_seen_next(store, place, &record);
        if (r == 0 && now - record.last <= (int64_t)days * S_IN_DAY &&
            demands_tls(control->config, place, &wanted))
            json_array_append_new(list, record_json(place, &record, &wanted, now));
    }
    /* Damage is found, and seen to, by control_certificates.c as well. */
    json_t *page = json_pack("{s:o}", "certificates", list);
    if (r == 0)
        json_object_set_new(page, "next",
                            json_pack("{s:i, s:s, s:s}", "side", (int)place->side, "title",
                                      place->title, "where", place->where));
    return page;
}
