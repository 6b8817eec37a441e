/*
 * smtp_client_text.c - what the outbound session says, and the words for how it ended
 *
 * Pure: writes into the caller's memory. Addresses and parameters were valid when they came in;
 * they are looked at again before they are written (smtp_client_text_clean), for the spool they
 * come from is a disk, and a line end in a command would be a command of somebody else's.
 *
 * Bounds: SMTP_CLIENT_COMMAND_MAX holds the longest RCPT: 8 + 254 + 36 (NOTIFY) + 7 + 500 (ORCPT).
 */
#include <stdio.h>

#include "core/check.h"
#include "mta/smtp_client_inside.h"

/* clang-format off */
const struct smtp_client_timeouts smtp_client_timeouts_default = {
    .connect_ms     =      30'000,
    .greeting_ms    =     300'000,
    .helo_ms        =     300'000,
    .tls_ms         =      30'000,
    .mail_ms        =     300'000,
    .rcpt_ms        =     300'000,
    .data_ms        =     120'000,
    .block_ms       =     180'000,
    .final_ms       =     600'000,
    .reset_ms       =      20'000,
    .quit_ms        =       5'000,
    .idle_ms        =      10'000,
    .transaction_ms =           0,
};

static const char *const stage_names[SMTP_STAGES] = {
    [SMTP_STAGE_NONE]     = "none",
    [SMTP_STAGE_LOCAL]    = "before MAIL",
    [SMTP_STAGE_CONNECT]  = "connect",
    [SMTP_STAGE_GREETING] = "greeting",
    [SMTP_STAGE_HELO]     = "EHLO",
    [SMTP_STAGE_TLS]      = "STARTTLS",
    [SMTP_STAGE_MAIL]     = "MAIL",
    [SMTP_STAGE_RCPT]     = "RCPT",
    [SMTP_STAGE_DATA]     = "DATA",
    [SMTP_STAGE_CONTENT]  = "content",
    [SMTP_STAGE_FINAL]    = "end of data",
    [SMTP_STAGE_RESET]    = "RSET",
    [SMTP_STAGE_QUIT]     = "QUIT",
};

static const struct smtp_gone_words gone_words[SMTP_GONES] = {
    [SMTP_GONE_QUIT]      = { "quit",      NULL,                              { 4, 4, 2 } },
    [SMTP_GONE_ABORT]     = { "abort",     "delivery broken off by us",       { 4, 3, 2 } },
    [SMTP_GONE_CONNECT]   = { "connect",   "no connection",                   { 4, 4, 1 } },
    [SMTP_GONE_REFUSED]   = { "refused",   "refused",                         { 4, 3, 2 } },
    [SMTP_GONE_CLOSING]   = { "closing",   "service closed the connection",   { 4, 3, 2 } },
    [SMTP_GONE_LOST]      = { "lost",      "connection lost",                 { 4, 4, 2 } },
    [SMTP_GONE_TIMEOUT]   = { "timeout",   "timed out",                       { 4, 4, 2 } },
    [SMTP_GONE_VIOLATION] = { "violation", "unexpected or malformed reply",   { 4, 5, 0 } },
    [SMTP_GONE_CHUNKING]  = { "chunking",  "BDAT offered but not understood", { 4, 5, 1 } },
    [SMTP_GONE_BODY]      = { "body",      "content could not be read",       { 4, 3, 0 } },
    [SMTP_GONE_LOCAL]     = { "local",     "out of buffers",                  { 4, 3, 1 } },
    [SMTP_GONE_LOOP]      = { "loop",      "the host calls itself by our name: mail would come back", { 4, 4, 6 } },
    [SMTP_GONE_TLS]       = { "tls",       "the connection cannot be protected as it must be", { 4, 7, 5 } },
};

static const char *const fault_names[SMTP_TLS_FAULTS] = {
    [SMTP_TLS_NO_FAULT]    = "none",
    [SMTP_TLS_NOT_OFFERED] = "starttls-none",
    [SMTP_TLS_REFUSED]     = "starttls-refused",
    [SMTP_TLS_INJECTED]    = "starttls-injected",
    [SMTP_TLS_HANDSHAKE]   = "handshake",
    [SMTP_TLS_TOO_WEAK]    = "too-weak",
    [SMTP_TLS_CHAIN]       = "chain",
    [SMTP_TLS_EXPIRED]     = "expired",
    [SMTP_TLS_REVOKED]     = "revoked",
    [SMTP_TLS_REVOCATION_UNKNOWN] = "revocation-unknown",
    [SMTP_TLS_NAME]        = "name",
    [SMTP_TLS_PIN]         = "pin",
    [SMTP_TLS_TLSA]        = "tlsa",
    [SMTP_TLS_STS]         = "sts-cert",
    [SMTP_TLS_CLIENT_CERT] = "client-cert",
};

#define NUMBER(field, metric_name, metric_labels, metric_help)                                     \
    { .name = (metric_name), .labels = (metric_labels), .help = (metric_help),                     \
      .offset = offsetof(struct smtp_client_numbers, field) }
#define TLS_FAULT(fault, label)                                                                         \
    NUMBER(tls_faults[fault], "ringpost_client_tls_faults_total", "fault=\"" label "\"",             \
           "Connections that did not get the TLS they had to have, by fault")
const struct metric smtp_client_metrics[] = {
    TLS_FAULT(SMTP_TLS_NOT_OFFERED, "starttls-none"), TLS_FAULT(SMTP_TLS_REFUSED, "starttls-refused"),
    TLS_FAULT(SMTP_TLS_INJECTED, "starttls-injected"), TLS_FAULT(SMTP_TLS_HANDSHAKE, "handshake"),
    TLS_FAULT(SMTP_TLS_TOO_WEAK, "too-weak"), TLS_FAULT(SMTP_TLS_CHAIN, "chain"),
    TLS_FAULT(SMTP_TLS_EXPIRED, "expired"), TLS_FAULT(SMTP_TLS_REVOKED, "revoked"),
    TLS_FAULT(SMTP_TLS_REVOCATION_UNKNOWN, "revocation-unknown"), TLS_FAULT(SMTP_TLS_NAME, "name"),
    TLS_FAULT(SMTP_TLS_PIN, "pin"), TLS_FAULT(SMTP_TLS_TLSA, "tlsa"),
    TLS_FAULT(SMTP_TLS_STS, "sts-cert"), TLS_FAULT(SMTP_TLS_CLIENT_CERT, "client-cert"),
    NUMBER(clear_not_offered, "ringpost_client_clear_total", "why=\"starttls-none\"",
           "Connections used in clear although TLS was wanted where it is offered"),
    NUMBER(connects, "ringpost_client_connects_total", NULL, "Outbound connections tried"),
    NUMBER(connect_failures, "ringpost_client_connect_failures_total", NULL,
           "Outbound connections that did not come about"),
    NUMBER(greetings_refused, "ringpost_client_sessions_refused_total", NULL,
           "Outbound sessions refused in greeting, EHLO or HELO"),
    NUMBER(helo_fallbacks, "ringpost_client_helo_fallbacks_total", NULL,
           "Next hops that did not know EHLO"),
    NUMBER(transactions, "ringpost_client_transactions_total", NULL, "Outbound mail transactions"),
    NUMBER(transactions_reused, "ringpost_client_transactions_reused_total", NULL,
           "Outbound transactions on a connection that was there already"),
    NUMBER(delivered, "ringpost_client_recipients_total", "result=\"delivered\"",
           "Recipients tried, by result"),
    NUMBER(deferred, "ringpost_client_recipients_total", "result=\"deferred\"",
           "Recipients tried, by result"),
    NUMBER(refused, "ringpost_client_recipients_total", "result=\"refused\"",
           "Recipients tried, by result"),
    NUMBER(unknown, "ringpost_client_recipients_unknown_total", NULL,
           "Recipients whose mail was sent whole and never answered: may be delivered twice"),
    NUMBER(content_bytes, "ringpost_client_content_bytes_total", NULL,
           "Octets of content of transactions that were answered 2xx"),
    NUMBER(closings, "ringpost_client_ends_total", "why=\"closing\"", "Sessions cut short, by cause"),
    NUMBER(lost, "ringpost_client_ends_total", "why=\"lost\"", "Sessions cut short, by cause"),
    NUMBER(timeouts, "ringpost_client_ends_total", "why=\"timeout\"",
           "Sessions cut short, by cause"),
    NUMBER(violations, "ringpost_client_ends_total", "why=\"violation\"",
           "Sessions cut short, by cause"),
    NUMBER(chunking_broken, "ringpost_client_ends_total", "why=\"chunking\"",
           "Sessions cut short, by cause"),
    NUMBER(damaged_bodies, "ringpost_client_damaged_bodies_total", NULL,
           "Content that held a bare CR or LF or NUL and was not sent"),
    NUMBER(resets, "ringpost_client_resets_total", NULL, "RSET between transactions"),
    { .name = "ringpost_client_connections", .help = "Outbound connections open",
      .type = METRIC_GAUGE, .offset = offsetof(struct smtp_client_numbers, open) },
};
/* clang-format on */
const unsigned smtp_client_metrics_count = ARRAY_COUNT(smtp_client_metrics);

const char *smtp_tls_fault_name(enum smtp_tls_fault fault)
{
    CHECK(fault < SMTP_TLS_FAULTS);
    return fault_names[fault];
}

const char *smtp_stage_name(enum smtp_stage stage)
{
    CHECK(stage < SMTP_STAGES);
    return stage_names[stage];
}

const struct smtp_gone_words *smtp_gone_words(enum smtp_gone why)
{
    CHECK(why < SMTP_GONES);
    return &gone_words[why];
}

const char *smtp_gone_name(enum smtp_gone why)
{
    return smtp_gone_words(why)->name;
}

bool smtp_client_text_clean(struct slice text, size_t max)
{
    if (text.size > max)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] == 0x7f)
            return false;
    return true;
}

bool smtp_client_text_utf8(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] > 0x7f)
            return true;
    return false;
}

/* ---- commands ---- */

struct command {
    uint8_t *out;
    size_t size;
};

static void command_add(struct command *command, struct slice text)
{
    CHECK(text.size <= SMTP_CLIENT_COMMAND_MAX - command->size);
    if (text.size > 0)
        memcpy(command->out + command->size, text.data, text.size);
    command->size += text.size;
}

static void command_add_number(struct command *command, uint64_t number)
{
    char digits[24];
    int size = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    CHECK(size > 0);
    command_add(command, slice_of(digits, (size_t)size));
}

size_t smtp_client_write_hello(const struct smtp_client *c, bool extended, uint8_t *out)
{
    struct command command = { out, 0 };
    if (c->target.protocol == SMTP_CLIENT_LMTP)
        command_add(&command, SLICE("LHLO "));
    else
        command_add(&command, extended ? SLICE("EHLO ") : SLICE("HELO "));
    struct slice name = slice_of_string(c->target.helo_name);
    CHECK(smtp_client_text_clean(name, SMTP_HELO_MAX));
    command_add(&command, name);
    command_add(&command, SLICE("\r\n"));
    return command.size;
}

size_t smtp_client_write_mail(const struct smtp_client *c, const struct smtp_transaction *t,
                              uint8_t *out)
{
    unsigned can = c->capabilities.can;
    struct command command = { out, 0 };
    command_add(&command, SLICE("MAIL FROM:<"));
    command_add(&command, t->sender);
    command_add(&command, SLICE(">"));
    if (can & SMTP_CAN_SIZE) {
        command_add(&command, SLICE(" SIZE="));
        command_add_number(&command, t->size);
    }
    if ((can & SMTP_CAN_8BITMIME) && (t->flags & SMTP_TRANSACTION_8BIT))
        command_add(&command, SLICE(" BODY=8BITMIME"));
    if ((can & SMTP_CAN_SMTPUTF8) &&
        (t->flags & (SMTP_TRANSACTION_UTF8 | SMTP_TRANSACTION_HEADER_8BIT)))
        command_add(&command, SLICE(" SMTPUTF8"));
    if ((can & SMTP_CAN_REQUIRETLS) && c->secured && (t->flags & SMTP_TRANSACTION_REQUIRETLS))
        command_add(&command, SLICE(" REQUIRETLS"));
    if (can & SMTP_CAN_DSN) {
        if (t->ret == SMTP_RET_FULL)
            command_add(&command, SLICE(" RET=FULL"));
        else if (t->ret == SMTP_RET_HDRS)
            command_add(&command, SLICE(" RET=HDRS"));
        if (t->envid.size > 0 && smtp_client_text_clean(t->envid, SMTP_ENVID_MAX)) {
            command_add(&command, SLICE(" ENVID="));
            command_add(&command, t->envid);
        }
    }
    command_add(&command, SLICE("\r\n"));
    return command.size;
}

static void command_add_notify(struct command *command, unsigned notify)
{
    static const struct {
        unsigned flag;
        struct slice word;
    } words[] = {
        { SMTP_NOTIFY_NEVER, SLICE("NEVER") },
        { SMTP_NOTIFY_SUCCESS, SLICE("SUCCESS") },
        { SMTP_NOTIFY_FAILURE, SLICE("FAILURE") },
        { SMTP_NOTIFY_DELAY, SLICE("DELAY") },
    };
    struct slice between = SLICE(" NOTIFY=");
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (!(notify & words[i].flag))
            continue;
        command_add(command, between);
        command_add(command, words[i].word);
        between = SLICE(",");
    }
}

size_t smtp_client_write_rcpt(const struct smtp_client *c, const struct smtp_transaction *t,
                              const struct smtp_recipient *recipient, uint8_t *out)
{
    struct command command = { out, 0 };
    command_add(&command, SLICE("RCPT TO:<"));
    command_add(&command, recipient->address);
    command_add(&command, SLICE(">"));
    if (c->capabilities.can & SMTP_CAN_DSN) {
        command_add_notify(&command, recipient->notify);
        /* RFC 6533 3: an original recipient in UTF-8 only where the transaction is SMTPUTF8. */
        bool utf8 = (c->capabilities.can & SMTP_CAN_SMTPUTF8) &&
                    (t->flags & (SMTP_TRANSACTION_UTF8 | SMTP_TRANSACTION_HEADER_8BIT));
        if (recipient->orcpt.size > 0 && smtp_client_text_clean(recipient->orcpt, SMTP_ORCPT_MAX) &&
            (utf8 || !smtp_client_text_utf8(recipient->orcpt))) {
            command_add(&command, SLICE(" ORCPT="));
            command_add(&command, recipient->orcpt);
        }
    }
    command_add(&command, SLICE("\r\n"));
    return command.size;
}

size_t smtp_client_write_bdat(uint64_t size, uint8_t *out)
{
    struct command command = { out, 0 };
    command_add(&command, SLICE("BDAT "));
    command_add_number(&command, size);
    command_add(&command, SLICE(" LAST\r\n"));
    return command.size;
}
