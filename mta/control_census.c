/*
 * control_census.c - a reload waits until all shards have counted what it would do to waiting mail
 *
 *   control_reload --> begin --HANDOFF_CENSUS, HANDOFF_COUNTED--> control_reload_counted
 *
 * One at a time. Owns the candidate meanwhile, and what the shards count into.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/control.h"

enum { ROWS_TOLD_MAX = 16 };

static void release(struct control *control)
{
    struct control_census *c = &control->census;
    for (unsigned i = 0; c->questions != NULL && i < control->servers_count; i++)
        free(c->questions[i].rows);
    free(c->questions);
    c->questions = NULL;
    c->next = NULL;
}

static int prepare(struct control *control, struct config *next)
{
    struct control_census *c = &control->census;
    const size_t rows = control->config->outbound.count + 1;
    c->questions = calloc(control->servers_count, sizeof(*c->questions));
    if (c->questions == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct reload_census *q = &c->questions[i];
        q->now = control->config;
        q->next = next;
        q->rows = calloc(rows, sizeof(*q->rows));
        if (q->rows == NULL) {
            release(control);
            return -ENOMEM;
        }
    }
    return 0;
}

int control_census_begin(struct control *control, struct config *next, unsigned wishes)
{
    struct control_census *c = &control->census;
    if (!reload_census_is_needed(control->config, next))
        return 0;
    int r = prepare(control, next);
    if (r < 0)
        return r;
    c->next = next;
    c->wishes = wishes;
    c->left = 0;
    c->incomplete = false;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_CENSUS, .pointer = &c->questions[i] };
        if (shard_handoff(&control->shard, i, handoff) == 0)
            c->left++;
        else
            c->incomplete = true;
    }
    if (c->left > 0)
        return 1;
    release(control);
    return -EBUSY;
}

/* ---- all have counted ---- */

static struct census_row sum_of(const struct control *control, unsigned index)
{
    struct census_row sum = { 0 };
    for (unsigned i = 0; i < control->servers_count; i++) {
        sum.moves += control->census.questions[i].rows[index].moves;
        sum.weaker += control->census.questions[i].rows[index].weaker;
    }
    return sum;
}

static struct census_row tell(const struct control *control, char words[static CONTROL_WORDS_MAX])
{
    const struct outbound_set *set = &control->census.questions[0].now->outbound;
    struct census_row all = { 0 };
    unsigned told = 0;
    size_t size = 0;
    for (unsigned i = 0; i <= set->count; i++) {
        const struct census_row row = sum_of(control, i);
        all.moves += row.moves;
        all.weaker += row.weaker;
        if (row.moves + row.weaker == 0 || told++ >= ROWS_TOLD_MAX)
            continue;
        const char *name = i < set->count ? set->connectors[i].route.name : "";
        size += (size_t)snprintf(
            words + size, CONTROL_WORDS_MAX - size,
            "%s%s%s: of its queued recipients %llu go by another connector, %llu with a lower TLS "
            "level\n",
            *name == '\0' ? "no connector" : "outbound \"", name, *name == '\0' ? "" : "\"",
            (unsigned long long)row.moves, (unsigned long long)row.weaker);
    }
    if (told > ROWS_TOLD_MAX)
        snprintf(words + size, CONTROL_WORDS_MAX - size, "and %u more\n", told - ROWS_TOLD_MAX);
    static_assert(ROWS_TOLD_MAX * (CONNECTOR_NAME_MAX + 150) + 512 < CONTROL_WORDS_MAX);
    return all;
}

static void log_counted(struct control *control, const struct census_row *all, bool taken)
{
    struct log_line line;
    struct shard *shard = &control->shard;
    if (all->moves + all->weaker == 0)
        return;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "reload_moves");
    log_string(&line, "result", taken ? "accepted" : "refused");
    log_number(&line, "other_connector", (int64_t)all->moves);
    log_number(&line, "lower_level", (int64_t)all->weaker);
    log_end(&line);
}

static void on_counted(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct control_census *c = &control->census;
    char words[CONTROL_WORDS_MAX] = "";
    (void)handoff;
    if (--c->left > 0)
        return;
    const struct census_row all = tell(control, words);
    const size_t size = strlen(words);
    bool taken = !control->stopping && !c->incomplete &&
                 (all.weaker == 0 || (c->wishes & RELOAD_ACCEPT_WEAKER) != 0);
    if (control->stopping || c->incomplete)
        snprintf(words, sizeof(words), "%s\n",
                 control->stopping ? "the server is stopping" : "a shard is too busy to be asked");
    else if (!taken)
        snprintf(words + size, sizeof(words) - size,
                 "queued mail would be less protected (L-22); if that is meant: ringpost reload "
                 "--accept-weaker (what is queued keeps the level on record even then, except "
                 "where its connector is sticky = no)\n");
    log_counted(control, &all, taken);
    struct config *next = c->next;
    release(control);
    control_reload_counted(control, next, taken, words);
    if (c->again && !control->stopping) {
        c->again = false;
        control_reload_signalled(control);
    }
}

void control_census_start(struct control *control)
{
    shard_handle(&control->shard, HANDOFF_COUNTED, on_counted);
}

void control_census_stop(struct control *control)
{
    struct config *next = control->census.next;
    release(control);
    if (next != NULL)
        control_reload_counted(control, next, false, "the server is stopping\n");
}
