/*
 * smtp_client.h - the outbound session: SMTP or LMTP to one next hop, many messages one after
 * another
 *
 *   smtp_client_start --> ready() --smtp_client_transact--> done() --> ready() ... --> gone()
 *                           '--smtp_client_quit, idle_ms, the peer's wish--------------^
 *
 * TLS comes before ready(): STARTTLS, the handshake, EHLO again. Whether mail may go in clear was
 * decided by whoever made the target; a client never takes that upon itself.
 *
 * A client is taken from the pool by smtp_client_start and goes back by itself when gone() has
 * returned: drop the pointer there. Callbacks come from the shard's loop, never from inside a call
 * into this file. Each transaction that was handed over is given back by done(), once, before
 * gone(); by then nothing in flight points to its bytes. ready() may call transact, quit or abort.
 *
 * Everything sent is gathered: MAIL, RCPT.., DATA leave in one send where PIPELINING was offered;
 * MAIL, RCPT.., BDAT and a body of up to SMTP_CLIENT_SMALL_BYTES where CHUNKING was offered too.
 *
 * In a result verdict says what to do, stage when it was said; code 0: our own finding, not a reply
 * of the host.
 */
#ifndef RINGPOST_MTA_SMTP_CLIENT_H
#define RINGPOST_MTA_SMTP_CLIENT_H

#include "core/metrics.h"
#include "core/pool.h"
#include "mta/connection.h"
#include "mta/smtp_data.h"
#include "mta/smtp_reply.h"
#include "tls/tls_client.h"

enum {
    SMTP_CLIENT_SMALL_BYTES = 65'536,   /* a body up to this leaves together with its BDAT */
    SMTP_CLIENT_FLIGHT_BYTES = 262'144, /* of a larger one that are in one send */
    SMTP_CLIENT_SLICES_MAX = RING_VECTOR_MAX - 1,
    SMTP_CLIENT_DOMAINS_MAX = 16, /* told apart for RCPTDOMAINMAX */
    SMTP_CLIENT_STEPS_MAX = 32,   /* per run; then the others first */
};

/* ---- a target ---- */

enum smtp_client_protocol { SMTP_CLIENT_SMTP, SMTP_CLIENT_LMTP };

enum smtp_client_flags {
    SMTP_CLIENT_NO_PIPELINING = 1 << 0, /* even if offered */
    SMTP_CLIENT_NO_CHUNKING = 1 << 1,
    SMTP_CLIENT_FOREIGN = 1 << 2, /* DNS named the host: it is not to call itself by our name */
};

/* RFC 5321 4.5.3.2; all must be set, save where 0 has a meaning. */
struct smtp_client_timeouts {
    uint32_t connect_ms;
    uint32_t greeting_ms; /* 5 min */
    uint32_t helo_ms;     /* 5 min; EHLO, HELO, LHLO */
    uint32_t tls_ms;      /* the reply to STARTTLS, and the handshake */
    uint32_t mail_ms;     /* 5 min */
    uint32_t rcpt_ms;     /* 5 min, each */
    uint32_t data_ms;     /* 2 min: until 354 */
    uint32_t block_ms;    /* 3 min: until a send of content has landed */
    uint32_t final_ms;    /* 10 min: the reply to the final dot; LMTP: to the next one of them */
    uint32_t reset_ms;
    uint32_t quit_ms;        /* the reply to QUIT: a few seconds, nothing depends on it */
    uint32_t idle_ms;        /* ready without a message; then QUIT. 0: for ever */
    uint32_t transaction_ms; /* over everything in one transaction; 0: no such bound */
};

extern const struct smtp_client_timeouts smtp_client_timeouts_default;

/* How this connection is protected. What it points to must stay until gone(). */
struct smtp_client_tls {
    struct tls_client *client;              /* NULL: in clear, by decision of the caller */
    const struct tls_client_policy *policy; /* its level is not NONE */
    struct tls_client_target target;
    bool clear_without_offer; /* at MAY: a host that offers no STARTTLS gets the mail in clear */
    bool implicit;            /* TLS from the first octet */
};

/* Copied by smtp_client_start; what its pointers point to must stay until gone(). */
struct smtp_client_target {
    struct net_address address; /* with port */
    const char *host;           /* its name, or the address as text: for logs */
    enum smtp_client_protocol protocol;
    unsigned flags;                   /* enum smtp_client_flags */
    const char *helo_name;            /* ours */
    const struct net_address *source; /* to bind to; NULL: the kernel chooses */
    uint32_t transactions_max;        /* messages per connection; 0: no limit of ours */
    const struct smtp_client_timeouts *timeouts;
    struct smtp_client_tls tls;
};

/* ---- a transaction ---- */

enum smtp_verdict {
    SMTP_VERDICT_NONE, /* not tried: over RCPTMAX, or the connection was found dead. Try it now */
    SMTP_VERDICT_DELIVERED,
    SMTP_VERDICT_TEMPORARY,
    SMTP_VERDICT_PERMANENT,
};

enum smtp_stage {
    SMTP_STAGE_NONE,
    SMTP_STAGE_LOCAL, /* decided here before asking the host, from what it offers: SIZE, 8BITMIME..
                       */
    SMTP_STAGE_CONNECT,
    SMTP_STAGE_GREETING,
    SMTP_STAGE_HELO,
    SMTP_STAGE_TLS,
    SMTP_STAGE_MAIL,
    SMTP_STAGE_RCPT,
    SMTP_STAGE_DATA,    /* the reply to DATA */
    SMTP_STAGE_CONTENT, /* while content was being sent */
    SMTP_STAGE_FINAL,   /* the reply to the final dot or to the last chunk */
    SMTP_STAGE_RESET,
    SMTP_STAGE_QUIT,
    SMTP_STAGES,
};
/* "MAIL", "end of data": for words. */
const char *smtp_stage_name(enum smtp_stage stage);

struct smtp_result {
    uint8_t verdict;               /* enum smtp_verdict */
    uint8_t stage;                 /* enum smtp_stage */
    bool unknown;                  /* TEMPORARY, but all was sent and the host may have it */
    uint16_t code;                 /* 0: our finding */
    struct smtp_enhanced enhanced; /* always set unless verdict is NONE */
    struct slice text;             /* into the transaction's texts; printable ASCII; may be empty */
};

struct smtp_recipient {
    struct slice address;      /* local@domain without brackets */
    unsigned notify;           /* enum smtp_notify */
    struct slice orcpt;        /* "type;xtext", or empty */
    struct smtp_result result; /* filled in by done() */
    uint8_t phase;             /* for smtp_client.c only */
};

enum smtp_transaction_flags {
    SMTP_TRANSACTION_UTF8 = 1 << 0,        /* came with SMTPUTF8: passed on where offered */
    SMTP_TRANSACTION_8BIT = 1 << 1,        /* octets above 127 in the content */
    SMTP_TRANSACTION_HEADER_8BIT = 1 << 2, /* in its header: does not go without SMTPUTF8 */
    SMTP_TRANSACTION_REQUIRETLS = 1 << 3,  /* RFC 8689: by TLS, to who offers it; a null sender's
                                              also to who does not */
};

/*
 * The body, pulled. next: 1 and a slice (not empty), 0 at the end, -EAGAIN (call
 * smtp_client_body_ready when there is more), or an errno: it cannot be read. Slices stay untouched
 * until release(source), which speaks for all that were handed out before it; at the latest just
 * before done(). release may be NULL. Neither may call into this file.
 */
struct smtp_body_source {
    int (*next)(void *source, struct slice *out);
    void (*release)(void *source);
    void *source;
};

/* Belongs to the caller, untouched from transact to done(). */
struct smtp_transaction {
    /* --- asked --- */
    struct slice sender; /* without brackets; empty: <> */
    unsigned flags;      /* enum smtp_transaction_flags */
    enum smtp_ret ret;
    struct slice envid; /* xtext, or empty */
    uint64_t size;      /* octets of the body, exactly */
    struct smtp_body_source body;
    struct smtp_recipient *recipients;
    uint32_t recipients_count; /* one at least */
    /* Room for the texts of results (at most SMTP_RESPONSE_TEXT_MAX each, equal neighbours share
     * one). What does not fit stays empty; texts of successes use the first half only. */
    uint8_t *texts;
    uint32_t texts_capacity;
    void *owner; /* the caller's */

    /* --- answered, good in done() --- */
    uint32_t attempted; /* recipients tried or judged: the first ones, unless RCPTDOMAINMAX chose */
    uint32_t delivered; /* of these */
    bool dsn_passed;    /* the host speaks DSN and has taken over NOTIFY, RET, ORCPT, ENVID */
    bool retry_now;     /* a connection used before was found dead, or ended (421), before any other
                           reply: nothing is known against the host, try on a fresh connection */
    uint32_t texts_used;
};

/* ---- the end ---- */

enum smtp_gone {
    SMTP_GONE_QUIT,      /* asked for, idle_ms, transactions_max, MAILMAX: all in order */
    SMTP_GONE_ABORT,     /* smtp_client_abort */
    SMTP_GONE_CONNECT,   /* no connection; error says why */
    SMTP_GONE_REFUSED,   /* greeting, EHLO or HELO refused; code and text say why */
    SMTP_GONE_CLOSING,   /* 421 */
    SMTP_GONE_LOST,      /* closed or reset by the peer */
    SMTP_GONE_TIMEOUT,   /* of a stage */
    SMTP_GONE_VIOLATION, /* not SMTP, too much of it, or a reply that nobody had asked for */
    SMTP_GONE_CHUNKING,  /* offered CHUNKING, did not know BDAT: use SMTP_CLIENT_NO_CHUNKING */
    SMTP_GONE_BODY,      /* the body could not be read, or must not be sent */
    SMTP_GONE_LOCAL,     /* out of buffers */
    SMTP_GONE_TLS,       /* the protection that was wanted did not come about: fault says why */
    SMTP_GONE_LOOP,      /* FOREIGN, and it calls itself by our name */
    SMTP_GONES,
};
const char *smtp_gone_name(enum smtp_gone why);

enum smtp_tls_fault {
    SMTP_TLS_NO_FAULT,
    SMTP_TLS_NOT_OFFERED,
    SMTP_TLS_REFUSED,   /* offered, and then not given */
    SMTP_TLS_INJECTED,  /* something stood behind the 220 */
    SMTP_TLS_HANDSHAKE, /* alert, cut, time, nothing in common */
    SMTP_TLS_TOO_WEAK,  /* it has no version or group as strong as is wanted */
    SMTP_TLS_CHAIN,     /* the certificate is not valid: from here on it is the certificate */
    SMTP_TLS_EXPIRED,   /* likewise, by its dates */
    SMTP_TLS_REVOKED,
    SMTP_TLS_REVOCATION_UNKNOWN,
    SMTP_TLS_NAME, /* it is, for others */
    SMTP_TLS_PIN,  /* its key is none of those that are pinned */
    SMTP_TLS_TLSA, /* it fits no TLSA record */
    SMTP_TLS_STS,  /* it is not what the domain's MTA-STS policy wants: see cert in the end */
    SMTP_TLS_CLIENT_CERT, /* it asked for ours, and goes no further with what it got */
    SMTP_TLS_FAULTS,
};
/* "starttls-none", "handshake", ...: for logs and metrics. */
const char *smtp_tls_fault_name(enum smtp_tls_fault fault);

struct smtp_client_end {
    enum smtp_gone why;
    enum smtp_tls_fault fault; /* also when the connection was lost in the handshake */
    enum smtp_tls_fault cert;  /* of STS: CHAIN, NAME, ...: what is wrong with the certificate */
    bool misused;              /* a certificate whose key must not sign: only TLS 1.2 may do */
    bool temporary;            /* STARTTLS was refused by a 4yz */
    bool offered_less;         /* in a handshake that failed, than the host says that it takes */
    bool asked;                /* by TLS, for a certificate of ours */
    enum smtp_stage stage;     /* then */
    enum smtp_verdict verdict; /* for mail that waited for this connection: TEMPORARY, or PERMANENT
                                  when a greeting or EHLO was refused by 5xx (another host of the
                                  destination may still take it); NONE after QUIT and the like */
    int error;                 /* negative errno, or 0 */
    uint16_t code;             /* 0: no reply */
    struct smtp_enhanced enhanced;
    struct slice text;     /* good in gone() only; words of ours when code is 0 */
    uint32_t transactions; /* that were begun on this connection */
    bool was_ready;        /* it got as far as ready() once */
};

/* ---- a client ---- */

struct smtp_client;

struct smtp_client_callbacks {
    void (*ready)(struct smtp_client *client); /* idle, may take a transaction */
    void (*done)(struct smtp_client *client, struct smtp_transaction *transaction);
    void (*gone)(struct smtp_client *client, const struct smtp_client_end *end);

    /* For who wants to show it all; NULL: nobody does. Neither may call into this file. */
    /* Each line of a reply, as it came; code is in client->response. */
    void (*heard)(struct smtp_client *client, struct slice line);
    /* It begins; later it is over, one way or the other, and the connection still has it. Not over
     * when the connection is lost meanwhile. */
    void (*handshake)(struct smtp_client *client, bool over);
};

/* Per shard; all in counts since start. */
struct smtp_client_numbers {
    uint64_t connects, connect_failures, greetings_refused, helo_fallbacks;
    uint64_t transactions, transactions_reused; /* of these not the first of their connection */
    uint64_t delivered, deferred, refused;      /* recipients */
    uint64_t unknown;                           /* recipients: sent, reply never seen */
    uint64_t content_bytes;
    uint64_t tls_faults[SMTP_TLS_FAULTS];
    uint64_t clear_not_offered; /* connections that went on in clear */
    uint64_t closings, lost, timeouts, violations, chunking_broken, damaged_bodies, resets;
    uint64_t open; /* now: a gauge */
};
extern const struct metric smtp_client_metrics[];
extern const unsigned smtp_client_metrics_count;

/* One per shard. */
struct smtp_clients {
    struct shard *shard;
    struct connection_pools *connections;
    struct pool pool;
    struct smtp_client_numbers numbers; /* metrics_add_source(.., smtp_client_metrics, .., this) */
};

uint64_t smtp_clients_bytes(uint32_t count); /* of memory, at most */
/* count: connections that this shard may have out. 0 or errno. */
[[nodiscard]] int smtp_clients_init(struct smtp_clients *clients, struct shard *shard,
                                    struct connection_pools *connections, uint32_t count);
void smtp_clients_free(struct smtp_clients *clients);

enum smtp_client_state {
    SMTP_CLIENT_CONNECT,
    SMTP_CLIENT_GREETING,
    SMTP_CLIENT_EHLO, /* or LHLO */
    SMTP_CLIENT_HELO,
    SMTP_CLIENT_STARTTLS,
    SMTP_CLIENT_HANDSHAKE,
    SMTP_CLIENT_READY,
    SMTP_CLIENT_ENVELOPE,
    SMTP_CLIENT_CONTENT,
    SMTP_CLIENT_FINAL,
    SMTP_CLIENT_RESET,
    SMTP_CLIENT_QUIT,
    SMTP_CLIENT_CLOSE,
    SMTP_CLIENT_STATES,
};

struct smtp_client {
    void *owner; /* the caller's; set by smtp_client_start */
    struct smtp_client_target target;
    struct smtp_capabilities capabilities; /* good from ready() on */
    enum smtp_client_state state;
    uint32_t transactions; /* begun */
    bool secured;          /* by TLS */
    bool clear_unoffered;  /* in clear, for it was not offered */

    /* The rest is for smtp_client*.c only. */
    struct smtp_clients *clients;
    const struct smtp_client_callbacks *callbacks;
    struct connection connection;
    struct task task;
    struct timer timer;
    struct smtp_client_end end;
    struct smtp_transaction *transaction;
    uint64_t transaction_until_ms; /* UINT64_MAX: no bound */
    bool timed_out;                /* facts */
    bool quit_wanted;
    bool abort_wanted;

    bool sent;       /* this state has said what it has to say */
    bool tell_ready; /* ready() is due */
    bool lost_waits; /* sending failed; what the peer said before it is still being awaited */
    bool pipelining; /* in this transaction */
    bool chunking;   /* likewise */
    bool mail_sent;  /* cursors of the envelope, sent and answered */
    bool mail_ok;    /* 2xx */
    bool mail_answered;
    bool end_sent; /* DATA, or BDAT */
    bool data_answered;
    bool data_ok;           /* 354 */
    bool end_answered;      /* the final reply, or all of them */
    bool abandoned;         /* a lone dot: nobody wants the content */
    bool content_handed;    /* its last octet is with the kernel, or may be */
    bool borrowed;          /* body slices are out that were not released */
    bool clean;             /* nothing is open on the other side: no RSET needed */
    bool replied;           /* some reply came in this transaction */
    bool begun;             /* something of the transaction may have been sent */
    bool together;          /* BDAT and content go with the envelope */
    bool reply_taken;       /* response is complete: begin anew */
    uint32_t rcpt_sent;     /* index of the next recipient to be sent */
    uint32_t rcpt_answered; /* index of the next one to be answered */
    uint32_t accepted;      /* recipients */
    uint32_t final_next;    /* LMTP: index of the next one to get its final reply */
    uint64_t body_taken;    /* octets from body.next */
    int body_error;         /* negative errno */
    struct smtp_stuff stuff;
    struct slice piece;                          /* of the body: taken, not yet on its way */
    struct slice staged[SMTP_CLIENT_SLICES_MAX]; /* taken before the envelope went out */
    uint32_t staged_next;
    uint32_t staged_count;
    uint32_t staged_bytes;
    struct slice last_text; /* in the transaction's texts, to be shared */
    struct smtp_response response;
    uint8_t end_text[SMTP_RESPONSE_TEXT_MAX];
    char tls_why[TLS_TEXT_MAX]; /* words about end.fault */
};

/* Takes a client and connects. callbacks is kept. 0; -ENOBUFS: all clients are taken; or an errno
 * of making the socket (-ENFILE, -EADDRNOTAVAIL). */
[[nodiscard]] int smtp_client_start(struct smtp_clients *clients,
                                    const struct smtp_client_target *target,
                                    const struct smtp_client_callbacks *callbacks, void *owner,
                                    struct smtp_client **client);

/* In or after ready(), once per ready(); not after gone(). */
void smtp_client_transact(struct smtp_client *client, struct smtp_transaction *transaction);
/* body.next would no longer say -EAGAIN. Harmless at any time until done(). */
void smtp_client_body_ready(struct smtp_client *client);
/* Ends in order: at once when ready, else after the transaction under way. */
void smtp_client_quit(struct smtp_client *client);
/* Ends now; done() and gone() follow. */
void smtp_client_abort(struct smtp_client *client);

/* What is known of its TLS, as fields of a line. */
struct log_line;
void smtp_client_log_tls(const struct smtp_client *client, struct log_line *line);

#endif
