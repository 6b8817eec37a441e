/*
 * lane.c - slots of classes, and turns among lanes
 */
#include "queue/lane.h"

#include "core/check.h"

enum { DEFAULT_SLOT = 0 };

static bool is_free(const struct class_slots *slots, unsigned slot)
{
    return slots->slots[slot].name[0] == '\0';
}

static unsigned slot_named(const struct class_slots *slots, struct slice name)
{
    unsigned slot = 1;
    while (slot < CLASS_SLOTS &&
           (is_free(slots, slot) || !slice_equal(slice_of_string(slots->slots[slot].name), name)))
        slot++;
    return slot;
}

static unsigned slot_free(const struct class_slots *slots)
{
    unsigned slot = 1;
    while (slot < CLASS_SLOTS && !is_free(slots, slot))
        slot++;
    return slot;
}

/* It is treated like mail without a class. */
static void slot_leave(struct class_slots *slots, unsigned slot)
{
    struct mail_class gone = slots->slots[DEFAULT_SLOT];
    gone.age_max_ms = 0;
    memcpy(gone.name, slots->slots[slot].name, sizeof(gone.name));
    slots->slots[slot] = gone;
}

static bool class_equal(const struct mail_class *a, const struct mail_class *b)
{
    return strcmp(a->name, b->name) == 0 && a->age_max_ms == b->age_max_ms &&
           a->warn_after_ms == b->warn_after_ms && a->retry_initial_ms == b->retry_initial_ms &&
           a->retry_max_ms == b->retry_max_ms &&
           a->retry_factor_percent == b->retry_factor_percent &&
           a->retry_jitter_percent == b->retry_jitter_percent && a->lane == b->lane;
}

bool class_slots_set(struct class_slots *slots, const struct mail_class *classes, unsigned count,
                     unsigned *homeless)
{
    const struct class_slots before = *slots;
    CHECK(count >= 1 && count <= CLASSES_MAX);
    CHECK(classes[0].name[0] == '\0');
    *homeless = 0;
    slots->slots[DEFAULT_SLOT] = classes[0];
    memset(slots->listed, 0, sizeof(slots->listed));
    slots->listed[DEFAULT_SLOT] = true;
    unsigned at[CLASSES_MAX];
    for (unsigned i = 1; i < count; i++) {
        at[i] = slot_named(slots, slice_of_string(classes[i].name));
        if (at[i] < CLASS_SLOTS)
            slots->listed[at[i]] = true;
    }
    for (unsigned slot = 1; slot < CLASS_SLOTS; slot++) {
        if (is_free(slots, slot) || slots->listed[slot])
            continue;
        if (slots->units[slot] == 0)
            slots->slots[slot].name[0] = '\0';
        else
            slot_leave(slots, slot);
    }
    for (unsigned i = 1; i < count; i++) {
        CHECK(classes[i].name[0] != '\0');
        if (at[i] == CLASS_SLOTS)
            at[i] = slot_free(slots);
        if (at[i] == CLASS_SLOTS) {
            (*homeless)++;
            continue;
        }
        slots->listed[at[i]] = true;
        slots->slots[at[i]] = classes[i];
    }
    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++)
        if (!class_equal(&before.slots[slot], &slots->slots[slot]))
            return true;
    return false;
}

/* As the configuration has them; what else is on record is none of ours. */
static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f)
            return false;
    return name.size > 0 && name.size <= CLASS_NAME_MAX;
}

uint8_t class_slot_of(struct class_slots *slots, struct slice name, bool *is_new)
{
    *is_new = false;
    if (!is_name(name))
        return DEFAULT_SLOT;
    unsigned slot = slot_named(slots, name);
    if (slot < CLASS_SLOTS)
        return (uint8_t)slot;
    slot = slot_free(slots);
    if (slot == CLASS_SLOTS)
        return DEFAULT_SLOT;
    slice_to_string(name, slots->slots[slot].name, sizeof(slots->slots[slot].name));
    slot_leave(slots, slot);
    slots->listed[slot] = false;
    *is_new = true;
    return (uint8_t)slot;
}

uint64_t class_retry_ms(const struct mail_class *class, uint32_t failures)
{
    uint64_t wait = class->retry_initial_ms;
    for (uint32_t i = 1; i < failures && wait < class->retry_max_ms; i++) {
        uint64_t more = wait * class->retry_factor_percent / 100;
        if (more == wait)
            break; /* it does not grow, however many there were */
        wait = more;
    }
    return MIN(wait, (uint64_t) class->retry_max_ms);
}

enum lane lane_next(struct lane_turns *turns, unsigned present)
{
    static const uint8_t turn[LANE_RANKS] = { [LANE_NORMAL] = LANE_NORMAL_TURN,
                                              [LANE_BULK] = LANE_BULK_TURN,
                                              [LANE_PROBE] = LANE_PROBE_TURN };
    CHECK(present != 0);
    CHECK(present < 1U << LANE_RANKS);
    const unsigned first = (unsigned)__builtin_ctz(present);
    unsigned next = first;
    for (unsigned lane = first + 1; lane < LANE_RANKS; lane++) {
        if ((present & 1U << lane) == 0)
            continue;
        if (turns->passed[lane] + 1 >= turn[lane])
            next = next == first ? lane : next; /* two at once: the other one next time */
        else
            turns->passed[lane]++;
    }
    turns->passed[next] = 0;
    return (enum lane)next;
}

const char *lane_name(enum lane lane)
{
    static const char *const names[] = {
        [LANE_URGENT] = "urgent", [LANE_NORMAL] = "normal", [LANE_BULK] = "bulk"
    };
    CHECK((size_t)lane < ARRAY_COUNT(names));
    return names[lane];
}
