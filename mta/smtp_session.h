/*
 * smtp_session.h - one inbound session, as its state table and its service see it
 */
#ifndef RINGPOST_MTA_SMTP_SESSION_H
#define RINGPOST_MTA_SMTP_SESSION_H

#include "mta/config.h"
#include "mta/smtp_incoming.h"
#include "mta/smtp_server.h"

enum step { STEP_AGAIN, STEP_WAIT, STEP_GONE };

enum smtp_state {
    SMTP_OPEN,
    SMTP_PROXY,
    SMTP_HANDSHAKE,
    SMTP_GREET,
    SMTP_COMMAND,
    SMTP_DATA,
    SMTP_BDAT,
    SMTP_COMMIT,
    SMTP_CLOSE,
    SMTP_STATES,
};

enum { REPLY_ROOM = 1'536 /* the EHLO reply, the largest of ours, fits */ };

struct smtp_server {
    struct list node;
    struct list shaking; /* of the service, while in a handshake; the longest so first */
    struct smtp_service *service;
    struct connection connection;
    struct task runnable;
    struct timer timer;
    struct generation *generation;
    const struct config_listener *listener;
    struct smtp_incoming *transaction;
    struct net_address peer; /* the client, as limits and policy see it */
    struct net_address local;
    struct net_address counted; /* the address whose limits it fills */
    uint64_t deadline_ms;       /* of what the session waits for; 0: none */
    uint64_t connection_deadline_ms;
    uint64_t linger_bytes;
    uint64_t shaking_ms; /* since when */
    uint32_t commands;
    uint32_t bad_commands;
    uint32_t refused_messages; /* by connectors, one after the other */
    uint32_t messages;
    uint8_t state;
    uint8_t refusal; /* enum smtp_reply_id; SMTP_REPLIES: it is served */
    bool esmtp;
    bool greeted;      /* EHLO or HELO was said */
    bool data_refused; /* what follows may be content: then close */
    bool fired;
    bool drain;
    bool lingering;
    bool shut;        /* FIN is sent, the rest of the client's talk is dropped */
    bool handshaking; /* counted among those under way */
    bool secured;
    bool facts_known;    /* facts tells of the connection as it is now */
    uint32_t slot_held;  /* of the connector whose connections it is one of; 0: none */
    bool hybrid_counted; /* its handshake, for hybrid_of */
    const struct inbound *hybrid_of;
    struct inbound_session facts;
    uint16_t helo_size;
    uint8_t helo[SMTP_HELO_BYTES];
};

static inline const struct config *smtp_config(const struct smtp_server *s)
{
    return s->generation->config;
}

static inline const struct config_limits *smtp_limits(const struct smtp_server *s)
{
    return &s->generation->config->limits;
}

static inline struct smtp_server_metrics *smtp_metrics(struct smtp_server *s)
{
    return &s->service->metrics;
}

/* ---- smtp_server.c: what every state uses ---- */

enum step smtp_enter(struct smtp_server *s, enum smtp_state state);
/* The deadline of what the session waits for now. */
void smtp_wait_command(struct smtp_server *s);
void smtp_wait_data(struct smtp_server *s);
/* Room for the largest reply of ours; else wait until what is gathered has gone. */
bool smtp_has_room(const struct smtp_server *s);
void smtp_say(struct smtp_server *s, enum smtp_reply_id id);
void smtp_say_with(struct smtp_server *s, enum smtp_reply_id id, struct slice detail);
/* The last words have been said: what comes after them is dropped. */
enum step smtp_part(struct smtp_server *s);
/* Says and logs it. */
enum step smtp_refuse(struct smtp_server *s, enum smtp_reply_id id, struct slice what);
/* Gives the transaction up. */
void smtp_reset(struct smtp_server *s);
/* The last words; what comes after them is dropped. */
enum step smtp_finish(struct smtp_server *s, enum smtp_reply_id id);
/* The client is gone, or silent for good: nothing to say. */
enum step smtp_drop(struct smtp_server *s);
/* A reply, and the next command; bad: one that counts as the client's mistake. */
enum step smtp_ok(struct smtp_server *s, enum smtp_reply_id id);
enum step smtp_bad(struct smtp_server *s, enum smtp_reply_id id);
void smtp_log_refusal(struct smtp_server *s, enum smtp_reply_id id, struct slice what);
void smtp_wait_until(struct smtp_server *s, uint32_t timeout_ms);
bool smtp_under_load(const struct smtp_server *s);

/* ---- smtp_starttls.c ---- */

bool smtp_offers_tls(const struct smtp_server *s);
enum step smtp_starttls(struct smtp_server *s);
void smtp_enter_handshake(struct smtp_server *s);
enum step smtp_handshake(struct smtp_server *s);
void smtp_tls_failed(struct smtp_server *s, struct slice why);
/* It is no longer counted among those under way. Harmless when it never was. */
void smtp_handshake_over(struct smtp_server *s);
/* What is known of it, for the lines of the log. Nothing in clear. */
struct log_line;
void smtp_log_tls(const struct smtp_server *s, struct log_line *line);

/* ---- smtp_policy.c ---- */

/* What connectors say to a sender, and to a recipient, by their domains in normal form (empty: the
 * null sender, <postmaster>). False: the client has been told, and *refused is how it goes on. */
bool smtp_policy_mail(struct smtp_server *s, struct slice sender, uint64_t size,
                      enum step *refused);
bool smtp_policy_rcpt(struct smtp_server *s, struct slice recipient, struct slice address,
                      enum step *refused);
/* The content is here: what require-header has to say (CONNECTORS 4.6). */
bool smtp_policy_content(struct smtp_server *s, enum step *refused);
/* To whom the message is attributed, for the lines of the log. */
void smtp_log_policy(const struct smtp_server *s, struct log_line *line);

/* ---- smtp_connector.c: marks and numbers of connectors ---- */

/* Mail that is attributed so may not come now, for an operator has marked the connector; and no
 * other token is told first. */
bool smtp_connector_is_blocked(const struct smtp_server *s, enum inbound_kind kind,
                               const struct inbound *connector, enum connector_token token);
/* A message of a sender that is attributed so begins (size: as declared), or has this many
 * recipients so far: TOKEN_NONE, or which limit of the connector's it is over. */
enum connector_token smtp_connector_begin(struct smtp_server *s, enum inbound_kind kind,
                                          const struct inbound *connector, uint64_t size);
enum connector_token smtp_connector_recipients(const struct inbound *connector, uint32_t count);
/* The session is over. */
void smtp_connector_leave(struct smtp_server *s);
/* The largest message, by listener and connector. */
uint64_t smtp_size_max(const struct smtp_server *s);
/* by: whose rule it is, NULL: nobody's. */
void smtp_connector_refused(struct smtp_server *s, const struct inbound *by,
                            enum connector_token token, unsigned code);
void smtp_connector_would(struct smtp_server *s, const struct inbound_would *would,
                          struct slice sender);
/* The message is durable. */
void smtp_connector_accepted(struct smtp_server *s);

/* ---- smtp_content.c ---- */

int smtp_begin_content(struct smtp_server *s);
enum smtp_newline smtp_newline(const struct smtp_server *s);
enum step smtp_data_step(struct smtp_server *s);
enum step smtp_bdat_step(struct smtp_server *s);
enum step smtp_commit(struct smtp_server *s);

#endif
