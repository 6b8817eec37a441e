/*
 * smtp_parse.h - one command line of a client, taken apart (RFC 5321 4.1.1 and its extensions)
 *
 * Pure: no state, no allocation. The result's slices borrow the line. Whether a command fits the
 * session's state is the server's business; whether it is well formed is decided here, once.
 */
#ifndef RINGPOST_MTA_SMTP_PARSE_H
#define RINGPOST_MTA_SMTP_PARSE_H

#include "core/slice.h"
#include "mta/address.h"

enum {
    SMTP_LINE_MAX = 4'094,     /* octets of a command line without CRLF; RFC 5321 asks for 510 */
    SMTP_HELO_MAX = 255,       /* the argument of EHLO or HELO */
    SMTP_ENVID_MAX = 100,      /* RFC 3461 4.4, as xtext */
    SMTP_ORCPT_MAX = 500,      /* RFC 3461 4.2, as xtext, type included */
    SMTP_AUTH_PARAM_MAX = 500, /* RFC 4954 5 */
    SMTP_MECHANISM_MAX = 20,   /* RFC 4422 3.1 */
};

/* A BDAT chunk's limit: the sum of a great many of them still fits 64 bits. */
#define SMTP_CHUNK_MAX (UINT64_C(1) << 48)

enum smtp_verb {
    SMTP_VERB_UNKNOWN = 0,
    SMTP_VERB_EHLO,
    SMTP_VERB_HELO,
    SMTP_VERB_MAIL,
    SMTP_VERB_RCPT,
    SMTP_VERB_DATA,
    SMTP_VERB_BDAT,
    SMTP_VERB_RSET,
    SMTP_VERB_NOOP,
    SMTP_VERB_VRFY,
    SMTP_VERB_EXPN,
    SMTP_VERB_HELP,
    SMTP_VERB_QUIT,
    SMTP_VERB_STARTTLS,
    SMTP_VERB_AUTH,
    SMTP_VERB_HTTP, /* GET, POST, CONNECT...: somebody's browser is the weapon; close */
    SMTP_VERBS,
};

/* What the session offers; parameters of anything else are unknown to it (555). */
enum smtp_extension {
    SMTP_EXT_SIZE = 1 << 0,
    SMTP_EXT_8BITMIME = 1 << 1,
    SMTP_EXT_SMTPUTF8 = 1 << 2, /* MAIL may carry SMTPUTF8; VRFY and EXPN too */
    SMTP_EXT_DSN = 1 << 3,
    SMTP_EXT_AUTH = 1 << 4,       /* MAIL may carry AUTH=; checked for syntax, not believed */
    SMTP_EXT_REQUIRETLS = 1 << 5, /* RFC 8689: only while TLS is on */
    /* Not an extension but the transaction's state: its MAIL carried SMTPUTF8, so RCPT may use it.
     */
    SMTP_EXT_UTF8_TRANSACTION = 1 << 6,
};

/* smtp_reply_for_parse gives the reply of each. When not OK, only verb may be read. */
enum smtp_parse_result {
    SMTP_PARSE_OK = 0,
    SMTP_PARSE_LINE_LONG,       /* over SMTP_LINE_MAX */
    SMTP_PARSE_CONTROL,         /* CR, LF, NUL or another control octet in the line */
    SMTP_PARSE_UNKNOWN,         /* verb not known */
    SMTP_PARSE_HTTP,            /* 421 and close; everything buffered is dropped */
    SMTP_PARSE_SYNTAX,          /* malformed command, FROM: or TO: missing */
    SMTP_PARSE_NO_ARGUMENT,     /* this command needs one */
    SMTP_PARSE_HAS_ARGUMENT,    /* this command takes none */
    SMTP_PARSE_HELO,            /* the name is no domain and no address literal */
    SMTP_PARSE_SENDER,          /* malformed reverse path */
    SMTP_PARSE_RECIPIENT,       /* malformed forward path */
    SMTP_PARSE_ADDRESS_LONG,    /* path beyond the limits */
    SMTP_PARSE_SENDER_UTF8,     /* non-ASCII without SMTPUTF8 */
    SMTP_PARSE_RECIPIENT_UTF8,  /* the same in RCPT */
    SMTP_PARSE_PARAM_UNKNOWN,   /* 555 */
    SMTP_PARSE_PARAM_DUPLICATE, /* 501 */
    SMTP_PARSE_PARAM_VALUE,     /* 501 */
    SMTP_PARSE_BINARYMIME,      /* BODY=BINARYMIME: no way on for it */
    /* Malformed BDAT. How much content follows is unknown, so commands can no longer be told from
     * it: reply, then close. */
    SMTP_PARSE_CHUNK,
    SMTP_PARSE_MECHANISM, /* AUTH: malformed mechanism name */
    SMTP_PARSE_BASE64,    /* AUTH: initial response is no base64 */
    SMTP_PARSE_RESULTS,
};

enum smtp_body {
    SMTP_BODY_ABSENT = 0, /* as 7BIT */
    SMTP_BODY_7BIT,
    SMTP_BODY_8BITMIME,
};

enum smtp_ret {
    SMTP_RET_ABSENT = 0,
    SMTP_RET_FULL,
    SMTP_RET_HDRS,
};

enum smtp_notify {
    SMTP_NOTIFY_ABSENT = 0,
    SMTP_NOTIFY_NEVER = 1 << 0, /* always alone */
    SMTP_NOTIFY_SUCCESS = 1 << 1,
    SMTP_NOTIFY_FAILURE = 1 << 2,
    SMTP_NOTIFY_DELAY = 1 << 3,
};

struct smtp_mail {
    struct address path; /* may be null */
    bool size_given;
    bool smtputf8;
    bool requiretls;
    enum smtp_body body;
    enum smtp_ret ret;
    uint64_t size;      /* 20 digits may exceed 64 bits: then UINT64_MAX, and so over any limit */
    struct slice envid; /* xtext as sent, valid, decodes to printable ASCII; empty: absent */
    struct slice auth;  /* xtext as sent or "<>"; empty: absent */
};

struct smtp_rcpt {
    struct address path; /* may be postmaster without domain */
    unsigned notify;     /* enum smtp_notify */
    struct slice orcpt;  /* "type;xtext" as sent, for passing on; empty: absent */
    struct slice orcpt_type;
    struct slice orcpt_address; /* valid xtext, or utf-8-addr-xtext when the type is utf-8 */
};

struct smtp_helo {
    struct slice name; /* octets 33 to 126 only: safe to print, log and put into Received */
    bool literal;      /* [1.2.3.4] or [IPv6:...], checked */
    bool strict;       /* by the letter: a valid literal, or a domain of two labels or more
                          without underscore or empty label; false: passed by leniency */
};

struct smtp_chunk {
    uint64_t size; /* at most SMTP_CHUNK_MAX */
    bool last;
};

struct smtp_auth {
    struct slice mechanism;
    bool initial_given;
    struct slice initial; /* base64 as sent; empty when it was "=" (RFC 4954 4) */
};

struct smtp_command {
    enum smtp_verb verb;
    struct slice argument;       /* all behind the verb, without the blanks around it */
    union {                      /* by verb */
        struct smtp_helo helo;   /* EHLO, HELO */
        struct smtp_mail mail;   /* MAIL */
        struct smtp_rcpt rcpt;   /* RCPT */
        struct smtp_chunk chunk; /* BDAT */
        struct smtp_auth auth;   /* AUTH */
    };
};

/* line is one line without its CRLF; extensions is a mask of enum smtp_extension. */
[[nodiscard]] enum smtp_parse_result smtp_parse(struct slice line, unsigned extensions,
                                                struct smtp_command *command);

/* For logs and metrics: "EHLO", ..., "UNKNOWN", "HTTP". */
const char *smtp_verb_name(enum smtp_verb verb);

/* RFC 3461 4: printable ASCII but "+" and "=", others as +HH in upper case. */
bool smtp_xtext_valid(struct slice xtext);
/* Octets written (no terminator), -EINVAL: not xtext, or -ENOSPC. Never writes more than it reads.
 */
[[nodiscard]] int smtp_xtext_decode(struct slice xtext, uint8_t *out, size_t capacity);
/* Octets written (no terminator), or -ENOSPC: at most three times the input. */
[[nodiscard]] int smtp_xtext_encode(struct slice text, uint8_t *out, size_t capacity);

#endif
