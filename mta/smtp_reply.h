/*
 * smtp_reply.h - replies: the texts of ours, and the reading of a next hop's
 *
 * Ours: a table, and a writer into the caller's buffer. The writer escapes what is not printable
 * ASCII, so no text, whoever it came from, can end a line or begin another reply.
 *
 * Theirs: an incremental reader for any split of the input, with every size bounded; anything that
 * is not a reply by the letter is BAD, for a client out of step with its server loses mail.
 */
#ifndef RINGPOST_MTA_SMTP_REPLY_H
#define RINGPOST_MTA_SMTP_REPLY_H

#include "core/slice.h"
#include "mta/smtp_parse.h"

enum {
    SMTP_REPLY_LINE_MAX = 512,      /* of ours, CRLF included (RFC 5321 4.5.3.1.5) */
    SMTP_REPLY_LINES_MAX = 32,      /* of ours: EHLO keywords */
    SMTP_RESPONSE_LINE_MAX = 2'048, /* of theirs, CRLF included */
    SMTP_RESPONSE_LINE_KEPT = 512,  /* octets of one line that are kept */
    SMTP_RESPONSE_LINES_MAX = 128,
    SMTP_RESPONSE_BYTES_MAX = 65'536,
    SMTP_RESPONSE_TEXT_MAX = 512, /* kept of a whole response, for logs and DSNs */
};

/* ---- ours ---- */

/* A %s in a text (smtp_reply.c) takes the caller's detail: host name, queue id, command. */
enum smtp_reply_id {
    SMTP_REPLY_GREETING,      /* 220; detail: our host name */
    SMTP_REPLY_TLS_READY,     /* 220 2.0.0 */
    SMTP_REPLY_BYE,           /* 221; detail: our host name */
    SMTP_REPLY_AUTH_OK,       /* 235 */
    SMTP_REPLY_OK,            /* 250 2.0.0 */
    SMTP_REPLY_HELO,          /* 250, no enhanced code; detail: our host name */
    SMTP_REPLY_SENDER_OK,     /* 250 2.1.0 */
    SMTP_REPLY_RECIPIENT_OK,  /* 250 2.1.5 */
    SMTP_REPLY_CHUNK_OK,      /* 250 2.0.0; detail: octets */
    SMTP_REPLY_QUEUED,        /* 250 2.0.0; detail: queue id. Only for what is durable */
    SMTP_REPLY_HELP,          /* 214 */
    SMTP_REPLY_VRFY,          /* 252 */
    SMTP_REPLY_AUTH_CONTINUE, /* 334; detail: base64, may be empty */
    SMTP_REPLY_START_DATA,    /* 354 */

    SMTP_REPLY_OVERLOAD,             /* 421 4.3.2 */
    SMTP_REPLY_SHUTDOWN,             /* 421 4.3.2 */
    SMTP_REPLY_NO_SPOOL,             /* 421 4.3.0: not accepting for want of a working spool */
    SMTP_REPLY_TIMEOUT,              /* 421 4.4.2 */
    SMTP_REPLY_SLOW,                 /* 421 4.4.2: the whole transaction's deadline */
    SMTP_REPLY_TOO_MANY_CONNECTIONS, /* 421 4.3.2 */
    SMTP_REPLY_TOO_MANY_ERRORS,      /* 421 4.7.0 */
    SMTP_REPLY_TOO_MANY_MESSAGES,    /* 421 4.7.0: MAILMAX of one session */
    SMTP_REPLY_RATE_CLOSE,           /* 421 4.7.28 */
    SMTP_REPLY_HTTP,                 /* 421 4.7.0 */
    SMTP_REPLY_EARLY_TALK,           /* 421 4.7.0: content, or talk before the greeting */
    SMTP_REPLY_TLS_INJECTION,        /* 421 4.7.0: commands behind STARTTLS */
    SMTP_REPLY_CLOSING_ERROR,        /* 421 4.3.0: an error of ours ends the session */
    SMTP_REPLY_RATE,                 /* 450 4.7.28 */
    SMTP_REPLY_RECIPIENT_LATER,      /* 450 4.2.0 */
    SMTP_REPLY_LOCAL_ERROR,          /* 451 4.3.0 */
    SMTP_REPLY_WRITE_FAILED,         /* 451 4.3.0: the batch's sync failed */
    SMTP_REPLY_CONFIG_ERROR,         /* 451 4.3.5 */
    SMTP_REPLY_DNS_LATER,            /* 451 4.4.3 */
    SMTP_REPLY_POLICY_LATER,         /* 451 4.7.1 */
    SMTP_REPLY_NO_SPACE,             /* 452 4.3.1 */
    SMTP_REPLY_TOO_MANY_RECIPIENTS,  /* 452 4.5.3 */
    SMTP_REPLY_TLS_UNAVAILABLE,      /* 454 4.7.0 */
    SMTP_REPLY_AUTH_LATER,           /* 454 4.7.0 */

    SMTP_REPLY_UNKNOWN_COMMAND,    /* 500 5.5.1 */
    SMTP_REPLY_LINE_LONG,          /* 500 5.5.6: command line too long */
    SMTP_REPLY_CONTROL,            /* 500 5.5.2: control octets in a command */
    SMTP_REPLY_SYNTAX,             /* 501 5.5.2 */
    SMTP_REPLY_NO_ARGUMENT,        /* 501 5.5.4 */
    SMTP_REPLY_HAS_ARGUMENT,       /* 501 5.5.4 */
    SMTP_REPLY_BAD_HELO,           /* 501 5.5.4 */
    SMTP_REPLY_BAD_SENDER,         /* 501 5.1.7 */
    SMTP_REPLY_BAD_RECIPIENT,      /* 501 5.1.3 */
    SMTP_REPLY_ADDRESS_LONG,       /* 501 5.1.3 */
    SMTP_REPLY_PARAM_DUPLICATE,    /* 501 5.5.4 */
    SMTP_REPLY_PARAM_VALUE,        /* 501 5.5.4 */
    SMTP_REPLY_BAD_CHUNK,          /* 501 5.5.4, then close */
    SMTP_REPLY_BAD_BASE64,         /* 501 5.5.2 */
    SMTP_REPLY_AUTH_CANCELLED,     /* 501 5.7.0 */
    SMTP_REPLY_NOT_IMPLEMENTED,    /* 502 5.5.1 */
    SMTP_REPLY_NEED_HELO,          /* 503 5.5.1 */
    SMTP_REPLY_NEED_MAIL,          /* 503 5.5.1 */
    SMTP_REPLY_NEED_RCPT,          /* 503 5.5.1; for DATA see also NO_VALID_RCPT */
    SMTP_REPLY_NESTED_MAIL,        /* 503 5.5.1 */
    SMTP_REPLY_TLS_ACTIVE,         /* 503 5.5.1 */
    SMTP_REPLY_AUTH_DONE,          /* 503 5.5.1 */
    SMTP_REPLY_AUTH_IN_MAIL,       /* 503 5.5.1 */
    SMTP_REPLY_BDAT_EXPECTED,      /* 503 5.5.1: DATA or other talk amid BDAT chunks */
    SMTP_REPLY_EARLY_CONTENT,      /* 503 5.5.0: content that did not wait for 354 */
    SMTP_REPLY_AUTH_MECHANISM,     /* 504 5.5.4 */
    SMTP_REPLY_NO_MAIL_SERVICE,    /* 521 5.3.2 (RFC 7504) */
    SMTP_REPLY_AUTH_REQUIRED,      /* 530 5.7.0 */
    SMTP_REPLY_TLS_REQUIRED,       /* 530 5.7.0 */
    SMTP_REPLY_AUTH_FAILED,        /* 535 5.7.8 */
    SMTP_REPLY_AUTH_NEEDS_TLS,     /* 538 5.7.11 */
    SMTP_REPLY_RELAY_DENIED,       /* 550 5.7.1 */
    SMTP_REPLY_POLICY_REFUSED,     /* 550 5.7.1 */
    SMTP_REPLY_NO_USER,            /* 550 5.1.1 */
    SMTP_REPLY_NO_DOMAIN,          /* 550 5.1.2 */
    SMTP_REPLY_SENDER_NO_MAIL,     /* 550 5.7.27: null MX of the sender's domain (RFC 7505) */
    SMTP_REPLY_REQUIRETLS,         /* 550 5.7.30 (RFC 8689) */
    SMTP_REPLY_MESSAGE_BIG,        /* 552 5.3.4 */
    SMTP_REPLY_HEADER_BIG,         /* 552 5.3.4 */
    SMTP_REPLY_SENDER_UTF8,        /* 550 5.6.7 (RFC 6531 3.5) */
    SMTP_REPLY_RECIPIENT_UTF8,     /* 553 5.6.7 */
    SMTP_REPLY_SENDER_REFUSED,     /* 553 5.1.8 */
    SMTP_REPLY_NO_VALID_RCPT,      /* 554 5.5.1 */
    SMTP_REPLY_LOOP,               /* 554 5.4.6 */
    SMTP_REPLY_LOOP_EXCHANGE,      /* 554 5.4.14: the same, inbound-defaults { replies } */
    SMTP_REPLY_BARE_NEWLINE,       /* 554 5.6.0: smuggling's raw material */
    SMTP_REPLY_NUL,                /* 554 5.6.0 */
    SMTP_REPLY_TEXT_LINE_LONG,     /* 554 5.6.0 */
    SMTP_REPLY_8BIT_HEADER,        /* 554 5.6.7: UTF-8 header without SMTPUTF8 */
    SMTP_REPLY_TRANSACTION_FAILED, /* 554 5.0.0 */
    SMTP_REPLY_NO_SERVICE,         /* 554 5.3.2: as a greeting */
    SMTP_REPLY_PARAM_UNKNOWN,      /* 555 5.5.4 */
    SMTP_REPLY_BINARYMIME,         /* 555 5.6.1 */
    SMTP_REPLY_NULL_MX,            /* 556 5.1.10 (RFC 7505) */
    SMTP_REPLIES,
};

/* Three numbers of RFC 3463; klass 0: none. */
struct smtp_enhanced {
    uint8_t klass; /* 2, 4 or 5: the first digit of the code */
    uint16_t subject, detail;
};

struct smtp_reply_text {
    uint16_t code;
    struct smtp_enhanced enhanced; /* klass 0: this reply never carries one */
    const char *text;              /* printable ASCII; at most one %s */
};

const struct smtp_reply_text *smtp_reply_get(enum smtp_reply_id id);

/* The reply to a line that smtp_parse refused; not for SMTP_PARSE_OK. */
enum smtp_reply_id smtp_reply_for_parse(enum smtp_parse_result result);

/*
 * Writes one reply from the table, CRLF included, no terminator. enhanced: the session said EHLO
 * (RFC 2034 3); replies that never carry a code ignore it. detail may be empty. A line that would
 * be over SMTP_REPLY_LINE_MAX is cut, so that capacity of SMTP_REPLY_LINE_MAX always does.
 * Octets written, or -ENOSPC.
 */
[[nodiscard]] int smtp_reply_write(enum smtp_reply_id id, bool enhanced, struct slice detail,
                                   uint8_t *out, size_t capacity);

/*
 * The same for any code (200 to 599) and lines (1 to SMTP_REPLY_LINES_MAX, each may be empty), the
 * EHLO reply first of all; klass 0 writes no enhanced code, and one that is given stands on every
 * line. Needs at most count * SMTP_REPLY_LINE_MAX.
 */
[[nodiscard]] int smtp_reply_write_lines(unsigned code, struct smtp_enhanced enhanced,
                                         const struct slice *lines, size_t count, uint8_t *out,
                                         size_t capacity);

/*
 * Copies text with control octets, backslashes and all above 126 written as \xHH; cuts before what
 * does not fit. Octets written, no terminator. For replies, logs and DSNs.
 */
size_t smtp_reply_escape(struct slice text, uint8_t *out, size_t capacity);

/* ---- theirs ---- */

enum smtp_response_result {
    SMTP_RESPONSE_MORE, /* in is used up */
    SMTP_RESPONSE_LINE, /* one line of a longer response is in line; call again */
    SMTP_RESPONSE_DONE, /* the last line is in line; what is left in in is another response */
    SMTP_RESPONSE_BAD,  /* not a reply, or over a bound: close the connection; stays BAD */
};

struct smtp_response {
    uint16_t code;                 /* 200 to 599, from the first line on */
    struct smtp_enhanced enhanced; /* of the first line that has a fitting one; klass 0: none */
    uint16_t text_size;
    uint16_t line_size;
    /* All lines' text (without the code, with the enhanced code), one blank between two lines;
     * escaped like smtp_reply_escape; cut at SMTP_RESPONSE_TEXT_MAX. For logs and DSNs. */
    uint8_t text[SMTP_RESPONSE_TEXT_MAX];
    /* The last whole line's text as it came: for smtp_capabilities_add. At LINE and DONE only. */
    uint8_t line[SMTP_RESPONSE_LINE_KEPT];

    /* The rest is for smtp_reply.c only. */
    uint8_t state;
    uint8_t digits;
    bool more;      /* the current line has the hyphen */
    bool text_full; /* text was cut */
    uint16_t digits_value;
    uint16_t lines;
    uint32_t line_bytes;
    uint32_t bytes;
};

void smtp_response_begin(struct smtp_response *response);

/*
 * Takes from the front of in. After DONE, begin anew for the next response. Bare CR or LF, NUL, a
 * code outside 200 to 599 and a code that changes between the lines are BAD.
 */
[[nodiscard]] enum smtp_response_result smtp_response_take(struct smtp_response *response,
                                                           struct slice *in);

static inline struct slice smtp_response_line(const struct smtp_response *response)
{
    return slice_of(response->line, response->line_size);
}

static inline struct slice smtp_response_text(const struct smtp_response *response)
{
    return slice_of(response->text, response->text_size);
}

enum smtp_capability {
    SMTP_CAN_PIPELINING = 1 << 0,
    SMTP_CAN_SIZE = 1 << 1,
    SMTP_CAN_8BITMIME = 1 << 2,
    SMTP_CAN_SMTPUTF8 = 1 << 3,
    SMTP_CAN_CHUNKING = 1 << 4,
    SMTP_CAN_DSN = 1 << 5,
    SMTP_CAN_ENHANCEDSTATUSCODES = 1 << 6,
    SMTP_CAN_STARTTLS = 1 << 7,
    SMTP_CAN_LIMITS = 1 << 8,
    SMTP_CAN_REQUIRETLS = 1 << 9,
    SMTP_CAN_BINARYMIME = 1 << 10,
    SMTP_CAN_AUTH = 1 << 11,
};

enum smtp_mechanism {
    SMTP_MECHANISM_PLAIN = 1 << 0,
    SMTP_MECHANISM_LOGIN = 1 << 1,
    SMTP_MECHANISM_EXTERNAL = 1 << 2,
    SMTP_MECHANISM_SCRAM_SHA_256 = 1 << 3,
};

/* What the next hop offered. Forget it after STARTTLS (RFC 3207 4.2): all zero is the start. */
struct smtp_capabilities {
    unsigned can;        /* enum smtp_capability */
    unsigned mechanisms; /* enum smtp_mechanism, of AUTH */
    uint64_t size_max;   /* SIZE n; 0: no limit told (RFC 1870 4) */
    uint32_t rcpt_max;   /* LIMITS (RFC 9422); 0: not told */
    uint32_t mail_max;
    uint32_t rcpt_domain_max;
    uint16_t lines; /* lines fed so far */
};

/* Feeds one line's text of a 250 to EHLO, in order; the first, the greeting, is not a keyword.
 * Unknown or malformed keywords are passed over, as if not offered. */
void smtp_capabilities_add(struct smtp_capabilities *capabilities, struct slice line);

#endif
