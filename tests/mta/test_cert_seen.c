/*
 * test_cert_seen.c - when a certificate is warned of, and what its place remembers
 */
#include "mta/cert_seen.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DAY = 86'400 };

static const unsigned days[] = { 30, 14, 7, 3, 1 };

static bool due(struct cert_seen *record, int64_t now)
{
    return cert_seen_due(record, days, 5, now);
}

Test(cert_seen, each_limit_once_and_then_daily)
{
    struct cert_seen record = { .not_after = 100 * DAY };
    cr_expect(!due(&record, 0));
    cr_expect(!due(&record, 70 * DAY - 1));
    cr_expect(due(&record, 70 * DAY));
    cr_expect(!due(&record, 70 * DAY));
    cr_expect(!due(&record, 80 * DAY));
    cr_expect(due(&record, 86 * DAY + 5));
    cr_expect(!due(&record, 92 * DAY));
    cr_expect(due(&record, 97 * DAY), "14 to 3 at once, when nobody looked in between");
    cr_expect(!due(&record, 98 * DAY));
    cr_expect(due(&record, 99 * DAY));
    cr_expect(!due(&record, 99 * DAY + DAY / 2));
    cr_expect(due(&record, 100 * DAY));
    cr_expect(due(&record, 200 * DAY), "it is over, and still there");
    cr_expect(!due(&record, 200 * DAY + 1));
}

Test(cert_seen, no_limits_no_warnings)
{
    struct cert_seen record = { .not_after = 0 };
    cr_expect(!cert_seen_due(&record, NULL, 0, 100 * DAY));
}

Test(cert_seen, another_certificate_begins_anew)
{
    struct cert_seen record = { .not_after = 20 * DAY, .first = 1, .last = 1, .digest = { 1 } };
    cr_expect(due(&record, 0));
    struct cert_seen seen = { .not_after = 20 * DAY, .first = 9, .last = 9, .digest = { 1 } };
    cert_seen_again(&record, &seen);
    cr_expect_eq(record.first, 1);
    cr_expect_eq(record.last, 9);
    cr_expect(!due(&record, 0));
    seen.digest[0] = 2;
    cert_seen_again(&record, &seen);
    cr_expect_eq(record.first, 9);
    cr_expect(due(&record, 0));
}

Test(cert_seen, kept_by_side_title_and_place)
{
    char directory[] = "cert-seen-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/certificates.mdb", directory);
    struct store *store = NULL;
    struct store_report report;
    cr_assert_eq(cert_seen_open(path, &store, &report), 0);
    const struct cert_place places[] = {
        { .side = CERT_OF_IN, .title = "bank", .where = "mx.bank.test" },
        { .side = CERT_OF_OUT, .title = "bank", .where = "mx.bank.test:26" },
        { .side = CERT_OF_OUT, .title = "bank", .where = "" },
        { .side = CERT_OF_US, .title = "node", .where = "current" },
    };
    for (unsigned i = 0; i < 4; i++)
        cr_expect_eq(
            cert_seen_put(store, &places[i], &(struct cert_seen) { .last = i + 1, .not_after = i }),
            0);
    store_close(store);
    cr_assert_eq(cert_seen_open(path, &store, &report), 0);
    cr_expect(!report.damaged);
    struct cert_place place = { 0 };
    struct cert_seen record;
    static const unsigned order[] = { 0, 2, 1, 3 };
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(cert_seen_next(store, &place, &record), 0);
        cr_expect_eq(place.side, places[order[i]].side);
        cr_expect_str_eq(place.title, places[order[i]].title);
        cr_expect_str_eq(place.where, places[order[i]].where);
        cr_expect_eq(record.not_after, (int64_t)order[i]);
    }
    cr_expect_eq(cert_seen_next(store, &place, &record), -ENOENT);
    cr_expect_eq(cert_seen_drop(store, &places[1]), 0);
    cr_expect_eq(cert_seen_get(store, &places[1], &record), -ENOENT);
    cr_expect_eq(cert_seen_get(store, &places[2], &record), 0);
    store_close(store);
    unlink(path);
    rmdir(directory);
}
