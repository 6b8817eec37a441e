/*
 * smtp_parse.c - command lines, taken apart from left to right
 *
 * The verb is looked up, control octets are refused for the whole line, then one function per verb
 * reads the rest. MAIL and RCPT share the path and the parameter loop; each parameter is known by a
 * table with the extension it belongs to, so what the session did not offer is unknown to it.
 *
 * Owns nothing, borrows the line. Bounds: SMTP_LINE_MAX and the maxima in smtp_parse.h. Surprises:
 * blanks after "FROM:" and "TO:" are let pass (RFC 5321 forbids them, many clients send them);
 * an HTTP method is known before anything else about the line is looked at, its length too; and
 * whatever is wrong with a BDAT line is SMTP_PARSE_CHUNK, for its content follows all the same.
 */
#include "mta/smtp_parse.h"

#include <errno.h>

#include "core/check.h"

static const struct {
    struct slice name;
    enum smtp_verb verb;
} verbs[] = {
    { SLICE("EHLO"), SMTP_VERB_EHLO },
    { SLICE("HELO"), SMTP_VERB_HELO },
    { SLICE("MAIL"), SMTP_VERB_MAIL },
    { SLICE("RCPT"), SMTP_VERB_RCPT },
    { SLICE("DATA"), SMTP_VERB_DATA },
    { SLICE("BDAT"), SMTP_VERB_BDAT },
    { SLICE("RSET"), SMTP_VERB_RSET },
    { SLICE("NOOP"), SMTP_VERB_NOOP },
    { SLICE("VRFY"), SMTP_VERB_VRFY },
    { SLICE("EXPN"), SMTP_VERB_EXPN },
    { SLICE("HELP"), SMTP_VERB_HELP },
    { SLICE("QUIT"), SMTP_VERB_QUIT },
    { SLICE("STARTTLS"), SMTP_VERB_STARTTLS },
    { SLICE("AUTH"), SMTP_VERB_AUTH },
    { SLICE("GET"), SMTP_VERB_HTTP },
    { SLICE("POST"), SMTP_VERB_HTTP },
    { SLICE("PUT"), SMTP_VERB_HTTP },
    { SLICE("HEAD"), SMTP_VERB_HTTP },
    { SLICE("CONNECT"), SMTP_VERB_HTTP },
    { SLICE("OPTIONS"), SMTP_VERB_HTTP },
    { SLICE("DELETE"), SMTP_VERB_HTTP },
    { SLICE("PATCH"), SMTP_VERB_HTTP },
    { SLICE("TRACE"), SMTP_VERB_HTTP },
    { SLICE("PRI"), SMTP_VERB_HTTP }, /* HTTP/2's preface */
};

const char *smtp_verb_name(enum smtp_verb verb)
{
    static const char *const names[SMTP_VERBS] = {
        [SMTP_VERB_UNKNOWN] = "UNKNOWN",   [SMTP_VERB_EHLO] = "EHLO", [SMTP_VERB_HELO] = "HELO",
        [SMTP_VERB_MAIL] = "MAIL",         [SMTP_VERB_RCPT] = "RCPT", [SMTP_VERB_DATA] = "DATA",
        [SMTP_VERB_BDAT] = "BDAT",         [SMTP_VERB_RSET] = "RSET", [SMTP_VERB_NOOP] = "NOOP",
        [SMTP_VERB_VRFY] = "VRFY",         [SMTP_VERB_EXPN] = "EXPN", [SMTP_VERB_HELP] = "HELP",
        [SMTP_VERB_QUIT] = "QUIT",         [SMTP_VERB_AUTH] = "AUTH", [SMTP_VERB_HTTP] = "HTTP",
        [SMTP_VERB_STARTTLS] = "STARTTLS",
    };
    CHECK((unsigned)verb < SMTP_VERBS);
    return names[verb];
}

static enum smtp_verb verb_of(struct slice word)
{
    for (size_t i = 0; i < ARRAY_COUNT(verbs); i++)
        if (slice_equal_nocase(word, verbs[i].name))
            return verbs[i].verb;
    return SMTP_VERB_UNKNOWN;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(uint8_t c)
{
    return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool has_octet(struct slice s, uint8_t low, uint8_t high)
{
    for (size_t i = 0; i < s.size; i++)
        if (s.data[i] >= low && s.data[i] <= high)
            return true;
    return false;
}

static struct slice trim(struct slice s)
{
    while (s.size > 0 && s.data[s.size - 1] == ' ')
        s.size--;
    while (s.size > 0 && s.data[0] == ' ')
        s = slice_from(s, 1);
    return s;
}

/* The octets before the first blank (all, if there is none); rest keeps what follows the blanks. */
static struct slice word_take(struct slice *rest)
{
    const ptrdiff_t blank = slice_find(*rest, ' ');
    if (blank < 0) {
        const struct slice word = *rest;
        rest->size = 0;
        return word;
    }
    const struct slice word = slice_part(*rest, 0, (size_t)blank);
    *rest = trim(slice_from(*rest, (size_t)blank));
    return word;
}

/* ---- xtext, RFC 3461 4 ---- */

static int hex_value(uint8_t c)
{
    return is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The octet at *index, which is moved behind it; -1: not xtext. */
static int xtext_octet(struct slice xtext, size_t *index)
{
    const uint8_t c = xtext.data[(*index)++];
    if (c < '!' || c > '~' || c == '=')
        return -1;
    if (c != '+')
        return c;
    if (xtext.size - *index < 2)
        return -1;
    const int high = hex_value(xtext.data[*index]), low = hex_value(xtext.data[*index + 1]);
    *index += 2;
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool smtp_xtext_valid(struct slice xtext)
{
    for (size_t i = 0; i < xtext.size;)
        if (xtext_octet(xtext, &i) < 0)
            return false;
    return true;
}

/* A DSN shows it decoded: a CR LF in there would be a header of the sender's making. */
static bool xtext_printable(struct slice xtext)
{
    for (size_t i = 0; i < xtext.size;) {
        const int octet = xtext_octet(xtext, &i);
        if (octet < ' ' || octet > '~')
            return false;
    }
    return true;
}

int smtp_xtext_decode(struct slice xtext, uint8_t *out, size_t capacity)
{
    size_t size = 0;
    for (size_t i = 0; i < xtext.size;) {
        const int octet = xtext_octet(xtext, &i);
        if (octet < 0)
            return -EINVAL;
        if (size == capacity)
            return -ENOSPC;
        out[size++] = (uint8_t)octet;
    }
    return (int)size;
}

int smtp_xtext_encode(struct slice text, uint8_t *out, size_t capacity)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool plain = c >= '!' && c <= '~' && c != '+' && c != '=';
        if (capacity - size < (plain ? 1U : 3U))
            return -ENOSPC;
        if (plain) {
            out[size++] = c;
        } else {
            out[size++] = '+';
            out[size++] = (uint8_t)digits[c >> 4];
            out[size++] = (uint8_t)digits[c & 15];
        }
    }
    return (int)size;
}

/* RFC 6533 3: "\x{" 2 to 6 digits "}" at *index; never a control or a surrogate. */
static bool embedded_point(struct slice s, size_t *index)
{
    uint32_t point = 0;
    size_t i = *index + 3;
    if (!slice_equal(slice_part(s, *index, 3), SLICE("\\x{")))
        return false;
    for (; i < s.size && hex_value(s.data[i]) >= 0 && i - *index < 9; i++)
        point = point << 4 | (uint32_t)hex_value(s.data[i]);
    const bool ended = i - *index >= 5 && i < s.size && s.data[i] == '}';
    *index = i + 1;
    return ended && point >= 0x20 && (point < 0x7f || point > 0x9f) && point <= 0x10ffff &&
           (point < 0xd800 || point > 0xdfff);
}

/* utf-8-addr-xtext, or with raw UTF-8 utf-8-addr-unitext: QCHAR and embedded points. */
static bool utf8_address_valid(struct slice s, bool raw)
{
    for (size_t i = 0; i < s.size;) {
        const uint8_t c = s.data[i];
        if (c == '\\') {
            if (!embedded_point(s, &i))
                return false;
            continue;
        }
        if (c < '!' || c == 0x7f || c == '+' || c == '=' || (c >= 0x80 && !raw))
            return false;
        i++;
    }
    return address_utf8_valid(s);
}

/* ---- parameters of MAIL and RCPT ---- */

enum parameter {
    PARAMETER_SIZE,
    PARAMETER_BODY,
    PARAMETER_SMTPUTF8,
    PARAMETER_RET,
    PARAMETER_ENVID,
    PARAMETER_AUTH,
    PARAMETER_REQUIRETLS,
    PARAMETER_NOTIFY,
    PARAMETER_ORCPT,
};

static const struct {
    struct slice name;
    enum smtp_verb verb;
    enum smtp_extension extension;
    bool has_value;
} parameters[] = {
    [PARAMETER_SIZE] = { SLICE("SIZE"), SMTP_VERB_MAIL, SMTP_EXT_SIZE, true },
    [PARAMETER_BODY] = { SLICE("BODY"), SMTP_VERB_MAIL, SMTP_EXT_8BITMIME, true },
    [PARAMETER_SMTPUTF8] = { SLICE("SMTPUTF8"), SMTP_VERB_MAIL, SMTP_EXT_SMTPUTF8, false },
    [PARAMETER_RET] = { SLICE("RET"), SMTP_VERB_MAIL, SMTP_EXT_DSN, true },
    [PARAMETER_ENVID] = { SLICE("ENVID"), SMTP_VERB_MAIL, SMTP_EXT_DSN, true },
    [PARAMETER_AUTH] = { SLICE("AUTH"), SMTP_VERB_MAIL, SMTP_EXT_AUTH, true },
    [PARAMETER_REQUIRETLS] = { SLICE("REQUIRETLS"), SMTP_VERB_MAIL, SMTP_EXT_REQUIRETLS, false },
    [PARAMETER_NOTIFY] = { SLICE("NOTIFY"), SMTP_VERB_RCPT, SMTP_EXT_DSN, true },
    [PARAMETER_ORCPT] = { SLICE("ORCPT"), SMTP_VERB_RCPT, SMTP_EXT_DSN, true },
};

static enum smtp_parse_result value_if(bool valid)
{
    return valid ? SMTP_PARSE_OK : SMTP_PARSE_PARAM_VALUE;
}

static enum smtp_parse_result parse_size(struct slice value, struct smtp_mail *mail)
{
    mail->size_given = true;
    if (value.size > 20) /* RFC 1870 5: 1*20DIGIT */
        return SMTP_PARSE_PARAM_VALUE;
    for (size_t i = 0; i < value.size; i++)
        if (!is_digit(value.data[i]))
            return SMTP_PARSE_PARAM_VALUE;
    if (slice_to_u64(value, UINT64_MAX, &mail->size) < 0)
        mail->size = UINT64_MAX;
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_body(struct slice value, struct smtp_mail *mail)
{
    if (slice_equal_nocase(value, SLICE("BINARYMIME")))
        return SMTP_PARSE_BINARYMIME;
    if (slice_equal_nocase(value, SLICE("7BIT")))
        mail->body = SMTP_BODY_7BIT;
    else if (slice_equal_nocase(value, SLICE("8BITMIME")))
        mail->body = SMTP_BODY_8BITMIME;
    else
        return SMTP_PARSE_PARAM_VALUE;
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_ret(struct slice value, struct smtp_mail *mail)
{
    if (slice_equal_nocase(value, SLICE("FULL")))
        mail->ret = SMTP_RET_FULL;
    else if (slice_equal_nocase(value, SLICE("HDRS")))
        mail->ret = SMTP_RET_HDRS;
    else
        return SMTP_PARSE_PARAM_VALUE;
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_notify(struct slice value, struct smtp_rcpt *rcpt)
{
    static const struct {
        struct slice name;
        unsigned bit;
    } conditions[] = {
        { SLICE("NEVER"), SMTP_NOTIFY_NEVER },
        { SLICE("SUCCESS"), SMTP_NOTIFY_SUCCESS },
        { SLICE("FAILURE"), SMTP_NOTIFY_FAILURE },
        { SLICE("DELAY"), SMTP_NOTIFY_DELAY },
    };
    for (size_t i = 0; i <= value.size;) {
        const struct slice rest = slice_from(value, i);
        const ptrdiff_t comma = slice_find(rest, ',');
        const struct slice word = comma < 0 ? rest : slice_part(rest, 0, (size_t)comma);
        unsigned bit = 0;
        for (size_t j = 0; j < ARRAY_COUNT(conditions); j++)
            if (slice_equal_nocase(word, conditions[j].name))
                bit = conditions[j].bit;
        if (bit == 0 || (rcpt->notify & bit) != 0)
            return SMTP_PARSE_PARAM_VALUE;
        rcpt->notify |= bit;
        i += word.size + 1;
    }
    return value_if((rcpt->notify & SMTP_NOTIFY_NEVER) == 0 || rcpt->notify == SMTP_NOTIFY_NEVER);
}

static enum smtp_parse_result parse_orcpt(struct slice value, bool utf8, struct smtp_rcpt *rcpt)
{
    const ptrdiff_t semicolon = slice_find(value, ';');
    if (semicolon <= 0 || value.size > SMTP_ORCPT_MAX)
        return SMTP_PARSE_PARAM_VALUE;
    rcpt->orcpt = value;
    rcpt->orcpt_type = slice_part(value, 0, (size_t)semicolon);
    rcpt->orcpt_address = slice_from(value, (size_t)semicolon + 1);
    for (size_t i = 0; i < rcpt->orcpt_type.size; i++)
        if (!is_alphanumeric(rcpt->orcpt_type.data[i]) && rcpt->orcpt_type.data[i] != '-')
            return SMTP_PARSE_PARAM_VALUE;
    if (rcpt->orcpt_address.size == 0)
        return SMTP_PARSE_PARAM_VALUE;
    if (slice_equal_nocase(rcpt->orcpt_type, SLICE("utf-8")))
        return value_if(utf8_address_valid(rcpt->orcpt_address, utf8));
    return value_if(xtext_printable(rcpt->orcpt_address));
}

static enum smtp_parse_result parse_value(enum parameter parameter, struct slice value,
                                          unsigned extensions, struct smtp_command *command)
{
    struct smtp_mail *mail = &command->mail;
    switch (parameter) {
    case PARAMETER_SIZE: return parse_size(value, mail);
    case PARAMETER_BODY: return parse_body(value, mail);
    case PARAMETER_SMTPUTF8: mail->smtputf8 = true; return SMTP_PARSE_OK;
    case PARAMETER_RET: return parse_ret(value, mail);
    case PARAMETER_REQUIRETLS: mail->requiretls = true; return SMTP_PARSE_OK;
    case PARAMETER_NOTIFY: return parse_notify(value, &command->rcpt);
    case PARAMETER_ENVID:
        mail->envid = value;
        return value_if(value.size <= SMTP_ENVID_MAX && xtext_printable(value));
    case PARAMETER_AUTH:
        mail->auth = value;
        return value_if(value.size <= SMTP_AUTH_PARAM_MAX && xtext_printable(value));
    case PARAMETER_ORCPT:
        return parse_orcpt(value, (extensions & SMTP_EXT_UTF8_TRANSACTION) != 0, &command->rcpt);
    }
    return SMTP_PARSE_PARAM_UNKNOWN;
}

static bool keyword_valid(struct slice keyword)
{
    for (size_t i = 0; i < keyword.size; i++)
        if (!is_alphanumeric(keyword.data[i]) && (keyword.data[i] != '-' || i == 0))
            return false;
    return keyword.size > 0;
}

/* rest: *(SP keyword ["=" value]), from the first keyword on. */
static enum smtp_parse_result parse_parameters(struct slice rest, unsigned extensions,
                                               struct smtp_command *command)
{
    unsigned seen = 0;
    while (rest.size > 0) {
        const struct slice word = word_take(&rest);
        const ptrdiff_t equals = slice_find(word, '=');
        const struct slice name = equals < 0 ? word : slice_part(word, 0, (size_t)equals);
        if (!keyword_valid(name))
            return SMTP_PARSE_SYNTAX;
        unsigned i = 0;
        while (i < ARRAY_COUNT(parameters) && (parameters[i].verb != command->verb ||
                                               (parameters[i].extension & extensions) == 0 ||
                                               !slice_equal_nocase(name, parameters[i].name)))
            i++;
        if (i == ARRAY_COUNT(parameters))
            return SMTP_PARSE_PARAM_UNKNOWN;
        if ((seen >> i & 1) != 0)
            return SMTP_PARSE_PARAM_DUPLICATE;
        seen |= 1U << i;
        if (parameters[i].has_value != (equals >= 0))
            return SMTP_PARSE_PARAM_VALUE;
        struct slice value = slice_of(NULL, 0);
        if (equals >= 0) {
            value = slice_from(word, (size_t)equals + 1);
            if (value.size == 0 || slice_find(value, '=') >= 0)
                return SMTP_PARSE_PARAM_VALUE;
        }
        const enum smtp_parse_result r = parse_value((enum parameter)i, value, extensions, command);
        if (r != SMTP_PARSE_OK)
            return r;
    }
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_path(struct slice *rest, struct slice prefix, unsigned allow,
                                         struct address *path)
{
    const bool sender = (allow & ADDRESS_ALLOW_NULL) != 0;
    if (rest->size == 0)
        return SMTP_PARSE_NO_ARGUMENT;
    if (!slice_starts_nocase(*rest, prefix))
        return SMTP_PARSE_SYNTAX;
    *rest = trim(slice_from(*rest, prefix.size));
    size_t used = 0;
    switch (address_parse_path(*rest, allow, path, &used)) {
    case ADDRESS_OK: break;
    case ADDRESS_TOO_LONG: return SMTP_PARSE_ADDRESS_LONG;
    case ADDRESS_NEEDS_UTF8: return sender ? SMTP_PARSE_SENDER_UTF8 : SMTP_PARSE_RECIPIENT_UTF8;
    case ADDRESS_SYNTAX:
    case ADDRESS_LOCAL_SYNTAX:
    case ADDRESS_DOMAIN_SYNTAX: return sender ? SMTP_PARSE_SENDER : SMTP_PARSE_RECIPIENT;
    }
    *rest = slice_from(*rest, used);
    if (rest->size > 0 && rest->data[0] != ' ')
        return SMTP_PARSE_SYNTAX;
    *rest = trim(*rest);
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_mail(struct slice rest, unsigned extensions,
                                         struct smtp_command *command)
{
    const unsigned utf8 = (extensions & SMTP_EXT_SMTPUTF8) != 0 ? ADDRESS_ALLOW_UTF8 : 0;
    enum smtp_parse_result r =
        parse_path(&rest, SLICE("FROM:"), ADDRESS_ALLOW_NULL | utf8, &command->mail.path);
    if (r == SMTP_PARSE_OK)
        r = parse_parameters(rest, extensions, command);
    if (r == SMTP_PARSE_OK && command->mail.path.utf8 && !command->mail.smtputf8)
        return SMTP_PARSE_SENDER_UTF8;
    return r;
}

static enum smtp_parse_result parse_rcpt(struct slice rest, unsigned extensions,
                                         struct smtp_command *command)
{
    const unsigned utf8 = (extensions & SMTP_EXT_UTF8_TRANSACTION) != 0 ? ADDRESS_ALLOW_UTF8 : 0;
    const enum smtp_parse_result r =
        parse_path(&rest, SLICE("TO:"), ADDRESS_ALLOW_POSTMASTER | utf8, &command->rcpt.path);
    return r == SMTP_PARSE_OK ? parse_parameters(rest, extensions, command) : r;
}

/* ---- the other commands ---- */

/* A domain by the letter has two labels, LDH only; what else clients say is let pass if harmless.
 */
static enum smtp_parse_result parse_helo(struct slice name, struct smtp_helo *helo)
{
    if (name.size == 0)
        return SMTP_PARSE_NO_ARGUMENT;
    if (name.size > SMTP_HELO_MAX)
        return SMTP_PARSE_HELO;
    helo->name = name;
    struct slice inner = name;
    const bool bracket = name.data[0] == '[';
    if (bracket) {
        if (name.size < 3 || name.data[name.size - 1] != ']')
            return SMTP_PARSE_HELO;
        inner = slice_part(name, 1, name.size - 2);
    }
    for (size_t i = 0; i < inner.size; i++) {
        const uint8_t c = inner.data[i];
        if (!is_alphanumeric(c) && c != '-' && c != '.' && c != '_' && (c != ':' || !bracket))
            return SMTP_PARSE_HELO;
    }
    helo->literal = address_literal_valid(name);
    helo->strict = helo->literal || (address_domain_valid(name, false) &&
                                     slice_find(name, '.') > 0 && slice_find(name, '_') < 0);
    return SMTP_PARSE_OK;
}

static enum smtp_parse_result parse_bdat(struct slice rest, struct smtp_chunk *chunk)
{
    const struct slice size = word_take(&rest);
    if (slice_to_u64(size, SMTP_CHUNK_MAX, &chunk->size) < 0)
        return SMTP_PARSE_CHUNK;
    chunk->last = slice_equal_nocase(rest, SLICE("LAST"));
    return rest.size == 0 || chunk->last ? SMTP_PARSE_OK : SMTP_PARSE_CHUNK;
}

static bool base64_valid(struct slice s)
{
    size_t padding = 0;
    for (size_t i = 0; i < s.size; i++) {
        const uint8_t c = s.data[i];
        if (c == '=')
            padding++;
        else if (padding > 0 || (!is_alphanumeric(c) && c != '+' && c != '/'))
            return false;
    }
    return s.size % 4 == 0 && padding <= 2;
}

static enum smtp_parse_result parse_auth(struct slice rest, struct smtp_auth *auth)
{
    if (rest.size == 0)
        return SMTP_PARSE_NO_ARGUMENT;
    auth->mechanism = word_take(&rest);
    if (auth->mechanism.size > SMTP_MECHANISM_MAX)
        return SMTP_PARSE_MECHANISM;
    for (size_t i = 0; i < auth->mechanism.size; i++) {
        const uint8_t c = auth->mechanism.data[i];
        if (!is_alphanumeric(c) && c != '-' && c != '_')
            return SMTP_PARSE_MECHANISM;
    }
    auth->initial_given = rest.size > 0;
    if (slice_equal(rest, SLICE("=")))
        rest.size = 0;
    auth->initial = rest;
    return base64_valid(rest) ? SMTP_PARSE_OK : SMTP_PARSE_BASE64;
}

enum smtp_parse_result smtp_parse(struct slice line, unsigned extensions,
                                  struct smtp_command *command)
{
    *command = (struct smtp_command) { .verb = SMTP_VERB_UNKNOWN };
    struct slice rest = line;
    while (rest.size > 0 && rest.data[rest.size - 1] == ' ')
        rest.size--;
    command->verb = verb_of(word_take(&rest));
    command->argument = rest;
    if (command->verb == SMTP_VERB_HTTP)
        return SMTP_PARSE_HTTP;
    const bool chunk = command->verb == SMTP_VERB_BDAT;
    if (line.size > SMTP_LINE_MAX)
        return chunk ? SMTP_PARSE_CHUNK : SMTP_PARSE_LINE_LONG;
    if (has_octet(line, 0, 0x1f) || has_octet(line, 0x7f, 0x7f))
        return chunk ? SMTP_PARSE_CHUNK : SMTP_PARSE_CONTROL;
    const bool high = has_octet(rest, 0x80, 0xff);

    switch (command->verb) {
    case SMTP_VERB_EHLO:
    case SMTP_VERB_HELO: return parse_helo(rest, &command->helo);
    case SMTP_VERB_MAIL: return parse_mail(rest, extensions, command);
    case SMTP_VERB_RCPT: return parse_rcpt(rest, extensions, command);
    case SMTP_VERB_BDAT: return parse_bdat(rest, &command->chunk);
    case SMTP_VERB_AUTH: return parse_auth(rest, &command->auth);
    case SMTP_VERB_VRFY:
    case SMTP_VERB_EXPN:
        if (rest.size == 0)
            return SMTP_PARSE_NO_ARGUMENT;
        if (high && ((extensions & SMTP_EXT_SMTPUTF8) == 0 || !address_utf8_valid(rest)))
            return SMTP_PARSE_SYNTAX;
        return SMTP_PARSE_OK;
    case SMTP_VERB_NOOP:
    case SMTP_VERB_HELP: return high ? SMTP_PARSE_SYNTAX : SMTP_PARSE_OK;
    case SMTP_VERB_DATA:
    case SMTP_VERB_RSET:
    case SMTP_VERB_QUIT:
    case SMTP_VERB_STARTTLS: return rest.size > 0 ? SMTP_PARSE_HAS_ARGUMENT : SMTP_PARSE_OK;
    case SMTP_VERB_HTTP:
    case SMTP_VERB_UNKNOWN:
    case SMTP_VERBS: break;
    }
    return SMTP_PARSE_UNKNOWN;
}
