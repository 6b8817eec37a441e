/*
 * test_queue_table.c - found by id whatever there is, and no more memory than there are messages
 */
#include <sys/mman.h>
#include <unistd.h>

#include "queue/queue_inside.h"
#include "queue/spool_internal.h"
#include "tests/queue/queue_world.h"

/* Pages of it that are in memory. */
static unsigned table_pages(const struct queue *queue)
{
    static unsigned char pages[4'096];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t bytes = queue->options.messages_max * sizeof(*queue->table);
    unsigned count = 0;
    cr_assert_leq(bytes / page, sizeof(pages));
    cr_assert_eq(mincore(queue->table, bytes, pages), 0);
    for (size_t i = 0; i < bytes / page; i++)
        count += pages[i] & 1;
    return count;
}

/* One after the other is taken in and delivered: what is in memory follows from how many there are
 * at a time, not from how many there were. */
Test(queue_table, ids_that_count_up_take_no_memory)
{
    enum { PAGE_IDS = 4'096 / sizeof(struct message *), PAGES = 6 };
    struct queue_world *w = queue_world_make(45);
    w->options.messages_max = 1 << 20;
    cr_assert_eq(queue_world_open(w), 0);
    queue_mail(w, "a@y.test");
    const unsigned before = table_pages(&w->queue);
    for (unsigned i = 0; i < PAGES * PAGE_IDS; i++) {
        queue_mail(w, "a@x.test");
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d"), 0);
    }
    cr_assert_eq(w->queue.table_slots, 1'024);
    cr_assert_leq(table_pages(&w->queue), before + 1'024 / PAGE_IDS);
    queue_world_free(w);
}

Test(queue_table, each_message_is_found_by_its_id_while_the_table_grows)
{
    enum { MOST = 4'000 };
    static uint64_t ids[MOST];
    struct queue_world *w = queue_world_make(46);
    w->spool_options.segments_max = 256;
    cr_assert_eq(queue_world_open(w), 0);
    unsigned made = 0, gone = 0;
    /* Three of four stay, so that the ids of those that are there have gaps of all sizes. */
    while (made < MOST) {
        ids[made] = queue_mail(w, "a@x.test");
        cr_assert_neq(ids[made++], 0);
        cr_assert_geq(w->queue.table_slots, w->queue.messages.used);
        if (made % 4 != 0)
            continue;
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        const uint64_t id = unit->message->stored.id;
        cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
        cr_assert_null(queue_message(&w->queue, id));
        gone++;
        if (made % 400 != 0)
            continue;
        unsigned found = 0;
        for (unsigned i = 0; i < made; i++) {
            const struct message *message = queue_message(&w->queue, ids[i]);
            cr_assert(message == NULL || message->stored.id == ids[i]);
            found += message != NULL;
        }
        cr_assert_eq(found, made - gone);
        cr_assert_null(queue_message(&w->queue, ids[made - 1] + w->queue.table_slots));
    }
    const uint32_t slots = w->queue.table_slots;
    cr_assert_eq(slots, made - gone + 1, "as many as there were at a time");
    for (; gone < made; gone++)
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d"), 0);
    for (unsigned i = 0; i < made; i++)
        cr_assert_null(queue_message(&w->queue, ids[i]));
    cr_assert_eq(w->queue.table_slots, slots, "it is there for the next ones");
    queue_world_free(w);
}

static unsigned chain_longest(const struct queue *queue)
{
    unsigned longest = 0;
    for (uint32_t i = 0; i < queue->table_slots; i++) {
        unsigned count = 0;
        for (const struct message *m = queue->table[i]; m != NULL; m = m->chain)
            count++;
        longest = MAX(longest, count);
    }
    return longest;
}

/* One in so many stays. */
Test(queue_table, ids_with_something_in_common_do_not_share_slots)
{
    static const unsigned steps[] = { 1, 64, 1'024 };
    for (unsigned n = 0; n < ARRAY_COUNT(steps); n++) {
        struct queue_world *w = queue_world_make(47 + n);
        cr_assert_eq(queue_world_open(w), 0);
        for (unsigned i = 0; i < 2'000; i++) {
            w->spool->next_id += steps[n] - w->spool->next_id % steps[n];
            cr_assert_neq(queue_mail(w, "a@x.test"), 0);
        }
        cr_assert_leq(chain_longest(&w->queue), 40, "%u: %u", steps[n], chain_longest(&w->queue));
        queue_world_free(w);
    }
}
