/*
 * attempt_inside.h - what attempt.c and attempt_report.c share: one unit on its way
 */
#ifndef RINGPOST_MTA_ATTEMPT_INSIDE_H
#define RINGPOST_MTA_ATTEMPT_INSIDE_H

#include "mta/mail_body.h"
#include "mta/next_hop.h"
#include "mta/smtp_server.h"

enum { ATTEMPT_TEXTS_LARGE = 1 << 20 };

enum attempt_state {
    ATTEMPT_ENVELOPE,
    ATTEMPT_PREPARING, /* how much of the content goes there */
    ATTEMPT_SENDING,
    ATTEMPT_RECALLING, /* what was said of the recipients last */
    ATTEMPT_LOOKING,   /* at the header: who wants news of delays */
    ATTEMPT_BOUNCING,
    ATTEMPT_RETURNING, /* the original into the DSN */
    ATTEMPT_COMMITTING,
    ATTEMPT_SETTLING,
};

struct attempt_large {
    struct smtp_recipient recipients[RECIPIENTS_MAX];
    uint32_t indexes[RECIPIENTS_MAX];
    struct outcome outcomes[RECIPIENTS_MAX];
    uint8_t texts[ATTEMPT_TEXTS_LARGE];
};

struct attempt {
    struct deliver *deliver;
    struct unit *unit;
    struct link *link;
    struct task task;
    struct spool_read read;
    struct envelope envelope;
    struct smtp_transaction transaction;
    struct attempt_large *large;
    uint32_t *indexes; /* of the recipients in the envelope, ascending */
    struct outcome *outcomes;
    uint32_t outcomes_count;
    uint8_t state;
    uint8_t purpose;
    bool some_untried;
    bool judged;   /* its outcomes are those of an attempt */
    bool late;     /* it is time to tell of a delay */
    uint8_t kind;  /* enum bounce_kind: of the DSN */
    uint32_t told; /* outcomes that it tells of */
    uint32_t recalled;
    uint32_t told_next; /* outcome that the DSN has not looked at yet */
    uint16_t code;      /* FAIL */
    struct smtp_enhanced enhanced;
    char why[RESOLVE_WHY_MAX];
    struct attempt_word *word;     /* RETURN, DISCARD; or NULL */
    struct outbound_choice choice; /* of its last recipient, when its way was looked for */
    /* the DSN */
    struct spool_writer writer;
    struct commit commit;
    struct bounce_look look;
    struct bounce bounce;
    struct slice piece; /* of our text, not yet in the spool */
    struct slice part;  /* of the original, likewise */
    bool part_last;
    uint8_t end_seen; /* octets of the header's end that were seen */
    bool commit_asked;
    bool bounce_ended;
    uint64_t returned; /* octets of the original */
    char id[SMTP_ID_TEXT];
    char original_id[SMTP_ID_TEXT];
    struct smtp_recipient few[ATTEMPT_RECIPIENTS_SMALL];
    uint32_t few_indexes[ATTEMPT_RECIPIENTS_SMALL];
    struct outcome few_outcomes[ATTEMPT_RECIPIENTS_SMALL];
    uint8_t texts[ATTEMPT_TEXTS_SMALL];
    uint8_t buffer[BOUNCE_PIECE_BYTES];
    struct mail_body body;
};

static_assert((int)BOUNCE_PIECE_BYTES <= (int)SPOOL_STAGING_BYTES);

/* ---- attempt.c ---- */

const struct config *attempt_config(const struct attempt *a);
/* The task: goes on where it waited. */
void attempt_run(struct task *task);
/* Its outcomes are recorded, and it ends. */
void attempt_settle(struct attempt *a);
/* WARN: nobody was told; it ends, for good or until its unit is late again. */
void attempt_warned(struct attempt *a, bool nobody);

/* ---- attempt_report.c ---- */

/* All outcomes are there: who must know is told, durably, before they are settled. */
void attempt_report(struct attempt *a);
/* Goes on with what waited for the spool. */
void attempt_report_run(struct attempt *a);
/* Tells of a delay without an attempt. */
void attempt_warn(struct attempt *a);

#endif
