/*
 * test_lane.c - urgent mail first, nobody starves, each class by its own curve and age
 */
#include <signal.h>

#include "tests/queue/queue_world.h"

static struct mail_class class_named(const char *name, enum lane lane)
{
    struct mail_class class = {
        .lane = (uint8_t)lane,
        .age_max_ms = 0,
        .retry_initial_ms = 60'000,
        .retry_max_ms = 3'600'000,
        .retry_factor_percent = 200,
    };
    snprintf(class.name, sizeof(class.name), "%s", name);
    return class;
}

/* Mail without a class lives for five days. */
static unsigned classes_make(struct mail_class classes[static 4])
{
    classes[0] = class_named("", LANE_NORMAL);
    classes[0].age_max_ms = 5 * DAY_MS;
    classes[1] = class_named("alarm", LANE_URGENT);
    classes[1].age_max_ms = 600'000;
    classes[1].retry_initial_ms = 10'000;
    classes[1].retry_max_ms = 40'000;
    classes[2] = class_named("letters", LANE_NORMAL);
    classes[3] = class_named("news", LANE_BULK);
    classes[3].age_max_ms = 20 * DAY_MS;
    return 4;
}

static void mail_of_class(struct queue_world *w, const char *class, const char *recipients)
{
    w->class = class;
    cr_assert_neq(queue_mail(w, recipients), 0);
    w->class = NULL;
}

static struct queue_world *world_with_classes(uint64_t seed)
{
    struct queue_world *w = queue_world_new(seed);
    struct mail_class classes[4];
    queue_classes_set(&w->queue, classes, classes_make(classes));
    return w;
}

static const char *class_pulled(struct queue_world *w, const char *key)
{
    struct unit *unit = queue_pull_from(w, key);
    const char *name = unit_class(unit)->name;
    cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    return name;
}

/* ---- turns ---- */

Test(lane, nothing_present_is_our_mistake, .signal = SIGABRT)
{
    struct lane_turns turns = { 0 };
    lane_next(&turns, 0);
}

Test(lane, whoever_is_alone_is_next_whatever_was_passed_over)
{
    struct lane_turns turns = { 0 };
    for (unsigned lane = 0; lane < LANE_RANKS; lane++)
        for (unsigned i = 0; i < 100; i++)
            cr_assert_eq(lane_next(&turns, 1U << lane), lane);
}

/* Of any pair, and of all of them at once. */
Test(lane, the_most_urgent_goes_first_and_each_other_one_has_its_share)
{
    static const unsigned turn[LANE_RANKS] = { 1, LANE_NORMAL_TURN, LANE_BULK_TURN,
                                               LANE_PROBE_TURN };
    for (unsigned present = 1; present < 1U << LANE_RANKS; present++) {
        struct lane_turns turns = { 0 };
        unsigned served[LANE_RANKS] = { 0 }, waited[LANE_RANKS] = { 0 };
        enum { ROUNDS = 6'400 };
        const unsigned first = (unsigned)__builtin_ctz(present);
        for (unsigned i = 0; i < ROUNDS; i++) {
            enum lane next = lane_next(&turns, present);
            cr_assert(present & 1U << next);
            for (unsigned lane = 0; lane < LANE_RANKS; lane++)
                waited[lane] = lane == next ? 0 : waited[lane] + 1;
            for (unsigned lane = first + 1; lane < LANE_RANKS; lane++)
                if (present & 1U << lane)
                    cr_assert_leq(waited[lane], turn[lane] + LANE_RANKS, "%x: %u", present, lane);
            served[next]++;
        }
        for (unsigned lane = first + 1; lane < LANE_RANKS; lane++)
            if (present & 1U << lane)
                cr_assert_leq(served[lane], ROUNDS / turn[lane] + 1, "%x: %u", present, lane);
        cr_assert_geq(served[first], ROUNDS * 3 / 4, "%x", present);
    }
}

/* ---- slots ---- */

Test(lane, a_slot_stays_the_same_class_while_mail_is_in_it)
{
    struct class_slots slots = { 0 };
    struct mail_class classes[4], one;
    unsigned homeless;
    bool is_new;
    cr_assert(class_slots_set(&slots, classes, classes_make(classes), &homeless));
    cr_assert(!class_slots_set(&slots, classes, 4, &homeless), "the same again");
    uint8_t news = class_slot_of(&slots, SLICE("news"), &is_new);
    cr_assert_gt(news, 0);
    cr_assert(!is_new);
    slots.units[news] = 1;
    one = class_named("other", LANE_URGENT);
    struct mail_class two[2] = { classes[0], one };
    cr_assert(class_slots_set(&slots, two, 2, &homeless));
    cr_assert_eq(homeless, 0);
    cr_assert_neq(class_slot_of(&slots, SLICE("other"), &is_new), news);
    cr_assert_eq(class_slot_of(&slots, SLICE("news"), &is_new), news);
    cr_assert(!slots.listed[news]);
    cr_assert_eq(slots.slots[news].lane, LANE_NORMAL, "as mail without a class");
    cr_assert_eq(slots.slots[news].age_max_ms, 0);
    cr_assert(class_slots_set(&slots, classes, 4, &homeless));
    cr_assert(slots.listed[news]);
    cr_assert_eq(slots.slots[news].lane, LANE_BULK, "it is there again");
}

Test(lane, names_that_no_configuration_has_share_what_room_there_is)
{
    struct class_slots slots = { 0 };
    struct mail_class classes[4];
    unsigned homeless;
    bool is_new;
    class_slots_set(&slots, classes, classes_make(classes), &homeless);
    cr_assert_eq(class_slot_of(&slots, slice_of("", 0), &is_new), 0);
    cr_assert_eq(class_slot_of(&slots, slice_of("a\0b", 3), &is_new), 0);
    cr_assert_eq(class_slot_of(&slots, SLICE("0123456789abcdef0123456789abcdef"), &is_new), 0);
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "gone-%u", i);
        uint8_t slot = class_slot_of(&slots, slice_of_string(name), &is_new);
        cr_assert_eq(is_new, i < CLASS_SLOTS - 4);
        cr_assert_eq(slot > 0, i < CLASS_SLOTS - 4);
        slots.units[slot]++;
    }
    struct mail_class two[2] = { classes[0], class_named("new", LANE_BULK) };
    class_slots_set(&slots, two, 2, &homeless);
    cr_assert_eq(homeless, 0, "nothing is in those that were listed: one of them gave way");
    struct mail_class more[CLASSES_MAX] = { classes[0] };
    for (unsigned i = 1; i < CLASSES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m-%u", i);
        more[i] = class_named(name, LANE_BULK);
    }
    class_slots_set(&slots, more, CLASSES_MAX, &homeless);
    cr_assert_eq(homeless, CLASSES_MAX - 1 - 3);
    memset(slots.units, 0, sizeof(slots.units));
    class_slots_set(&slots, more, CLASSES_MAX, &homeless);
    cr_assert_eq(homeless, 0);
}

/* ---- the queue ---- */

Test(lane, urgent_mail_passes_a_backlog_of_bulk)
{
    struct queue_world *w = world_with_classes(1);
    for (unsigned i = 0; i < 40; i++)
        mail_of_class(w, "news", "n@x.test");
    mail_of_class(w, NULL, "b@x.test");
    mail_of_class(w, "alarm", "a@x.test");
    cr_assert_eq(destination_lane(queue_there(w, "mx:x.test")), LANE_URGENT);
    queue_agrees(w);
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "alarm");
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "");
    cr_assert_eq(destination_lane(queue_there(w, "mx:x.test")), LANE_BULK);
    for (unsigned i = 0; i < 40; i++)
        cr_assert_str_eq(class_pulled(w, "mx:x.test"), "news");
    queue_world_free(w);
}

Test(lane, bulk_does_not_starve_beside_a_stream_of_urgent_mail)
{
    struct queue_world *w = world_with_classes(2);
    unsigned news = 0, letters = 0;
    for (unsigned i = 0; i < 3; i++) {
        mail_of_class(w, "news", "n@x.test");
        mail_of_class(w, "letters", "l@x.test");
    }
    for (unsigned i = 0; i < 64; i++) {
        mail_of_class(w, "alarm", "a@x.test");
        const char *class = class_pulled(w, "mx:x.test");
        news += strcmp(class, "news") == 0;
        letters += strcmp(class, "letters") == 0;
    }
    cr_assert_eq(news, 3);
    cr_assert_eq(letters, 3);
    while (queue_there(w, "mx:x.test")->ready_count > 0)
        cr_assert_str_eq(class_pulled(w, "mx:x.test"), "alarm");
    queue_world_free(w);
}

Test(lane, what_could_not_be_tried_is_the_next_of_its_lane)
{
    struct queue_world *w = world_with_classes(3);
    mail_of_class(w, "news", "first@x.test");
    mail_of_class(w, "news", "second@x.test");
    struct unit *first = queue_pull_from(w, "mx:x.test");
    queue_put_back(&w->queue, first);
    mail_of_class(w, "alarm", "a@x.test");
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "alarm");
    cr_assert_eq(queue_pull_from(w, "mx:x.test"), first);
    cr_assert_eq(queue_settle_as(w, first, "d"), 0);
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "news");
    queue_world_free(w);
}

Test(lane, each_class_has_its_own_curve)
{
    struct queue_world *w = world_with_classes(4);
    mail_of_class(w, "alarm", "a@x.test");
    mail_of_class(w, NULL, "b@y.test");
    static const uint64_t alarm[] = { 10'000, 20'000, 40'000, 40'000 };
    static const uint64_t usual[] = { 60'000, 120'000, 240'000, 480'000 };
    for (unsigned i = 0; i < 4; i++) {
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        uint64_t before = w->shard.now_ms;
        cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
        cr_assert_leq(unit->timer.due_ms - before, alarm[i] + 1'000);
        cr_assert_geq(unit->timer.due_ms - before, alarm[i]);
        sim_run(w->sim, unit->timer.due_ms + 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        struct unit *unit = queue_pull_from(w, "mx:y.test");
        uint64_t before = w->shard.now_ms;
        cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
        cr_assert_leq(unit->timer.due_ms - before, usual[i] + 1'000);
        cr_assert_geq(unit->timer.due_ms - before, usual[i]);
        sim_run(w->sim, unit->timer.due_ms + 1);
    }
    queue_world_free(w);
}

Test(lane, a_destination_backs_off_by_what_waits_for_it_most_urgently)
{
    struct queue_world *w = world_with_classes(5);
    mail_of_class(w, "news", "n@x.test");
    struct destination *d = queue_there(w, "mx:x.test");
    queue_destination_failed(&w->queue, d, SLICE("dead"));
    cr_assert_eq(d->retry_ms, w->shard.now_ms + 60'000);
    mail_of_class(w, "alarm", "a@x.test");
    queue_destination_failed(&w->queue, d, SLICE("dead"));
    cr_assert_eq(d->retry_ms, w->shard.now_ms + 20'000);
    queue_destination_failed(&w->queue, queue_there(w, "mx:y.test"), SLICE("nothing is there"));
    cr_assert_eq(queue_there(w, "mx:y.test")->retry_ms, w->shard.now_ms + 60'000);
    queue_world_free(w);
}

Test(lane, each_class_expires_by_its_own_age_and_a_destination_only_shortens_it)
{
    struct queue_world *w = world_with_classes(6);
    mail_of_class(w, "alarm", "a@x.test");
    mail_of_class(w, NULL, "b@x.test");
    mail_of_class(w, "news", "n@x.test");
    mail_of_class(w, "news", "n@y.test");
    queue_destination_age(queue_there(w, "mx:y.test"), 7 * (uint64_t)DAY_MS);
    queue_world_run(w, 590'000);
    cr_assert_eq(w->expired_count, 0);
    queue_world_run(w, 20'000);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_str_eq(unit_class(w->expired[0])->name, "alarm");
    queue_world_run(w, 5 * (uint64_t)DAY_MS);
    cr_assert_eq(w->expired_count, 2);
    cr_assert_str_eq(unit_class(w->expired[1])->name, "");
    queue_world_run(w, 2 * (uint64_t)DAY_MS);
    cr_assert_eq(w->expired_count, 3, "the destination's seven days");
    queue_world_run(w, 12 * (uint64_t)DAY_MS);
    cr_assert_eq(w->expired_count, 3);
    queue_world_run(w, 2 * (uint64_t)DAY_MS);
    cr_assert_eq(w->expired_count, 4);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(queue_settle_as(w, w->expired[i], "e"), 0);
    queue_world_free(w);
}

Test(lane, another_configuration_sorts_what_is_ready_and_shortens_its_life)
{
    struct queue_world *w = world_with_classes(7);
    mail_of_class(w, "letters", "l@x.test");
    mail_of_class(w, "news", "n@x.test");
    struct mail_class classes[4];
    unsigned count = classes_make(classes);
    classes[3].lane = LANE_URGENT;
    classes[2].age_max_ms = 60'000;
    queue_classes_set(&w->queue, classes, count);
    queue_agrees(w);
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "news");
    queue_world_run(w, 70'000);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_eq(queue_settle_as(w, w->expired[0], "e"), 0);
    queue_world_free(w);
}

Test(lane, recipients_of_two_classes_go_in_two_units_to_the_same_destination)
{
    struct queue_world *w = world_with_classes(8);
    static const struct recipient recipients[] = {
        { .address = SLICE("a@x.test"), .class = SLICE("alarm") },
        { .address = SLICE("b@x.test"), .class = SLICE("news") },
        { .address = SLICE("c@x.test"), .class = SLICE("alarm") },
        { .address = SLICE("d@x.test"), .class = SLICE("news") },
        { .address = SLICE("e@y.test"), .class = SLICE("news") },
    };
    uint64_t id = queue_mail_to(w, recipients, ARRAY_COUNT(recipients));
    const struct message *message = queue_message(&w->queue, id);
    cr_assert_eq(message->units_count, 3);
    struct unit *alarm = queue_pull_from(w, "mx:x.test");
    cr_assert_str_eq(unit_class(alarm)->name, "alarm");
    cr_assert_eq(alarm->count, 2);
    /* One of them moves to where the message has something ready, of another class. */
    uint32_t place = alarm->first, recipient;
    cr_assert(unit_next(alarm, &place, &recipient));
    cr_assert_eq(queue_move(&w->queue, alarm, recipient, "mx:y.test", 9), 0);
    cr_assert_eq(message->units_count, 4);
    cr_assert_eq(queue_settle_as(w, alarm, "d"), 0);
    cr_assert_str_eq(class_pulled(w, "mx:y.test"), "alarm");
    cr_assert_str_eq(class_pulled(w, "mx:y.test"), "news");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "dd"), 0);
    queue_world_free(w);
}

Test(lane, a_class_survives_a_crash_and_one_that_is_gone_counts_as_none)
{
    struct queue_world *w = world_with_classes(9);
    mail_of_class(w, "news", "n@x.test");
    mail_of_class(w, "alarm", "a@x.test");
    queue_world_crash(w, SIM_KILL);
    cr_assert_eq(queue_world_open(w), 0);
    cr_assert_eq(w->queue.metrics.classes_unknown, 2);
    cr_assert_eq(w->queue.metrics.lanes_ready[LANE_NORMAL], 2, "there are no classes yet");
    struct mail_class classes[4];
    queue_classes_set(&w->queue, classes, classes_make(classes));
    queue_agrees(w);
    cr_assert_eq(w->queue.metrics.lanes_ready[LANE_NORMAL], 0, "and now there are");
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "alarm");
    cr_assert_str_eq(class_pulled(w, "mx:x.test"), "news");
    queue_world_free(w);
}
