/*
 * control_certificates.c - what the control thread tells about certificates and roots
 *
 *   start, reload --> bundles against what was remembered of them: roots_changed, and remembered
 * anew
 *
 * Files are read here that were read a moment before, and written a few KiB: milliseconds of a
 * thread that nobody waits for. What cannot be written is told, and no reason not to run.
 */
#include <stdio.h>

#include "mta/control.h"
#include "mta/roots_memory.h"
#include "tls/tls_roots.h"

enum { US_IN_S = 1'000'000, SUBJECTS_TOLD_MAX = 8 };

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
    if (roots_memory_take(memory, bundle, control->shard.wall_us / US_IN_S))
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

void control_certificates_look(struct control *control)
{
    roots_remember(control);
}
