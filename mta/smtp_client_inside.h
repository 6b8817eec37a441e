/*
 * smtp_client_inside.h - what the parts of the outbound session share
 *
 * smtp_client.c: the session's states. smtp_client_tls.c: how it comes by TLS. smtp_client_mail.c:
 * a transaction. smtp_client_text.c: what is said, and words. For these four only.
 */
#ifndef RINGPOST_MTA_SMTP_CLIENT_INSIDE_H
#define RINGPOST_MTA_SMTP_CLIENT_INSIDE_H

#include "mta/smtp_client.h"

enum client_step { CLIENT_WAIT, CLIENT_AGAIN };

enum client_reply {
    CLIENT_REPLY_NONE, /* not all of it is here */
    CLIENT_REPLY_DONE, /* in c->response */
    CLIENT_REPLY_BAD,
};

enum { SMTP_CLIENT_COMMAND_MAX = 1'152 }; /* RCPT with all its parameters, CRLF included */

/* ---- smtp_client.c ---- */

/* Changes the state and arms its timeout. */
enum client_step smtp_client_enter(struct smtp_client *c, enum smtp_client_state state);
/* The timeout of what is waited for now, from now on. */
void smtp_client_arm(struct smtp_client *c);
enum smtp_stage smtp_client_stage(const struct smtp_client *c);
enum client_reply smtp_client_reply(struct smtp_client *c);
/* For a step that needs more: waits, unless the connection is dead or the time is over. */
enum client_step smtp_client_await(struct smtp_client *c);
/* Something came that nobody asked for: 421 and the end, or a violation. */
enum client_step smtp_client_unasked(struct smtp_client *c);
/* What is left of the input may only be a 421. */
bool smtp_client_only_421(struct smtp_client *c);
/* Sends what write puts together. True: sent, or on its way. False: no block, await tells. */
bool smtp_client_say(struct smtp_client *c, size_t (*write)(const struct smtp_client *, uint8_t *));
/* The end: what is undecided becomes temporary. error: for end.error. */
enum client_step smtp_client_fail(struct smtp_client *c, enum smtp_gone why, int error);
/* The same for the 421 in c->response. */
enum client_step smtp_client_closing(struct smtp_client *c);

/* ---- smtp_client_tls.c ---- */

/* After EHLO or HELO, in clear: on to READY, or to STARTTLS, or the end. */
enum client_step smtp_client_protect(struct smtp_client *c);
enum client_step smtp_client_starttls(struct smtp_client *c);
enum client_step smtp_client_handshake(struct smtp_client *c);
/* The connection is lost before it was ready for mail: by TLS 1.3 this is how a host says what it
 * thinks of our certificate. True: that is the fault, and words about it are there. */
bool smtp_client_certificate_refused(struct smtp_client *c);

/* ---- smtp_client_mail.c ---- */

enum client_step smtp_client_begin(struct smtp_client *c);
enum client_step smtp_client_envelope(struct smtp_client *c);
enum client_step smtp_client_content(struct smtp_client *c);
enum client_step smtp_client_final(struct smtp_client *c);
/* Results of all that is undecided when the connection ends so. */
void smtp_client_settle_rest(struct smtp_client *c, enum smtp_gone why);
/* Nothing is in flight: gives the body's slices back, counts, calls done(). */
void smtp_client_hand_back(struct smtp_client *c);

/* ---- smtp_client_text.c ---- */

/* Commands into out, SMTP_CLIENT_COMMAND_MAX bytes at least; their size. */
size_t smtp_client_write_hello(const struct smtp_client *c, bool extended, uint8_t *out);
size_t smtp_client_write_mail(const struct smtp_client *c, const struct smtp_transaction *t,
                              uint8_t *out);
size_t smtp_client_write_rcpt(const struct smtp_client *c, const struct smtp_transaction *t,
                              const struct smtp_recipient *recipient, uint8_t *out);
size_t smtp_client_write_bdat(uint64_t size, uint8_t *out);
/* No control octets, and not too long: may stand in a command. */
bool smtp_client_text_clean(struct slice text, size_t max);
bool smtp_client_text_utf8(struct slice text);

struct smtp_gone_words {
    const char *name;
    const char *words;             /* ": stage" is put behind them; NULL: none are needed */
    struct smtp_enhanced enhanced; /* for mail that was under way, unless a reply gave one */
};
const struct smtp_gone_words *smtp_gone_words(enum smtp_gone why);

#endif
