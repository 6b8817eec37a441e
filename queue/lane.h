/*
 * lane.h - classes of mail: in which lane a unit waits, how it is tried again, when it expires
 *
 * A class has a name, which is on record with each recipient, and a slot, which units remember it
 * by while the process lives. A reload changes what slots say, and never which class a slot is, as
 * long as some unit is in it. Slot 0 is mail without a class. A class that is not configured (any
 * more) is treated like that, and has its slot, so that it is told of once, and counts again when
 * the next configuration has it.
 *
 *   free --class_slots_set--> listed <--class_slots_set--> gone --no unit, the next set--> free
 *    '------class_slot_of, a name that nobody lists--------->'
 *
 * Turns: the most urgent lane that has something goes first; the others are passed over, but each
 * of them only so many times in a row (lane_next). Pure, no I/O, no allocation.
 */
#ifndef RINGPOST_QUEUE_LANE_H
#define RINGPOST_QUEUE_LANE_H

#include "core/slice.h"

enum {
    CLASSES_MAX = 16,    /* of a configuration, with the one of mail without a class */
    CLASS_SLOTS = 32,    /* and those that are gone while mail is left of them */
    CLASS_NAME_MAX = 31, /* octets */
};

enum lane {
    LANE_URGENT,
    LANE_NORMAL,
    LANE_BULK,
    LANES,
    LANE_PROBE = LANES, /* behind all mail: a look whether a destination works again */
    LANE_RANKS,
};

struct mail_class {
    char name[CLASS_NAME_MAX + 1]; /* "": mail without a class */
    uint64_t age_max_ms;           /* 0: as mail without a class */
    uint64_t warn_after_ms;        /* delay warning; 0: none */
    uint32_t retry_initial_ms, retry_max_ms, retry_factor_percent, retry_jitter_percent;
    uint8_t lane; /* enum lane */
};

struct class_slots {
    struct mail_class slots[CLASS_SLOTS];
    uint32_t units[CLASS_SLOTS]; /* in it now; counted by the queue */
    bool listed[CLASS_SLOTS];
};

/* The first of classes is slot 0; the others have names, each once. True: something is different
 * from before. *homeless: how many found no slot, and count as without a class. */
bool class_slots_set(struct class_slots *slots, const struct mail_class *classes, unsigned count,
                     unsigned *homeless);
/* 0: no name, or no room for one that is not listed. *is_new: it got its slot just now. */
uint8_t class_slot_of(struct class_slots *slots, struct slice name, bool *is_new);

/* The wait after so many failures, without jitter. */
uint64_t class_retry_ms(const struct mail_class *class, uint32_t failures);

/* How often each was passed over since it had its turn. */
struct lane_turns {
    uint8_t passed[LANE_RANKS];
};
/* Which of those that have something (bits 1 << lane, one or more) is next. Beside more urgent ones
 * normal mail has one turn in LANE_NORMAL_TURN at least, bulk one in LANE_BULK_TURN, and looks
 * whether a destination works one in LANE_PROBE_TURN. */
enum { LANE_NORMAL_TURN = 8, LANE_BULK_TURN = 16, LANE_PROBE_TURN = 32 };
enum lane lane_next(struct lane_turns *turns, unsigned present);

/* "urgent", "normal", "bulk". */
const char *lane_name(enum lane lane);

#endif
