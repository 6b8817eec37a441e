/*
 * control_tls.c - what the control thread does for TLS: ticket keys, the shared cache, a self-test
 *
 *   memory: made at start, rotated by time and by `ringpost tls rotate`
 *   file:   read at start (made when there is none), looked at again every LOOK_MS; rotated by the
 *           command on one node of a fleet, which writes it; whoever distributes it does the rest
 *
 * Each change goes to every shard as a copy, which the shard wipes. Owns the keys and the cache. A
 * file that cannot be read any more is told once; the keys that we have go on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/control.h"
#include "tls/tls_credential.h"
#include "tls/tls_id_cache.h"

enum { LOOK_MS = 10'000, US_IN_MS = 1'000, MS_IN_S = 1'000 };

int control_tls_open(struct control *control, const struct config *config)
{
    if (config->tls.id_cache == 0)
        return 0;
    return tls_id_cache_make(config->tls.id_cache,
                             (uint32_t)(config->tls.ticket_rotate_ms / MS_IN_S), &control->ids);
}

static void tickets_tell(struct control *control)
{
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct tls_ticket_keys *copy = malloc(sizeof(*copy));
        if (copy == NULL)
            return; /* the shards go on with what they have; the next rotation comes */
        *copy = control->tickets;
        struct handoff handoff = { .kind = HANDOFF_TICKETS, .pointer = copy };
        if (shard_handoff(&control->shard, i, handoff) == 0)
            continue;
        tls_ticket_keys_wipe(copy);
        free(copy);
    }
}

static void file_complain(struct control *control, const char *why)
{
    metric_add(&control->ticket_file_errors, 1);
    if (control->tickets_stale)
        return;
    control->tickets_stale = true;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "ticket_file");
    log_string(&line, "why", why);
    log_end(&line);
}

/* Has somebody put new ones there? */
static void file_look(struct control *control)
{
    char why[TLS_TICKET_WHY_BYTES_MAX];
    struct tls_ticket_keys keys;
    int r = tls_ticket_keys_read(control->config->tls.ticket_key_file, control->shard.wall_us,
                                 &keys, why);
    if (r < 0) {
        file_complain(control, why);
        return;
    }
    control->tickets_stale = false;
    if (memcmp(&keys.current.name, &control->tickets.current.name, sizeof(keys.current.name)) !=
            0 ||
        keys.flags != control->tickets.flags) {
        control->tickets = keys;
        metric_add(&control->ticket_rotations, 1);
        tickets_tell(control);
    }
    tls_ticket_keys_wipe(&keys);
}

static void tickets_on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, tickets_timer);
    const struct config_tls *tls = &control->config->tls;
    int64_t now_us = control->shard.wall_us;
    int64_t lifetime_us = (int64_t)tls->ticket_rotate_ms * US_IN_MS;
    if (*tls->ticket_key_file != '\0') {
        file_look(control);
    } else if (now_us - control->tickets.made_us >= lifetime_us) {
        tls_ticket_keys_rotate(&control->tickets, now_us);
        metric_add(&control->ticket_rotations, 1);
        tickets_tell(control);
    } else if (tls_ticket_keys_expired(&control->tickets, now_us, lifetime_us)) {
        tickets_tell(control);
    }
    shard_timer_arm(&control->shard, timer, LOOK_MS);
}

int control_tls_rotate(struct control *control, char words[static CONTROL_WORDS_MAX])
{
    const struct config_tls *tls = &control->config->tls;
    words[0] = '\0';
    if (!tls->tickets) {
        snprintf(words, CONTROL_WORDS_MAX, "there are no session tickets: tls { tickets = no }\n");
        return -EINVAL;
    }
    struct tls_ticket_keys keys = control->tickets;
    tls_ticket_keys_rotate(&keys, control->shard.wall_us);
    char why[TLS_TICKET_WHY_BYTES_MAX];
    int r = 0;
    if (*tls->ticket_key_file != '\0')
        r = tls_ticket_keys_write(tls->ticket_key_file, &keys, why);
    if (r < 0) {
        snprintf(words, CONTROL_WORDS_MAX, "%s\n", why);
        r = -EINVAL;
    } else {
        control->tickets = keys;
        metric_add(&control->ticket_rotations, 1);
        tickets_tell(control);
    }
    tls_ticket_keys_wipe(&keys);
    return r;
}

/* Does a handshake of this very program take its key share from the pool? */
static void keyshares_test(struct control *control)
{
    struct tls_keyshares *pool = control->servers[0].tls.keyshares;
    if (pool == NULL)
        return;
    (void)tls_keyshares_fill(pool, 2, control->shard.now_ms);
    control->keyshares_live = tls_keyshares_self_test(pool) == 1;
    tls_keyshares_use(NULL);
    if (control->keyshares_live == 1)
        return;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us, "keyshare_hook");
    log_string(&line, "why",
               "handshakes do not draw from the pool: the way this program was linked "
               "loses it; see tls/README.md");
    log_end(&line);
}

/* ---- what the configuration's files hold ---- */

static void files_add(struct control_files *files, const char *name, const char *help,
                      uint64_t number, const char *title, const char *key, const char *value)
{
    if (files->count == CONTROL_FILES_MAX)
        return; /* the first ones have to do */
    char *labels = files->labels[files->count];
    int size = metrics_label(labels, CONTROL_LABELS_MAX, "name", title);
    if (size < 0 || size + 1 >= CONTROL_LABELS_MAX)
        return;
    labels[size] = ',';
    if (metrics_label(labels + size + 1, CONTROL_LABELS_MAX - (size_t)size - 1, key, value) < 0)
        return;
    files->numbers[files->count] = number;
    files->rows[files->count] = (struct metric) {
        .name = name,
        .labels = labels,
        .help = help,
        .type = METRIC_GAUGE,
        .offset = files->count * sizeof(files->numbers[0]),
    };
    files->count++;
}

void control_tls_files(struct control *control)
{
    struct control_files *files = &control->files;
    const struct config *config = control->config;
    if (files->count > 0)
        metrics_remove_source(&files->source);
    files->count = 0;
    for (unsigned i = 0; i < config->roots_count; i++) {
        const struct config_roots *roots = &config->roots[i];
        if (roots->roots != NULL)
            files_add(files, "ringpost_tls_roots", "Trust anchors in a bundle, and its digest",
                      tls_roots_count(roots->roots), i == 0 ? "system" : roots->name, "sha256",
                      tls_roots_digest(roots->roots));
    }
    for (unsigned i = 0; i < config->certificates_count; i++) {
        const struct tls_certificate *leaf =
            tls_credential_leaf(config->certificates[i].credential);
        char digest[TLS_DIGEST_HEX_BYTES];
        tls_text_hex(slice_of(leaf->digest, TLS_DIGEST_BYTES), digest, sizeof(digest));
        files_add(files, "ringpost_tls_certificate_not_after_seconds",
                  "When a certificate of ours expires, since the epoch", (uint64_t)leaf->not_after,
                  config->certificates[i].name, "sha256", digest);
    }
    for (unsigned i = 0; i < config->certificates_count; i++) {
        if (config->certificates[i].next_credential == NULL)
            continue;
        const struct tls_certificate *leaf =
            tls_credential_leaf(config->certificates[i].next_credential);
        char digest[TLS_DIGEST_HEX_BYTES];
        tls_text_hex(slice_of(leaf->digest, TLS_DIGEST_BYTES), digest, sizeof(digest));
        files_add(files, "ringpost_tls_certificate_next_not_after_seconds",
                  "When the next one of a certificate expires, since the epoch",
                  (uint64_t)leaf->not_after, config->certificates[i].name, "sha256", digest);
    }
    if (files->count > 0)
        metrics_add_source(&control->metrics, &files->source, files->rows, files->count,
                           files->numbers, -1);
}

int control_tls_start(struct control *control)
{
    const struct config_tls *tls = &control->config->tls;
    timer_init(&control->tickets_timer, tickets_on_timer);
    control_tls_files(control);
    keyshares_test(control);
    if (!tls->tickets)
        return 0;
    char why[TLS_TICKET_WHY_BYTES_MAX];
    int r = -ENOENT;
    if (*tls->ticket_key_file != '\0')
        r = tls_ticket_keys_read(tls->ticket_key_file, control->shard.wall_us, &control->tickets,
                                 why);
    if (r == -ENOENT) {
        tls_ticket_keys_make(control->shard.wall_us, &control->tickets);
        r = *tls->ticket_key_file == '\0'
                ? 0
                : tls_ticket_keys_write(tls->ticket_key_file, &control->tickets, why);
    }
    if (r < 0) {
        fprintf(stderr, "ringpost: tls: ticket-key-file: %s\n", why);
        return r;
    }
    for (unsigned i = 0; i < control->servers_count; i++)
        server_shard_tickets(&control->servers[i], &control->tickets);
    shard_timer_arm(&control->shard, &control->tickets_timer, LOOK_MS);
    return 0;
}

void control_tls_stop(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->tickets_timer);
    tls_ticket_keys_wipe(&control->tickets);
    tls_id_cache_free(control->ids);
    control->ids = NULL;
}
