/*
 * trace_spool.c - reading a log back for one of its messages
 *
 * The same code as at a start, which changes nothing unless it is told to. The number of the log is
 * in the id. A spool that somebody has locked is in use: then its server is who to ask.
 */
#include "mta/trace_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/compiler.h"
#include "mta/clock_kept.h"
#include "mta/config.h"
#include "mta/inspect.h"
#include "mta/server.h"
#include "queue/recovery.h"

enum { RING_ENTRIES = 64, FILES = 64, BUFFERS = 1, BUFFER_BYTES = 4'096, US_IN_S = 1'000'000 };

struct search {
    uint64_t id;
    int64_t ahead_us; /* see clock_kept.h */
    json_t *found;
};

static void on_found(void *owner, const struct recovered *recovered)
{
    struct search *search = owner;
    if (recovered->stored.id != search->id)
        return;
    json_t *entry = json_object();
    inspect_envelope(&recovered->envelope, entry);
    json_object_set_new(
        entry, "arrival",
        json_integer((json_int_t)((recovered->envelope.arrival_us + search->ahead_us) / US_IN_S)));
    if (recovered->damaged)
        json_object_set_new(entry, "damaged", json_true());
    json_t *outcomes = json_array();
    for (uint32_t i = 0; i < recovered->outcomes_count && i < INSPECT_RECIPIENTS; i++) {
        struct outcome outcome = recovered->outcomes[i];
        outcome.time_us += search->ahead_us;
        json_array_append_new(outcomes, inspect_outcome(&outcome));
    }
    json_object_set_new(entry, "outcomes", outcomes);
    json_decref(search->found);
    search->found = entry;
}

/* A lock that is shared, so that it is not ours to keep a server from its start for long. */
static int spool_lock(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "ringpost: spool %s: %s\n", directory, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return fd;
    fprintf(stderr,
            "ringpost: spool %s is in use by a running server: ask it over its admin socket\n",
            directory);
    close(fd);
    return -1;
}

static void spool_search(const struct config *config, const char *directory, struct search *search)
{
    const struct config_spool *s = &config->spool;
    const struct ring_options ring_options = { RING_ENTRIES, FILES, BUFFERS, BUFFER_BYTES };
    char path[SERVER_PATH_MAX];
    struct recovery_report report;
    struct ring *ring = NULL;
    const char *why = NULL;
    const unsigned number = (unsigned)(search->id >> SPOOL_ID_LOG_SHIFT);
    snprintf(path, sizeof(path), "%s/log-%03u", directory, number);
    if (access(path, R_OK | X_OK) < 0) {
        if (errno != ENOENT)
            fprintf(stderr, "ringpost: %s: %s\n", path, strerror(errno));
        return;
    }
    const struct recovery_options options = {
        .directory = path,
        .number = number,
        .segment_bytes = (uint32_t)s->segment_bytes,
        .block_bytes = server_block_bytes(config),
        .segments_max = SPOOL_SEGMENTS_MAX,
        .owner = search,
        .found = on_found,
    };
    int r = ring_new(&ring_options, &ring, &why);
    if (r == 0)
        r = recovery_run(ring, &options, &report, NULL, &why);
    if (r < 0)
        fprintf(stderr, "ringpost: %s: %s: %s\n", path, why == NULL ? "" : why, strerror(-r));
    if (ring != NULL)
        ring_free(ring);
}

json_t *trace_spool_read(const struct config *config, const char *directory, uint64_t id)
{
    struct search search = { .id = id, .ahead_us = clock_kept_ahead_us(directory) };
    int fd = spool_lock(directory);
    if (fd < 0)
        return NULL;
    spool_search(config, directory, &search);
    close(fd);
    return search.found;
}
