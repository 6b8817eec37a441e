/*
 * control_certificates.c - what the control thread tells about certificates and roots
 *
 *   start, reload --> bundles against what was remembered of them: roots_changed
 *   start, reload, LOOK_S --> certificates of ours and of partners: certificate_expiry
 *   a shard saw one (mta/cert_watch.h) --> remembered, and told at once when it is due
 *   what those of clients are for has changed, other ones, LOOK_S --> a file for checks
 *                                                                     (mta/cert_usage.h)
 *
 * Owns the store; what is learned is durable after COMMIT_MS. What cannot be kept is told, and no
 * reason not to run: then only the metric of our own certificates warns.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/cert_text.h"
#include "mta/cert_usage.h"
#include "mta/cert_watch.h"
#include "mta/control.h"
#include "mta/roots_memory.h"
#include "tls/tls_credential.h"
#include "tls/tls_roots.h"

enum {
    US_IN_S = 1'000'000,
    SUBJECTS_TOLD_MAX = 8,
    COMMIT_MS = 5'000,
    LOOK_S = 3'600,
    LABELS_BYTES = 256,
};

static const char *const side_names[CERT_SIDES] = {
    [CERT_OF_IN] = "in",
    [CERT_OF_OUT] = "out",
    [CERT_OF_US] = "own",
};

static int64_t now_s(const struct control *control)
{
    return control->shard.wall_us / US_IN_S;
}

/* ---- roots ---- */

static void log_subjects(struct log_line *line, const char *key, json_t *set)
{
    const char *digest;
    json_t *subject;
    unsigned told = 0;
    log_list(line, key);
    json_object_foreach(set, digest, subject)
    {
        if (told++ < SUBJECTS_TOLD_MAX)
            log_item(line, slice_of_string(json_string_value(subject)));
    }
    log_list_end(line);
}

static void log_changed(struct control *control, const struct config_roots *bundle,
                        const json_t *remembered, const char *before)
{
    const json_t *change = json_object_get(remembered, "change");
    json_t *added = json_object_get(change, "added"), *removed = json_object_get(change, "removed");
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_INFO, control->shard.wall_us, "roots_changed");
    log_string(&line, "roots", roots_memory_title(bundle));
    log_string(&line, "file", tls_roots_path(bundle->roots));
    log_string(&line, "was", before);
    log_string(&line, "is", tls_roots_digest(bundle->roots));
    log_number(&line, "added_count", (int64_t)json_object_size(added));
    log_number(&line, "removed_count", (int64_t)json_object_size(removed));
    log_subjects(&line, "added", added);
    log_subjects(&line, "removed", removed);
    log_end(&line);
}

static void roots_look(struct control *control, json_t *memory, const struct config_roots *bundle)
{
    char before[TLS_DIGEST_HEX_BYTES] = "";
    const char *title = roots_memory_title(bundle);
    const char *digest =
        json_string_value(json_object_get(json_object_get(memory, title), "sha256"));
    snprintf(before, sizeof(before), "%s", digest == NULL ? "" : digest);
    if (roots_memory_take(memory, bundle, now_s(control)))
        log_changed(control, bundle, json_object_get(memory, title), before);
}

static void roots_remember(struct control *control)
{
    const struct config *config = control->config;
    char path[ROOTS_MEMORY_PATH_MAX];
    roots_memory_path(config, path);
    json_t *before = roots_memory_read(path);
    json_t *memory = json_deep_copy(before);
    for (unsigned i = 0; i < config->roots_count; i++)
        if (config->roots[i].roots != NULL)
            roots_look(control, memory, &config->roots[i]);
    int r = json_equal(before, memory) ? 0 : roots_memory_write(path, memory);
    json_decref(before);
    json_decref(memory);
    if (r == 0)
        return;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us, "roots_memory");
    log_string(&line, "file", path);
    log_string(&line, "why", strerror(-r));
    log_end(&line);
}

/* ---- trouble with the store ---- */

static void log_store(struct control *control, const char *event, const char *why,
                      const char *moved_to)
{
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, event);
    log_string(&line, "file", control->certificates.path);
    log_string(&line, "why", why);
    log_string(&line, "moved_to", moved_to);
    log_end(&line);
}

/* What a function of the store said. */
static void look_at(struct control *control, int r)
{
    struct control_certificates *c = &control->certificates;
    if (r >= 0 || r == -ENOENT || r == -ENAMETOOLONG)
        return;
    if (r == -EBADMSG) {
        r = store_renew(&c->store, &c->report);
        log_store(control, "certificates_damaged", c->report.why, c->report.aside);
    }
    if (r >= 0 || c->failing)
        return;
    c->failing = true;
    log_store(control, "certificates_failed", strerror(-r), NULL);
}

/* ---- expiry ---- */

/* Connectors of the configuration have numbers (mta/connector_slots.h). */
static bool is_known(const struct control *control, const struct cert_place *place)
{
    if (place->side == CERT_OF_US)
        return true;
    const enum connector_direction direction =
        place->side == CERT_OF_IN ? CONNECTOR_IN : CONNECTOR_OUT;
    return connector_slots_find(&control->connectors.slots[direction], place->title) != 0;
}

static void log_expiry(struct control *control, const struct cert_place *place,
                       const struct cert_seen *record)
{
    char text[TLS_DIGEST_HEX_BYTES];
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us, "certificate_expiry");
    log_string(&line, "of", side_names[place->side]);
    if (place->side == CERT_OF_US) {
        log_string(&line, "certificate", place->title);
        log_string(&line, "role", place->where);
    } else {
        log_string(&line, "connector", place->title);
        log_string(&line, "where", place->where);
    }
    log_number(&line, "days_left", cert_days_left(record->not_after, now_s(control)));
    tls_text_date(record->not_after, text);
    log_string(&line, "not_after", text);
    log_string(&line, "names", record->names);
    log_string(&line, "issuer", record->issuer);
    tls_text_hex(slice_of(record->digest, TLS_DIGEST_BYTES), text, sizeof(text));
    log_string(&line, "sha256", text);
    log_end(&line);
}

/* True: it was told, and the record has changed. */
static bool tell_if_due(struct control *control, const struct cert_place *place,
                        struct cert_seen *record)
{
    const struct config_tls *tls = &control->config->tls;
    if (!is_known(control, place) ||
        !cert_seen_due(record, tls->expiry_days, tls->expiry_days_count, now_s(control)))
        return false;
    log_expiry(control, place, record);
    return true;
}

static int take(struct control *control, const struct cert_place *place,
                const struct cert_seen *seen)
{
    struct cert_seen record;
    int r = cert_seen_get(control->certificates.store, place, &record);
    if (r < 0 && r != -ENOENT)
        return r;
    const unsigned usage = r == 0 ? record.usage : TLS_USAGE_CLIENT;
    if (place->side == CERT_OF_IN &&
        (cert_usage_fits_client(usage) != cert_usage_fits_client(seen->usage) ||
         cert_usage_stops(r == 0 ? record.root : "") != cert_usage_stops(seen->root)))
        control->certificates.usage_changed = true;
    const int64_t soon = now_s(control) + CERT_USAGE_SOON_S; /* later ones are not in the file */
    const int64_t before = r == 0 ? record.not_after : INT64_MAX;
    if (place->side != CERT_OF_US && before != seen->not_after &&
        MIN(before, seen->not_after) < soon)
        control->certificates.usage_changed = true;
    if (r == 0)
        cert_seen_again(&record, seen);
    else
        record = *seen;
    tell_if_due(control, place, &record);
    return cert_seen_put(control->certificates.store, place, &record);
}

static void on_shown(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct cert_shown *shown = handoff->pointer;
    if (control->certificates.store != NULL)
        look_at(control, take(control, &shown->place, &shown->seen));
    free(shown);
}

static int take_own(struct control *control, const struct config_certificate *certificate,
                    const char *role, const struct tls_credential *credential)
{
    struct cert_place place = { .side = CERT_OF_US };
    struct cert_seen seen;
    if (credential == NULL)
        return 0;
    snprintf(place.title, sizeof(place.title), "%s", certificate->name);
    snprintf(place.where, sizeof(place.where), "%s", role);
    cert_seen_of(tls_credential_leaf(credential), true, "", now_s(control), &seen);
    return take(control, &place, &seen);
}

static bool is_over(const struct control *control, const struct cert_place *place,
                    const struct cert_seen *record)
{
    const int64_t age = now_s(control) - record->last;
    return place->side == CERT_OF_US ? age > 0 : age > CERT_SEEN_FORGET_S;
}

static int look(struct control *control)
{
    const struct config *config = control->config;
    struct store *store = control->certificates.store;
    struct cert_place place = { 0 };
    struct cert_seen record;
    int r = 0;
    for (unsigned i = 0; i < config->certificates_count && r == 0; i++) {
        const struct config_certificate *c = &config->certificates[i];
        r = take_own(control, c, "current", c->credential);
        if (r == 0)
            r = take_own(control, c, "next", c->next_credential);
    }
    while (r == 0 && (r = cert_seen_next(store, &place, &record)) == 0) {
        if (is_over(control, &place, &record)) {
            r = cert_seen_drop(store, &place);
            control->certificates.usage_changed = true;
        } else if (tell_if_due(control, &place, &record))
            r = cert_seen_put(store, &place, &record);
    }
    return r;
}

/* A file that cannot be written says what was right before: checks are a help, and no more. */
static void usage_write(struct control *control)
{
    struct control_certificates *c = &control->certificates;
    char path[CERT_USAGE_PATH_MAX];
    if (c->store == NULL || !c->usage_changed)
        return;
    c->usage_changed = false;
    cert_usage_path(control->config, path);
    int r = cert_usage_write(path, c->store, now_s(control));
    if (r == -EBADMSG)
        look_at(control, r);
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, certificates.timer);
    struct control_certificates *c = &control->certificates;
    if (c->store != NULL && now_s(control) >= c->next_look_s) {
        look_at(control, look(control));
        c->next_look_s = now_s(control) + LOOK_S;
        c->usage_changed = true; /* time has passed */
    }
    if (c->store != NULL) {
        int r = store_commit(c->store);
        look_at(control, r);
        c->failing = c->failing && r < 0;
    }
    usage_write(control);
    shard_timer_arm(&control->shard, timer, COMMIT_MS);
}

/* ---- metrics: of each connector the one that expires first ---- */

static void write_nearest(struct control *control, struct metrics_text *text,
                          const struct cert_place *place, int64_t nearest)
{
    char labels[LABELS_BYTES];
    int size = snprintf(labels, sizeof(labels), "dir=\"%s\",", side_names[place->side]);
    if (place->side == CERT_OF_US || *place->title == '\0' || !is_known(control, place) ||
        metrics_label(labels + size, sizeof(labels) - (size_t)size, "connector", place->title) < 0)
        return;
    metrics_text_number(text, "ringpost_connector_peer_certificate_expiry_seconds", labels,
                        (uint64_t)MAX(nearest, 0));
}

static void write_expiry(struct metrics_writer *writer, struct metrics_text *text)
{
    struct control *control = container_of(writer, struct control, certificates.writer);
    struct cert_place place = { 0 }, before = { 0 };
    struct cert_seen record;
    int64_t nearest = 0;
    int r = control->certificates.store == NULL ? -ENOENT : 0;
    metrics_text_family(text, "ringpost_connector_peer_certificate_expiry_seconds",
                        "When the first of a partner's certificates expires, since the epoch",
                        METRIC_GAUGE);
    while (r == 0 && (r = cert_seen_next(control->certificates.store, &place, &record)) == 0) {
        if (is_over(control, &place, &record))
            continue;
        if (place.side == before.side && strcmp(place.title, before.title) == 0) {
            nearest = MIN(nearest, record.not_after);
            continue;
        }
        write_nearest(control, text, &before, nearest);
        before = place;
        nearest = record.not_after;
    }
    write_nearest(control, text, &before, nearest);
    look_at(control, r);
}

/* ---- life ---- */

int control_certificates_open(struct control *control, const struct config *config)
{
    struct control_certificates *c = &control->certificates;
    timer_init(&c->timer, on_timer);
    snprintf(c->path, sizeof(c->path), "%s/certificates.mdb", config->spool.directory);
    int r = cert_seen_open(c->path, &c->store, &c->report);
    if (r < 0)
        fprintf(stderr, "ringpost: %s: %s\n", c->path, strerror(-r));
    /* A full disk keeps no mail from being delivered. */
    return r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

void control_certificates_start(struct control *control)
{
    struct control_certificates *c = &control->certificates;
    if (c->report.damaged)
        log_store(control, "certificates_damaged", c->report.why, c->report.aside);
    if (c->store == NULL)
        look_at(control, -ENOSPC);
    shard_handle(&control->shard, HANDOFF_CERTIFICATE, on_shown);
    for (unsigned i = 0; i < control->servers_count; i++) {
        control->servers[i].certs.shard = &control->servers[i].shard;
        control->servers[i].certs.control = control->servers_count;
    }
    c->writer.write = write_expiry;
    metrics_add_writer(&control->metrics, &c->writer);
    control_certificates_look(control);
    shard_timer_arm(&control->shard, &c->timer, COMMIT_MS);
}

void control_certificates_look(struct control *control)
{
    roots_remember(control);
    if (control->certificates.store != NULL)
        look_at(control, look(control));
    control->certificates.next_look_s = now_s(control) + LOOK_S;
}

void control_certificates_stop(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->certificates.timer);
    usage_write(control);
    store_close(control->certificates.store);
    control->certificates.store = NULL;
}
