/*
 * queue_select.h - which mail an operator means: read from words, held against what is queued
 *
 * Criteria are joined by AND, several ids by OR. What the queue knows by itself (id, age, state,
 * destination, connector) is asked of a unit; sender and recipient need the envelope, and are asked
 * only where the rest fits. A recipient criterion means those recipients, not the others of their
 * message.
 *
 * Pure. Bounds: SELECT_IDS_MAX, SELECT_TEXT_MAX.
 */
#ifndef RINGPOST_MTA_QUEUE_SELECT_H
#define RINGPOST_MTA_QUEUE_SELECT_H

#include "queue/queue.h"

enum { SELECT_IDS_MAX = 64, SELECT_TEXT_MAX = DESTINATION_KEY_MAX, SELECT_WHY_MAX = 160 };

struct queue_selection {
    bool all; /* said in so many words */
    bool by_sender, by_recipient, by_destination, by_connector;
    unsigned states; /* 1 << enum unit_state, of those that count; 0: any */
    int64_t arrived_from_us, arrived_to_us;
    unsigned ids_count;
    uint64_t ids[SELECT_IDS_MAX];
    char sender[SELECT_TEXT_MAX];
    char recipient[SELECT_TEXT_MAX];
    char destination[SELECT_TEXT_MAX];
    char connector[SELECT_TEXT_MAX];
};

void queue_select_init(struct queue_selection *selection);
/* A criterion: id (several with commas between), sender, recipient, destination, connector, older,
 * younger, state, all. 0; -ENOENT: there is no such criterion; -EINVAL, and why in words. */
[[nodiscard]] int queue_select_add(struct queue_selection *selection, const char *key,
                                   const char *value, int64_t now_us,
                                   char why[static SELECT_WHY_MAX]);
/* Nothing was said of which mail is meant. */
bool queue_select_is_empty(const struct queue_selection *selection);
bool queue_select_needs_envelope(const struct queue_selection *selection);

/* By what memory has of it. */
bool queue_select_message(const struct queue_selection *selection, const struct message *message);
bool queue_select_unit(const struct queue_selection *selection, const struct unit *unit);
bool queue_select_state(const struct queue_selection *selection, const struct unit *unit);
bool queue_select_key(const struct queue_selection *selection, const char *key);
bool queue_select_destination(const struct queue_selection *selection, const char *key);
/* By the envelope. */
bool queue_select_sender(const struct queue_selection *selection, struct slice sender);
bool queue_select_recipient(const struct queue_selection *selection, struct slice address);

/* Recipients of a message that are meant: all, or a bit each. */
struct queue_recipients {
    bool all;
    uint64_t bits[RECIPIENTS_MAX / 64 + 1];
};
/* By the envelope. False: nothing of the message is meant. */
bool queue_select_envelope(const struct queue_selection *selection, const struct envelope *envelope,
                           struct queue_recipients *wanted);
bool queue_select_wants(const struct queue_recipients *wanted, uint32_t recipient);
void queue_select_drop(struct queue_recipients *wanted, uint32_t recipient);
/* How many of the unit's recipients are meant. */
uint32_t queue_select_count(const struct queue_recipients *wanted, const struct unit *unit);

/* "90", "90s", "15m", "4h", "5d" in milliseconds. 0 or -EINVAL. */
[[nodiscard]] int queue_age_read(const char *text, uint64_t *ms);
/* Equal without case of ASCII letters, where `*` stands for any octets. */
bool queue_glob(struct slice pattern, struct slice text);

#endif
