/*
 * smtp_incoming.h - what one MAIL began: sender, recipients, content under way, and its commit
 *
 * Taken from the shard's pool at MAIL, given back when the message is durable or given up. Texts
 * are copied into the transaction; a large one (many recipients) borrows one block more, and when
 * there is none, or it is full, the recipient gets 452.
 */
#ifndef RINGPOST_MTA_SMTP_INCOMING_H
#define RINGPOST_MTA_SMTP_INCOMING_H

#include "mta/header_filter.h"
#include "mta/smtp_data.h"
#include "mta/smtp_parse.h"
#include "mta/smtp_server.h"

struct smtp_large {
    struct recipient recipients[RECIPIENTS_MAX];
    uint8_t text[SMTP_TEXT_LARGE];
};

struct smtp_incoming {
    struct smtp_service *service;
    struct task *task; /* run when the commit is done */
    struct spool_writer writer;
    struct commit commit;
    struct envelope envelope;
    struct smtp_data data;
    struct slice unfiltered;     /* content taken from the input, header fields not yet looked at */
    struct slice pending;        /* likewise, to be stored */
    size_t pending_input;        /* bytes of input to be taken with both */
    struct slice sender_domain;  /* normal form; empty: the null sender */
    struct inbound_rcpt verdict; /* on the first recipient: whom the message is attributed to */
    const struct header_required
        *required;         /* of a connector that a recipient depends on, or NULL */
    bool required_in_test; /* it is in test */
    bool keeps_fields;     /* all recipients' verdicts have that right */
    uint32_t decision;
    uint64_t begun_ms;
    uint64_t ended_ns; /* end of data came */
    uint64_t size_declared;
    uint64_t chunk_bytes; /* of the BDAT under way */
    int error;            /* of the spool: content is read and dropped from then on */
    int result;           /* of the commit, when it is no longer committing */
    bool bdat;
    bool committing;
    bool refused;    /* of it a connector has refused something */
    bool asked;      /* spool_write_commit took it */
    bool copied;     /* rules were asked for copies */
    uint32_t copies; /* recipients at the end of the envelope that rules have added */
    uint32_t text_size;
    struct smtp_large *large; /* NULL: all is in here */
    struct recipient recipients[SMTP_RECIPIENTS_SMALL];
    uint8_t text[SMTP_TEXT_SMALL];
    struct header_filter header; /* begun with the content */
};

/* NULL: the pool is empty. */
struct smtp_incoming *smtp_incoming_new(struct smtp_service *service, struct task *task);
/* Aborts what is not committed. Not while committing. */
void smtp_incoming_free(struct smtp_incoming *t);

/* domain: the sender's, in normal form. 0, or -ENOSPC: no room for its texts. */
[[nodiscard]] int smtp_incoming_sender(struct smtp_incoming *t, const struct smtp_mail *mail,
                                       struct slice domain);
/* domain: what stands behind @ when the command gave none (postmaster). */
[[nodiscard]] int smtp_incoming_recipient(struct smtp_incoming *t, const struct smtp_rcpt *rcpt,
                                          struct slice domain);

struct smtp_origin { /* what the trace field tells */
    struct slice helo;
    bool esmtp;
    const struct tls_session *tls; /* NULL: in clear */
    const struct net_address *peer;
    const char *hostname;
    int64_t wall_us;   /* in the field */
    int64_t steady_us; /* on record */
};
/* Begins the message in the spool and writes its Received field. 0 or an error of the spool. */
[[nodiscard]] int smtp_incoming_begin(struct smtp_incoming *t, const struct smtp_origin *origin);
/* Writes content; -EAGAIN: t->task is run when there is room. */
[[nodiscard]] int smtp_incoming_write(struct smtp_incoming *t, struct slice content);
/* Decides where each recipient goes, records it, and asks for durability: 0, and t->task is run
 * when t->committing is false again; -EAGAIN, or an error. */
[[nodiscard]] int smtp_incoming_commit(struct smtp_incoming *t, const struct config *config);

#endif
