/*
 * smtp_reply.c - the texts of our replies, and the reading of a next hop's
 *
 * Writing: one line is put together in a buffer of SMTP_REPLY_LINE_MAX and copied whole or not at
 * all. Every octet of a detail or a caller's line goes through smtp_reply_escape.
 *
 * Reading, one octet at a time (replies are short):
 *
 *   CODE --3 digits--> SEPARATOR --" " or "-"--> TEXT --CR--> CR --LF--> CODE (LINE) or DONE
 *                          `--CR (no text)--------------------^
 *   anything else --> BAD, for good
 *
 * Owns nothing. Bounds: SMTP_REPLY_ and SMTP_RESPONSE_ in the header. Surprises: a reply with a
 * bare LF is BAD, though some clients would read on; what is over SMTP_RESPONSE_LINE_KEPT or
 * SMTP_RESPONSE_TEXT_MAX is read, checked and dropped.
 */
#include "mta/smtp_reply.h"

#include <errno.h>

#include "core/check.h"

/* clang-format off */
#define NO_CODE { 0, 0, 0 } /* RFC 2034 3: not in the greeting and replies to HELO; 3xx have none */

static const struct smtp_reply_text texts[SMTP_REPLIES] = {
    [SMTP_REPLY_GREETING] = { 220, NO_CODE, "%s ESMTP ringpost" },
    [SMTP_REPLY_TLS_READY] = { 220, { 2, 0, 0 }, "Ready to start TLS" },
    [SMTP_REPLY_BYE] = { 221, { 2, 0, 0 }, "%s closing connection" },
    [SMTP_REPLY_AUTH_OK] = { 235, { 2, 7, 0 }, "Authentication successful" },
    [SMTP_REPLY_OK] = { 250, { 2, 0, 0 }, "Ok" },
    [SMTP_REPLY_HELO] = { 250, NO_CODE, "%s" },
    [SMTP_REPLY_SENDER_OK] = { 250, { 2, 1, 0 }, "Sender ok" },
    [SMTP_REPLY_RECIPIENT_OK] = { 250, { 2, 1, 5 }, "Recipient ok" },
    [SMTP_REPLY_CHUNK_OK] = { 250, { 2, 0, 0 }, "%s octets received" },
    [SMTP_REPLY_QUEUED] = { 250, { 2, 0, 0 }, "Ok: queued as %s" },
    [SMTP_REPLY_HELP] = { 214, { 2, 0, 0 }, "See RFC 5321" },
    [SMTP_REPLY_VRFY] = { 252, { 2, 5, 2 }, "Cannot verify, send some mail" },
    [SMTP_REPLY_AUTH_CONTINUE] = { 334, NO_CODE, "%s" },
    [SMTP_REPLY_START_DATA] = { 354, NO_CODE, "End data with <CR><LF>.<CR><LF>" },
    [SMTP_REPLY_OVERLOAD] = { 421, { 4, 3, 2 }, "Too busy, try again later" },
    [SMTP_REPLY_SHUTDOWN] = { 421, { 4, 3, 2 }, "Server is shutting down" },
    [SMTP_REPLY_NO_SPOOL] = { 421, { 4, 3, 0 }, "Not accepting mail at the moment" },
    [SMTP_REPLY_TIMEOUT] = { 421, { 4, 4, 2 }, "Timeout waiting for the client" },
    [SMTP_REPLY_SLOW] = { 421, { 4, 4, 2 }, "Transaction takes too long" },
    [SMTP_REPLY_TOO_MANY_CONNECTIONS] = { 421, { 4, 3, 2 }, "Too many connections" },
    [SMTP_REPLY_TOO_MANY_ERRORS] = { 421, { 4, 7, 0 }, "Too many errors" },
    [SMTP_REPLY_TOO_MANY_MESSAGES] = { 421, { 4, 7, 0 }, "Too many messages in this session" },
    [SMTP_REPLY_RATE_CLOSE] = { 421, { 4, 7, 28 }, "Rate limit exceeded" },
    [SMTP_REPLY_HTTP] = { 421, { 4, 7, 0 }, "This is not an HTTP server" },
    [SMTP_REPLY_EARLY_TALK] = { 421, { 4, 7, 0 }, "Protocol violation: input ahead of its time" },
    [SMTP_REPLY_TLS_INJECTION] = { 421, { 4, 7, 0 }, "Input behind STARTTLS" },
    [SMTP_REPLY_CLOSING_ERROR] = { 421, { 4, 3, 0 }, "Local error, closing connection" },
    [SMTP_REPLY_RATE] = { 450, { 4, 7, 28 }, "Rate limit exceeded, try again later" },
    [SMTP_REPLY_RECIPIENT_LATER] = { 450, { 4, 2, 0 }, "Recipient not available, try again later" },
    [SMTP_REPLY_LOCAL_ERROR] = { 451, { 4, 3, 0 }, "Local error in processing" },
    [SMTP_REPLY_WRITE_FAILED] = { 451, { 4, 3, 0 }, "Message could not be stored" },
    [SMTP_REPLY_CONFIG_ERROR] = { 451, { 4, 3, 5 }, "System incorrectly configured" },
    [SMTP_REPLY_DNS_LATER] = { 451, { 4, 4, 3 }, "Temporary failure of name resolution" },
    [SMTP_REPLY_POLICY_LATER] = { 451, { 4, 7, 1 }, "Not now, try again later" },
    [SMTP_REPLY_NO_SPACE] = { 452, { 4, 3, 1 }, "Insufficient storage" },
    [SMTP_REPLY_TOO_MANY_RECIPIENTS] = { 452, { 4, 5, 3 }, "Too many recipients" },
    [SMTP_REPLY_TLS_UNAVAILABLE] = { 454, { 4, 7, 0 }, "TLS not available [tls-unavailable]" },
    [SMTP_REPLY_AUTH_LATER] = { 454, { 4, 7, 0 }, "Temporary authentication failure" },
    [SMTP_REPLY_UNKNOWN_COMMAND] = { 500, { 5, 5, 1 }, "Command not recognized" },
    [SMTP_REPLY_LINE_LONG] = { 500, { 5, 5, 6 }, "Command line too long" },
    [SMTP_REPLY_CONTROL] = { 500, { 5, 5, 2 }, "Control characters in command" },
    [SMTP_REPLY_SYNTAX] = { 501, { 5, 5, 2 }, "Syntax error" },
    [SMTP_REPLY_NO_ARGUMENT] = { 501, { 5, 5, 4 }, "Argument missing" },
    [SMTP_REPLY_HAS_ARGUMENT] = { 501, { 5, 5, 4 }, "No argument allowed" },
    [SMTP_REPLY_BAD_HELO] = { 501, { 5, 5, 4 }, "Invalid domain name or address literal" },
    [SMTP_REPLY_BAD_SENDER] = { 501, { 5, 1, 7 }, "Bad sender address syntax" },
    [SMTP_REPLY_BAD_RECIPIENT] = { 501, { 5, 1, 3 }, "Bad recipient address syntax" },
    [SMTP_REPLY_ADDRESS_LONG] = { 501, { 5, 1, 3 }, "Address too long" },
    [SMTP_REPLY_PARAM_DUPLICATE] = { 501, { 5, 5, 4 }, "Parameter given twice" },
    [SMTP_REPLY_PARAM_VALUE] = { 501, { 5, 5, 4 }, "Bad parameter value" },
    [SMTP_REPLY_BAD_CHUNK] = { 501, { 5, 5, 4 }, "Bad BDAT command, closing connection" },
    [SMTP_REPLY_BAD_BASE64] = { 501, { 5, 5, 2 }, "Invalid base64" },
    [SMTP_REPLY_AUTH_CANCELLED] = { 501, { 5, 7, 0 }, "Authentication cancelled" },
    [SMTP_REPLY_NOT_IMPLEMENTED] = { 502, { 5, 5, 1 }, "Command not implemented" },
    [SMTP_REPLY_NEED_HELO] = { 503, { 5, 5, 1 }, "Send EHLO or HELO first" },
    [SMTP_REPLY_NEED_MAIL] = { 503, { 5, 5, 1 }, "Send MAIL first" },
    [SMTP_REPLY_NEED_RCPT] = { 503, { 5, 5, 1 }, "Send RCPT first" },
    [SMTP_REPLY_NESTED_MAIL] = { 503, { 5, 5, 1 }, "Sender already given" },
    [SMTP_REPLY_TLS_ACTIVE] = { 503, { 5, 5, 1 }, "TLS already active" },
    [SMTP_REPLY_AUTH_DONE] = { 503, { 5, 5, 1 }, "Already authenticated" },
    [SMTP_REPLY_AUTH_IN_MAIL] = { 503, { 5, 5, 1 }, "No AUTH during a mail transaction" },
    [SMTP_REPLY_BDAT_EXPECTED] = { 503, { 5, 5, 1 }, "BDAT or RSET expected" },
    [SMTP_REPLY_EARLY_CONTENT] = { 503, { 5, 5, 0 }, "Content before the reply to DATA" },
    [SMTP_REPLY_AUTH_MECHANISM] = { 504, { 5, 5, 4 }, "Authentication mechanism not supported" },
    [SMTP_REPLY_NO_MAIL_SERVICE] = { 521, { 5, 3, 2 }, "%s does not accept mail" },
    [SMTP_REPLY_AUTH_REQUIRED] = { 530, { 5, 7, 0 }, "Authentication required" },
    [SMTP_REPLY_TLS_REQUIRED] = { 530, { 5, 7, 0 }, "Must issue a STARTTLS command first" },
    [SMTP_REPLY_AUTH_FAILED] = { 535, { 5, 7, 8 }, "Authentication credentials invalid" },
    [SMTP_REPLY_AUTH_NEEDS_TLS] = { 538, { 5, 7, 11 }, "Encryption required for authentication" },
    [SMTP_REPLY_RELAY_DENIED] = { 550, { 5, 7, 1 }, "Relaying denied" },
    [SMTP_REPLY_POLICY_REFUSED] = { 550, { 5, 7, 1 }, "Refused by policy" },
    [SMTP_REPLY_NO_USER] = { 550, { 5, 1, 1 }, "No such user here" },
    [SMTP_REPLY_NO_DOMAIN] = { 550, { 5, 1, 2 }, "No such domain" },
    [SMTP_REPLY_SENDER_NO_MAIL] = { 550, { 5, 7, 27 }, "Sender domain accepts no mail" },
    [SMTP_REPLY_REQUIRETLS] = { 550, { 5, 7, 30 }, "REQUIRETLS support required" },
    [SMTP_REPLY_MESSAGE_BIG] = { 552, { 5, 3, 4 }, "Message too big" },
    [SMTP_REPLY_HEADER_BIG] = { 552, { 5, 3, 4 }, "Message header too big" },
    [SMTP_REPLY_SENDER_UTF8] = { 550, { 5, 6, 7 }, "Non-ASCII sender address needs SMTPUTF8" },
    [SMTP_REPLY_RECIPIENT_UTF8] = { 553, { 5, 6, 7 }, "Non-ASCII recipient address needs SMTPUTF8" },
    [SMTP_REPLY_SENDER_REFUSED] = { 553, { 5, 1, 8 }, "Sender address refused" },
    [SMTP_REPLY_NO_VALID_RCPT] = { 554, { 5, 5, 1 }, "No valid recipients" },
    [SMTP_REPLY_LOOP] = { 554, { 5, 4, 6 }, "Mail loop detected [loop]" },
    [SMTP_REPLY_LOOP_EXCHANGE] = { 554,
                                   { 5, 4, 14 },
                                   "Hop count exceeded - possible mail loop [loop]" },
    [SMTP_REPLY_BARE_NEWLINE] = { 554, { 5, 6, 0 }, "Bare CR or LF in message refused" },
    [SMTP_REPLY_NUL] = { 554, { 5, 6, 0 }, "NUL in message refused" },
    [SMTP_REPLY_TEXT_LINE_LONG] = { 554, { 5, 6, 0 }, "Line too long in message" },
    [SMTP_REPLY_8BIT_HEADER] = { 554, { 5, 6, 7 }, "Non-ASCII header needs SMTPUTF8" },
    [SMTP_REPLY_TRANSACTION_FAILED] = { 554, { 5, 0, 0 }, "Transaction failed" },
    [SMTP_REPLY_NO_SERVICE] = { 554, { 5, 3, 2 }, "No SMTP service here" },
    [SMTP_REPLY_PARAM_UNKNOWN] = { 555, { 5, 5, 4 }, "Parameter not recognized or not offered" },
    [SMTP_REPLY_BINARYMIME] = { 555, { 5, 6, 1 }, "BODY=BINARYMIME not supported" },
    [SMTP_REPLY_NULL_MX] = { 556, { 5, 1, 10 }, "Recipient domain accepts no mail" },
};
/* clang-format on */

const struct smtp_reply_text *smtp_reply_get(enum smtp_reply_id id)
{
    CHECK((unsigned)id < SMTP_REPLIES);
    return &texts[id];
}

enum smtp_reply_id smtp_reply_for_parse(enum smtp_parse_result result)
{
    static const uint8_t replies[SMTP_PARSE_RESULTS] = {
        [SMTP_PARSE_LINE_LONG] = SMTP_REPLY_LINE_LONG,
        [SMTP_PARSE_CONTROL] = SMTP_REPLY_CONTROL,
        [SMTP_PARSE_UNKNOWN] = SMTP_REPLY_UNKNOWN_COMMAND,
        [SMTP_PARSE_HTTP] = SMTP_REPLY_HTTP,
        [SMTP_PARSE_SYNTAX] = SMTP_REPLY_SYNTAX,
        [SMTP_PARSE_NO_ARGUMENT] = SMTP_REPLY_NO_ARGUMENT,
        [SMTP_PARSE_HAS_ARGUMENT] = SMTP_REPLY_HAS_ARGUMENT,
        [SMTP_PARSE_HELO] = SMTP_REPLY_BAD_HELO,
        [SMTP_PARSE_SENDER] = SMTP_REPLY_BAD_SENDER,
        [SMTP_PARSE_RECIPIENT] = SMTP_REPLY_BAD_RECIPIENT,
        [SMTP_PARSE_ADDRESS_LONG] = SMTP_REPLY_ADDRESS_LONG,
        [SMTP_PARSE_SENDER_UTF8] = SMTP_REPLY_SENDER_UTF8,
        [SMTP_PARSE_RECIPIENT_UTF8] = SMTP_REPLY_RECIPIENT_UTF8,
        [SMTP_PARSE_PARAM_UNKNOWN] = SMTP_REPLY_PARAM_UNKNOWN,
        [SMTP_PARSE_PARAM_DUPLICATE] = SMTP_REPLY_PARAM_DUPLICATE,
        [SMTP_PARSE_PARAM_VALUE] = SMTP_REPLY_PARAM_VALUE,
        [SMTP_PARSE_BINARYMIME] = SMTP_REPLY_BINARYMIME,
        [SMTP_PARSE_CHUNK] = SMTP_REPLY_BAD_CHUNK,
        [SMTP_PARSE_MECHANISM] = SMTP_REPLY_AUTH_MECHANISM,
        [SMTP_PARSE_BASE64] = SMTP_REPLY_BAD_BASE64,
    };
    CHECK(result > SMTP_PARSE_OK && result < SMTP_PARSE_RESULTS);
    return (enum smtp_reply_id)replies[result];
}

/* ---- writing ---- */

/* read: how much of text was written. */
static size_t escape(struct slice text, uint8_t *out, size_t capacity, size_t *read)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = 0, i = 0;
    for (; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool plain = c >= ' ' && c <= '~' && c != '\\';
        if (capacity - size < (plain ? 1U : 4U))
            break;
        if (plain) {
            out[size++] = c;
            continue;
        }
        out[size++] = '\\';
        out[size++] = 'x';
        out[size++] = (uint8_t)digits[c >> 4];
        out[size++] = (uint8_t)digits[c & 15];
    }
    *read = i;
    return size;
}

size_t smtp_reply_escape(struct slice text, uint8_t *out, size_t capacity)
{
    size_t read;
    return escape(text, out, capacity, &read);
}

/* One line being made; room for CRLF is always kept. */
struct line {
    size_t size;
    uint8_t octets[SMTP_REPLY_LINE_MAX];
};

static void line_add(struct line *line, struct slice text)
{
    line->size +=
        smtp_reply_escape(text, line->octets + line->size, SMTP_REPLY_LINE_MAX - 2 - line->size);
}

/* Of ours: printable, and short enough. */
static void line_add_own(struct line *line, struct slice text)
{
    CHECK(text.size <= SMTP_REPLY_LINE_MAX - 2 - line->size);
    memcpy(line->octets + line->size, text.data, text.size);
    line->size += text.size;
}

static void line_add_number(struct line *line, unsigned number)
{
    uint8_t digits[5];
    size_t i = sizeof(digits);
    CHECK(number <= UINT16_MAX);
    do {
        digits[--i] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    line_add_own(line, slice_of(digits + i, sizeof(digits) - i));
}

static void line_begin(struct line *line, unsigned code, bool more, struct smtp_enhanced enhanced)
{
    CHECK(code >= 200 && code <= 599);
    line->size = 0;
    line_add_number(line, code);
    line_add_own(line, more ? SLICE("-") : SLICE(" "));
    if (enhanced.klass == 0)
        return;
    CHECK(enhanced.klass == code / 100);
    line_add_number(line, enhanced.klass);
    line_add_own(line, SLICE("."));
    line_add_number(line, enhanced.subject);
    line_add_own(line, SLICE("."));
    line_add_number(line, enhanced.detail);
    line_add_own(line, SLICE(" "));
}

static int line_write(struct line *line, uint8_t *out, size_t capacity)
{
    CHECK(line->size <= SMTP_REPLY_LINE_MAX - 2);
    line->octets[line->size++] = '\r';
    line->octets[line->size++] = '\n';
    if (line->size > capacity)
        return -ENOSPC;
    memcpy(out, line->octets, line->size);
    return (int)line->size;
}

int smtp_reply_write(enum smtp_reply_id id, bool enhanced, struct slice detail, uint8_t *out,
                     size_t capacity)
{
    const struct smtp_reply_text *reply = smtp_reply_get(id);
    struct line line;
    line_begin(&line, reply->code, false, enhanced ? reply->enhanced : (struct smtp_enhanced) {});
    const char *place = strstr(reply->text, "%s");
    if (place == NULL) {
        line_add_own(&line, slice_of_string(reply->text));
    } else {
        line_add_own(&line, slice_of(reply->text, (size_t)(place - reply->text)));
        line_add(&line, detail);
        line_add(&line, slice_of_string(place + 2));
    }
    return line_write(&line, out, capacity);
}

int smtp_reply_write_lines(unsigned code, struct smtp_enhanced enhanced, const struct slice *lines,
                           size_t count, uint8_t *out, size_t capacity)
{
    CHECK(count > 0 && count <= SMTP_REPLY_LINES_MAX);
    int size = 0;
    for (size_t i = 0; i < count; i++) {
        struct line line;
        line_begin(&line, code, i + 1 < count, enhanced);
        line_add(&line, lines[i]);
        const int r = line_write(&line, out + size, capacity - (size_t)size);
        if (r < 0)
            return r;
        size += r;
    }
    return size;
}

/* ---- reading ---- */

enum response_state {
    RESPONSE_CODE = 0,
    RESPONSE_SEPARATOR,
    RESPONSE_TEXT,
    RESPONSE_CR,
    RESPONSE_DONE,
    RESPONSE_BAD,
};

void smtp_response_begin(struct smtp_response *response)
{
    *response = (struct smtp_response) { .state = RESPONSE_CODE };
}

/* Up to three digits at *index, then end; -1 if there are none or more. */
static int enhanced_number(struct slice s, size_t *index)
{
    int value = 0;
    size_t i = *index;
    while (i < s.size && i - *index < 4 && s.data[i] >= '0' && s.data[i] <= '9')
        value = value * 10 + (s.data[i++] - '0');
    const size_t digits = i - *index;
    *index = i;
    return digits == 0 || digits > 3 ? -1 : value;
}

/* RFC 2034 4: class "." subject "." detail, then a blank or the end; the class as in the code. */
static struct smtp_enhanced enhanced_of(struct slice line, unsigned code)
{
    const struct smtp_enhanced none = { .klass = 0 };
    if (line.size < 5 || line.data[0] != '0' + code / 100 || code / 100 == 3 || line.data[1] != '.')
        return none;
    size_t index = 2;
    const int subject = enhanced_number(line, &index);
    if (subject < 0 || index == line.size || line.data[index] != '.')
        return none;
    index++;
    const int detail = enhanced_number(line, &index);
    if (detail < 0 || (index < line.size && line.data[index] != ' '))
        return none;
    return (struct smtp_enhanced) { (uint8_t)(code / 100), (uint16_t)subject, (uint16_t)detail };
}

static void response_keep_line(struct smtp_response *response)
{
    const struct slice line = smtp_response_line(response);
    if (response->enhanced.klass == 0)
        response->enhanced = enhanced_of(line, response->code);
    if (response->lines > 1 && response->text_size > 0 && !response->text_full) {
        if (response->text_size == SMTP_RESPONSE_TEXT_MAX)
            response->text_full = true;
        else
            response->text[response->text_size++] = ' ';
    }
    if (response->text_full)
        return;
    size_t read = 0;
    const size_t size = escape(line, response->text + response->text_size,
                               (size_t)SMTP_RESPONSE_TEXT_MAX - response->text_size, &read);
    response->text_size = (uint16_t)(response->text_size + size);
    response->text_full = read < line.size;
}

/* One octet: MORE, or what its line came to. */
static enum smtp_response_result response_octet(struct smtp_response *response, uint8_t octet)
{
    if (++response->bytes > SMTP_RESPONSE_BYTES_MAX ||
        ++response->line_bytes > SMTP_RESPONSE_LINE_MAX || octet == 0)
        return SMTP_RESPONSE_BAD;

    switch ((enum response_state)response->state) {
    case RESPONSE_CODE:
        if (octet < '0' || octet > '9')
            return SMTP_RESPONSE_BAD;
        if (response->digits == 0) {
            if (++response->lines > SMTP_RESPONSE_LINES_MAX || octet < '2' || octet > '5')
                return SMTP_RESPONSE_BAD;
            response->digits_value = 0;
            response->line_size = 0;
        }
        response->digits_value = (uint16_t)(response->digits_value * 10 + (octet - '0'));
        if (++response->digits < 3)
            return SMTP_RESPONSE_MORE;
        if (response->lines > 1 && response->code != response->digits_value)
            return SMTP_RESPONSE_BAD;
        response->code = response->digits_value;
        response->state = RESPONSE_SEPARATOR;
        return SMTP_RESPONSE_MORE;
    case RESPONSE_SEPARATOR:
        if (octet != ' ' && octet != '-' && octet != '\r')
            return SMTP_RESPONSE_BAD;
        response->more = octet == '-';
        response->state = octet == '\r' ? RESPONSE_CR : RESPONSE_TEXT;
        return SMTP_RESPONSE_MORE;
    case RESPONSE_TEXT:
        if (octet == '\n')
            return SMTP_RESPONSE_BAD;
        if (octet == '\r')
            response->state = RESPONSE_CR;
        else if (response->line_size < SMTP_RESPONSE_LINE_KEPT)
            response->line[response->line_size++] = octet;
        return SMTP_RESPONSE_MORE;
    case RESPONSE_CR:
        if (octet != '\n')
            return SMTP_RESPONSE_BAD;
        response_keep_line(response);
        response->digits = 0;
        response->line_bytes = 0;
        response->state = response->more ? RESPONSE_CODE : RESPONSE_DONE;
        return response->more ? SMTP_RESPONSE_LINE : SMTP_RESPONSE_DONE;
    case RESPONSE_DONE:
    case RESPONSE_BAD: break;
    }
    return SMTP_RESPONSE_BAD;
}

enum smtp_response_result smtp_response_take(struct smtp_response *response, struct slice *in)
{
    CHECK(response->state != RESPONSE_DONE);
    if (response->state == RESPONSE_BAD)
        return SMTP_RESPONSE_BAD;
    for (size_t i = 0; i < in->size; i++) {
        const enum smtp_response_result r = response_octet(response, in->data[i]);
        if (r == SMTP_RESPONSE_MORE)
            continue;
        if (r == SMTP_RESPONSE_BAD)
            response->state = RESPONSE_BAD;
        *in = slice_from(*in, i + 1);
        return r;
    }
    if (in->size > 0)
        *in = slice_from(*in, in->size);
    return SMTP_RESPONSE_MORE;
}

/* ---- capabilities ---- */

static struct slice word_take(struct slice *rest)
{
    while (rest->size > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t'))
        *rest = slice_from(*rest, 1);
    size_t size = 0;
    while (size < rest->size && rest->data[size] != ' ' && rest->data[size] != '\t')
        size++;
    const struct slice word = slice_of(rest->data, size);
    if (size > 0)
        *rest = slice_from(*rest, size);
    return word;
}

static void add_limits(struct smtp_capabilities *capabilities, struct slice rest)
{
    const struct {
        struct slice name;
        uint32_t *limit;
    } limits[] = {
        { SLICE("RCPTMAX="), &capabilities->rcpt_max },
        { SLICE("MAILMAX="), &capabilities->mail_max },
        { SLICE("RCPTDOMAINMAX="), &capabilities->rcpt_domain_max },
    };
    for (struct slice word = word_take(&rest); word.size > 0; word = word_take(&rest)) {
        for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
            uint64_t value;
            /* RFC 9422 4: one to six digits */
            if (slice_starts_nocase(word, limits[i].name) &&
                slice_to_u64(slice_from(word, limits[i].name.size), 999'999, &value) == 0)
                *limits[i].limit = (uint32_t)value;
        }
    }
}

static void add_mechanisms(struct smtp_capabilities *capabilities, struct slice rest)
{
    static const struct {
        struct slice name;
        enum smtp_mechanism mechanism;
    } mechanisms[] = {
        { SLICE("PLAIN"), SMTP_MECHANISM_PLAIN },
        { SLICE("LOGIN"), SMTP_MECHANISM_LOGIN },
        { SLICE("EXTERNAL"), SMTP_MECHANISM_EXTERNAL },
        { SLICE("SCRAM-SHA-256"), SMTP_MECHANISM_SCRAM_SHA_256 },
    };
    for (struct slice word = word_take(&rest); word.size > 0; word = word_take(&rest))
        for (size_t i = 0; i < ARRAY_COUNT(mechanisms); i++)
            if (slice_equal_nocase(word, mechanisms[i].name))
                capabilities->mechanisms |= mechanisms[i].mechanism;
}

void smtp_capabilities_add(struct smtp_capabilities *capabilities, struct slice line)
{
    static const struct {
        struct slice name;
        enum smtp_capability capability;
    } keywords[] = {
        { SLICE("PIPELINING"), SMTP_CAN_PIPELINING },
        { SLICE("SIZE"), SMTP_CAN_SIZE },
        { SLICE("8BITMIME"), SMTP_CAN_8BITMIME },
        { SLICE("SMTPUTF8"), SMTP_CAN_SMTPUTF8 },
        { SLICE("CHUNKING"), SMTP_CAN_CHUNKING },
        { SLICE("DSN"), SMTP_CAN_DSN },
        { SLICE("ENHANCEDSTATUSCODES"), SMTP_CAN_ENHANCEDSTATUSCODES },
        { SLICE("STARTTLS"), SMTP_CAN_STARTTLS },
        { SLICE("LIMITS"), SMTP_CAN_LIMITS },
        { SLICE("REQUIRETLS"), SMTP_CAN_REQUIRETLS },
        { SLICE("BINARYMIME"), SMTP_CAN_BINARYMIME },
        { SLICE("AUTH"), SMTP_CAN_AUTH },
    };
    if (capabilities->lines < UINT16_MAX)
        capabilities->lines++;
    if (capabilities->lines == 1)
        return;
    struct slice rest = line;
    const struct slice keyword = word_take(&rest);
    unsigned found = 0;
    for (size_t i = 0; i < ARRAY_COUNT(keywords); i++)
        if (slice_equal_nocase(keyword, keywords[i].name))
            found = keywords[i].capability;
    if (found == SMTP_CAN_SIZE) {
        const struct slice number = word_take(&rest);
        uint64_t value = 0;
        if (number.size > 0 && slice_to_u64(number, UINT64_MAX, &value) == -EINVAL)
            return;
        capabilities->size_max = value;
    }
    if (found == SMTP_CAN_LIMITS)
        add_limits(capabilities, rest);
    if (found == SMTP_CAN_AUTH)
        add_mechanisms(capabilities, rest);
    capabilities->can |= found;
}
