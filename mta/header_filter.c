/*
 * header_filter.c - one pass over the header, octet by octet only where a name looks like ours
 *
 *   LINE --first octet of a name in the rules--> NAME --blank--> BLANKS --":"--> VALUE
 *     |                                           |  `-----------":"-----------'   |
 *     |                                           `--no such name--> REST <--known-'
 *     `--any other--> REST --LF--> LINE            LINE --CR--> EMPTY --LF--> BODY
 *
 * Each octet is kept, dropped, or held: then what follows decides about it. Held octets of the
 * piece at hand stay where they are; only what is held when a piece ends is copied.
 *
 * A line that begins with a blank goes on with the field before it, whatever that was, also when
 * the name's own line had no colon yet: some readers join lines first and look for it then.
 */
#include "mta/header_filter.h"

#include "core/check.h"

enum { EITHER_CASE = 0x20202020 }; /* so that a and A are one, and some other octets, too */

enum filter_state {
    FILTER_LINE = 0, /* at the start of one */
    FILTER_EMPTY,    /* behind its CR */
    FILTER_NAME,
    FILTER_BLANKS, /* behind a name of the rules, before the colon */
    FILTER_VALUE,
    FILTER_REST, /* nothing more to be found out on this line */
    FILTER_BODY,
};

enum filter_field { /* the current one */
                    FIELD_KEPT = 0,
                    FIELD_DROPPED,
                    FIELD_OPEN, /* held */
};

enum filter_watch { WATCH_NOTHING = 0, WATCH_REQUIRED, WATCH_TLS, WATCH_IDENTIFIER, WATCH_ID };

enum value_place { /* where in the value */
                   VALUE_BEFORE = 0,
                   VALUE_IN,
                   VALUE_QUOTED,
                   VALUE_BEHIND,
                   VALUE_WRONG,
};

enum verdict {
    KEEP,
    DROP,
    HOLD,
    KEEP_BEFORE,
    DROP_BEFORE /* the octet itself is looked at anew */
};

static const struct slice value_no = { (const uint8_t *)"no", 2 };
static const struct slice id_name = { (const uint8_t *)"message-id", 10 };

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* RFC 2045 5.1: what an identifier without quotes is made of. */
static bool is_token(uint8_t c)
{
    return c > ' ' && c != 0x7f && memchr("()<>@,;:\\\"/[]?=", c, 15) == NULL;
}

/* ---- rules ---- */

static bool in_first(const struct header_rules *rules, uint8_t c)
{
    return (rules->first[c >> 6] >> (c & 63) & 1) != 0;
}

static void add_head(struct header_rules *rules, struct slice name)
{
    const size_t size = MIN(name.size, sizeof(uint32_t));
    uint32_t octets = 0, mask = 0;
    memcpy(&octets, name.data, size);
    memset(&mask, 0xff, size);
    octets = (octets | EITHER_CASE) & mask;
    for (unsigned i = 0; i < rules->heads_count; i++)
        if (rules->heads[i].octets == octets && rules->heads[i].mask == mask)
            return;
    rules->heads[rules->heads_count].octets = octets;
    rules->heads[rules->heads_count++].mask = mask;
}

void header_rules_seal(struct header_rules *rules)
{
    CHECK(rules->count <= HEADER_RULES_MAX);
    memset(rules->first, 0, sizeof(rules->first));
    rules->heads_count = 0;
    unsigned id_kinds = 0;
    for (unsigned i = 0; i < rules->count; i++) {
        const struct slice name = rules->rules[i].name;
        CHECK(name.size > 0);
        if (slice_equal(rules->rules[i].is_prefix ? slice_part(id_name, 0, name.size) : id_name,
                        name))
            id_kinds |= rules->rules[i].kinds;
        uint8_t c = name.data[0];
        uint8_t upper = c >= 'a' && c <= 'z' ? (uint8_t)(c - ('a' - 'A')) : c;
        rules->first[c >> 6] |= UINT64_C(1) << (c & 63);
        rules->first[upper >> 6] |= UINT64_C(1) << (upper & 63);
        add_head(rules, name);
    }
    rules->only_id = id_kinds == HEADER_MESSAGE_ID;
}

/* Whether a line that begins so may be one of a field of the rules. Never false by mistake. */
static bool looks_like_one(const struct header_rules *rules, struct slice line)
{
    uint32_t octets;
    if (!in_first(rules, line.data[0]))
        return false;
    if (line.size < sizeof(octets))
        return true;
    memcpy(&octets, line.data, sizeof(octets));
    octets |= EITHER_CASE;
    for (unsigned i = 0; i < rules->heads_count; i++)
        if ((octets & rules->heads[i].mask) == rules->heads[i].octets)
            return true;
    return false;
}

/* What the name at hand is; whole false: it goes on, so only a prefix can fit. */
static unsigned kinds_of(const struct header_filter *f, bool whole)
{
    const struct slice name = slice_of(f->name, f->name_size);
    unsigned kinds = 0;
    for (unsigned i = 0; i < f->rules->count; i++) {
        const struct header_rule *rule = &f->rules->rules[i];
        if (rule->is_prefix ? slice_equal(slice_part(name, 0, rule->name.size), rule->name)
                            : whole && slice_equal(name, rule->name))
            kinds |= rule->kinds;
    }
    return kinds;
}

/* ---- values ---- */

/* Of a Message-ID, to the end of the line at most: it is in most messages, so not octet by octet.
 */
static void id_octets(struct header_filter *f, struct slice part)
{
    size_t from = 0;
    while (f->at == VALUE_BEFORE && from < part.size && part.data[from] <= ' ')
        from++;
    size_t to = from;
    while (f->at <= VALUE_IN && to < part.size && part.data[to] > ' ')
        to++;
    if (to > from) {
        const size_t size = MIN(to - from, sizeof(f->id) - f->id_size);
        memcpy(f->id + f->id_size, part.data + from, size);
        f->id_size = (uint8_t)(f->id_size + size);
        f->at = VALUE_IN;
    }
    if (f->at == VALUE_IN && to < part.size)
        f->at = VALUE_BEHIND;
}

/* Of a field of which the whole value is wanted. */
static void text_octet(struct header_filter *f, struct slice wanted, bool any_case, uint8_t c)
{
    if (is_blank(c) || c == '\r' || c == '\n') {
        if (f->at == VALUE_IN)
            f->at = VALUE_BEHIND;
        return;
    }
    if (f->at == VALUE_BEFORE)
        f->at = VALUE_IN;
    uint8_t octet = any_case ? ascii_lower(c) : c;
    if (f->at != VALUE_IN || f->matched == wanted.size || octet != wanted.data[f->matched])
        f->at = VALUE_WRONG;
    else
        f->matched++;
}

static bool text_fits(const struct header_filter *f, struct slice wanted)
{
    return f->at != VALUE_WRONG && f->matched == wanted.size;
}

static bool comment_octet(struct header_filter *f, uint8_t c)
{
    if (f->escaped)
        f->escaped = false;
    else if (c == '\\')
        f->escaped = true;
    else if (c == '(')
        f->depth++;
    else if (c == ')')
        f->depth--;
    return f->depth < UINT8_MAX;
}

static enum verdict identifier_known(struct header_filter *f, bool ours)
{
    f->watch = WATCH_NOTHING;
    f->field = ours ? FIELD_DROPPED : FIELD_KEPT;
    f->removed_fields += ours && !f->keeps;
    return ours ? DROP : KEEP;
}

static enum verdict identifier_next(struct header_filter *f, uint8_t c)
{
    const struct slice wanted = f->rules->identifier;
    if (f->matched == wanted.size || ascii_lower(c) != wanted.data[f->matched])
        return identifier_known(f, false);
    f->matched++;
    return HOLD;
}

/* RFC 8601 2.2: [CFWS] authserv-id [CFWS version] ";", the identifier a token or quoted. */
static enum verdict identifier_octet(struct header_filter *f, uint8_t c)
{
    if (f->depth > 0)
        return comment_octet(f, c) ? HOLD : identifier_known(f, true);
    switch ((enum value_place)f->at) {
    case VALUE_BEFORE:
        if (is_blank(c) || c == '\r' || c == '\n')
            return HOLD;
        if (c == '(') {
            f->depth = 1;
            return HOLD;
        }
        f->at = c == '"' ? VALUE_QUOTED : VALUE_IN;
        if (c == '"')
            return HOLD;
        [[fallthrough]];
    case VALUE_IN:
        if (is_token(c))
            return identifier_next(f, c);
        return identifier_known(f, f->matched > 0 && f->matched == f->rules->identifier.size);
    case VALUE_QUOTED:
        if (c == '\r' || c == '\n')
            return HOLD;
        if (!f->escaped && c == '\\') {
            f->escaped = true;
            return HOLD;
        }
        if (!f->escaped && c == '"')
            return identifier_known(f, f->matched == f->rules->identifier.size);
        f->escaped = false;
        return identifier_next(f, c);
    default: return identifier_known(f, false);
    }
}

static enum verdict value_octet(struct header_filter *f, uint8_t c)
{
    switch ((enum filter_watch)f->watch) {
    case WATCH_REQUIRED: text_octet(f, f->required->value, false, c); break;
    case WATCH_TLS: text_octet(f, value_no, true, c); break;
    case WATCH_IDENTIFIER: return identifier_octet(f, c);
    case WATCH_ID: id_octets(f, slice_of(&c, 1)); break;
    case WATCH_NOTHING: break;
    }
    return f->field == FIELD_DROPPED ? DROP : KEEP;
}

/* ---- fields ---- */

static enum verdict field_is_other(struct header_filter *f)
{
    f->field = FIELD_KEPT;
    f->state = FILTER_REST;
    return KEEP;
}

static enum verdict field_is_trusted(struct header_filter *f)
{
    f->field = FIELD_DROPPED;
    f->state = FILTER_REST;
    f->removed_fields += !f->keeps;
    return DROP;
}

/* The colon is there. */
static enum verdict field_named(struct header_filter *f)
{
    const unsigned kinds = kinds_of(f, true);
    const struct slice name = slice_of(f->name, f->name_size);
    if ((kinds & HEADER_REQUIRED) != 0 && f->required != NULL &&
        slice_equal(name, f->required->name))
        f->watch = WATCH_REQUIRED;
    else if ((kinds & HEADER_TLS_REQUIRED) != 0)
        f->watch = WATCH_TLS;
    else if ((kinds & HEADER_MESSAGE_ID) != 0 && f->id_size == 0)
        f->watch = WATCH_ID;
    f->at = VALUE_BEFORE;
    f->matched = 0;
    f->depth = 0;
    f->escaped = false;
    enum verdict verdict = HOLD;
    if ((kinds & HEADER_TRUSTED) != 0) {
        verdict = field_is_trusted(f);
    } else if ((kinds & HEADER_TRUSTED_OURS) != 0) {
        f->watch = WATCH_IDENTIFIER;
        f->field = FIELD_OPEN;
    } else {
        verdict = field_is_other(f);
    }
    if (f->watch != WATCH_NOTHING)
        f->state = FILTER_VALUE;
    return verdict;
}

/* Its last line is over. */
static enum verdict field_ended(struct header_filter *f)
{
    const enum filter_watch watch = (enum filter_watch)f->watch;
    const bool open = f->field == FIELD_OPEN;
    f->watch = WATCH_NOTHING;
    f->field = FIELD_KEPT;
    switch (watch) {
    case WATCH_REQUIRED:
        f->required_count++;
        f->required_right += text_fits(f, f->required->value);
        break;
    case WATCH_TLS:
        f->tls_required_count++;
        f->tls_required_no += text_fits(f, value_no);
        break;
    case WATCH_IDENTIFIER:
        if (f->depth == 0 && f->matched == f->rules->identifier.size) {
            f->removed_fields += !f->keeps;
            return DROP_BEFORE;
        }
        break;
    case WATCH_ID:
    case WATCH_NOTHING: break;
    }
    return open ? KEEP_BEFORE : KEEP;
}

/* Held for too long. */
static enum verdict field_too_long(struct header_filter *f)
{
    const bool line_ended = f->state == FILTER_LINE;
    const bool trusted = (kinds_of(f, true) & (HEADER_TRUSTED | HEADER_TRUSTED_OURS)) != 0;
    f->watch = WATCH_NOTHING;
    enum verdict verdict = trusted ? field_is_trusted(f) : field_is_other(f);
    if (line_ended)
        f->state = FILTER_LINE;
    return verdict;
}

static enum verdict name_octet(struct header_filter *f, uint8_t c)
{
    if (c == ':')
        return field_named(f);
    if (is_blank(c) || c == '\r' || c == '\n') {
        if (kinds_of(f, true) == 0) {
            enum verdict verdict = field_is_other(f);
            f->state = c == '\n' ? FILTER_LINE : FILTER_REST;
            return verdict;
        }
        f->state = c == '\n' ? FILTER_LINE : FILTER_BLANKS;
        return HOLD;
    }
    if (c < ' ' || c > '~')
        return field_is_other(f);
    if (f->name_size == HEADER_NAME_MAX)
        return (kinds_of(f, false) & HEADER_TRUSTED) != 0 ? field_is_trusted(f) : field_is_other(f);
    f->name[f->name_size++] = ascii_lower(c);
    return HOLD;
}

static enum verdict line_octet(struct header_filter *f, uint8_t c)
{
    if (is_blank(c)) {
        if (f->watch != WATCH_NOTHING) {
            f->state = FILTER_VALUE;
            return value_octet(f, c);
        }
        f->state = f->field == FIELD_OPEN ? FILTER_BLANKS : FILTER_REST;
        return f->field == FIELD_OPEN ? HOLD : f->field == FIELD_DROPPED ? DROP : KEEP;
    }
    if (f->watch != WATCH_NOTHING || f->field == FIELD_OPEN) {
        enum verdict verdict = field_ended(f);
        if (verdict != KEEP)
            return verdict;
    }
    f->field = FIELD_KEPT;
    if (c == '\r') {
        f->field = FIELD_OPEN;
        f->state = FILTER_EMPTY;
        return HOLD;
    }
    if (c == '\n')
        return KEEP;
    if (!in_first(f->rules, c)) {
        f->state = FILTER_REST;
        return KEEP;
    }
    f->field = FIELD_OPEN;
    f->state = FILTER_NAME;
    f->name_size = 0;
    return name_octet(f, c);
}

static enum verdict filter_octet(struct header_filter *f, uint8_t c)
{
    switch ((enum filter_state)f->state) {
    case FILTER_LINE: return line_octet(f, c);
    case FILTER_EMPTY:
        f->field = FIELD_KEPT;
        f->state = c == '\n' ? FILTER_BODY : FILTER_REST;
        f->header_ended = c == '\n';
        return KEEP;
    case FILTER_NAME: return name_octet(f, c);
    case FILTER_BLANKS:
        if (c == ':')
            return field_named(f);
        if (!is_blank(c) && c != '\r' && c != '\n')
            return field_is_other(f);
        if (c == '\n')
            f->state = FILTER_LINE;
        return HOLD;
    case FILTER_VALUE: {
        enum verdict verdict = value_octet(f, c);
        if (c == '\n')
            f->state = FILTER_LINE;
        else if (f->watch == WATCH_NOTHING)
            f->state = FILTER_REST;
        return verdict;
    }
    case FILTER_REST:
    case FILTER_BODY: break;
    }
    CHECK(false);
    return KEEP;
}

/* ---- pieces ---- */

void header_filter_begin(struct header_filter *f, const struct header_rules *rules,
                         const struct header_required *required, bool keeps)
{
    memset(f, 0, offsetof(struct header_filter, name));
    f->rules = rules;
    f->required = required;
    f->keeps = keeps;
}

/* A Message-ID that is whole on its line, as it mostly is. Octets of that line; 0: it is another
 * one, or is looked at octet by octet. */
static size_t pass_id(struct header_filter *f, struct slice in)
{
    if (!f->rules->only_id || f->id_size > 0 || in.size <= id_name.size ||
        in.data[id_name.size] != ':' || !slice_starts_nocase(in, id_name))
        return 0;
    const uint8_t *newline = memchr(in.data, '\n', in.size);
    const size_t size = newline == NULL ? in.size : (size_t)(newline - in.data) + 1;
    if (size == in.size || is_blank(in.data[size])) /* it may go on */
        return 0;
    f->at = VALUE_BEFORE;
    id_octets(f, slice_part(in, id_name.size + 1, size - id_name.size - 1));
    return size;
}

/* Over lines that stay, for they are of no field in the rules: to one that may be, or to the end.
 * The header of most mail is nothing else. */
static size_t pass_lines(struct header_filter *f, struct slice in, size_t index)
{
    while (index < in.size) {
        if (f->state == FILTER_LINE) {
            const uint8_t c = in.data[index];
            if (c == '\r' || c == '\n')
                return index;
            if (looks_like_one(f->rules, slice_from(in, index))) {
                const size_t size = pass_id(f, slice_from(in, index));
                if (size == 0)
                    return index;
                index += size;
                continue;
            }
        }
        const uint8_t *newline = memchr(in.data + index, '\n', in.size - index);
        f->state = newline == NULL ? FILTER_REST : FILTER_LINE;
        index = newline == NULL ? in.size : (size_t)(newline - in.data) + 1;
    }
    return index;
}

/* What is decided at once: all to the end of the line, or of the body; or the octet at index. Gives
 * the place behind it. */
static size_t filter_step(struct header_filter *f, struct slice in, size_t index,
                          enum verdict *verdict)
{
    if (f->state == FILTER_REST) {
        const uint8_t *newline = memchr(in.data + index, '\n', in.size - index);
        *verdict = f->field == FIELD_DROPPED ? DROP : KEEP;
        if (newline == NULL)
            return in.size;
        f->state = FILTER_LINE;
        return (size_t)(newline - in.data) + 1;
    }
    if (f->state == FILTER_BODY) {
        *verdict = KEEP;
        return in.size;
    }
    if (f->state == FILTER_VALUE && f->watch == WATCH_ID) {
        const uint8_t *newline = memchr(in.data + index, '\n', in.size - index);
        const size_t end = newline == NULL ? in.size : (size_t)(newline - in.data) + 1;
        id_octets(f, slice_part(in, index, end - index));
        f->state = newline == NULL ? FILTER_VALUE : FILTER_LINE;
        *verdict = f->field == FIELD_DROPPED ? DROP : KEEP;
        return end;
    }
    *verdict = filter_octet(f, in.data[index]);
    return *verdict == KEEP_BEFORE || *verdict == DROP_BEFORE ? index : index + 1;
}

/* True: these octets go. */
static bool goes(struct header_filter *f, enum verdict verdict, size_t size)
{
    if (verdict != DROP && verdict != DROP_BEFORE)
        return false;
    *(f->keeps ? &f->trusted : &f->removed) += size;
    return !f->keeps;
}

bool header_filter_take(struct header_filter *f, struct slice *in, struct slice *out)
{
    const struct slice piece = *in;
    size_t from = 0; /* octets from here on stay, as far as is known */
    size_t open = 0; /* and from here on are held, if any are */
    bool holding = f->held_size > 0;
    for (size_t i = 0; i < piece.size;) {
        enum verdict verdict;
        if (f->field == FIELD_KEPT && f->watch == WATCH_NOTHING && f->state != FILTER_BODY) {
            i = pass_lines(f, piece, i);
            if (i == piece.size)
                break;
        }
        const size_t begin = holding ? open : i;
        i = filter_step(f, piece, i, &verdict);
        if (verdict == HOLD && f->held_size + (i - begin) > HEADER_HELD_MAX)
            verdict = field_too_long(f);
        if (verdict == HOLD) {
            holding = true;
            open = begin;
            continue;
        }
        const size_t held = f->held_size;
        holding = false;
        f->held_size = 0;
        if (goes(f, verdict, held + i - begin)) {
            if (begin > from) {
                *in = slice_from(piece, i);
                *out = slice_part(piece, from, begin - from);
                return true;
            }
            from = i;
        } else if (held > 0) { /* so this is the first octet, or octets, of the piece */
            CHECK(from == 0 && begin == 0 && held + i <= sizeof(f->held));
            memcpy(f->held + held, piece.data, i);
            *in = slice_from(piece, i);
            *out = slice_of(f->held, held + i);
            return true;
        }
    }
    const size_t end = holding ? open : piece.size;
    if (end < piece.size) {
        CHECK(f->held_size + (piece.size - end) <= HEADER_HELD_MAX);
        memcpy(f->held + f->held_size, piece.data + end, piece.size - end);
        f->held_size = (uint16_t)(f->held_size + (piece.size - end));
    }
    *in = slice_from(piece, piece.size);
    *out = slice_part(piece, from, end - from);
    return out->size > 0;
}

bool header_filter_end(struct header_filter *f, struct slice *out)
{
    const size_t held = f->held_size;
    f->held_size = 0;
    enum verdict verdict = f->state == FILTER_BODY ? KEEP : field_ended(f);
    *out = slice_of(f->held, goes(f, verdict, held) ? 0 : held);
    return out->size > 0;
}

bool header_filter_has_required(const struct header_filter *f)
{
    return f->required_count == 1 && f->required_right == 1;
}

bool header_filter_tls_optional(const struct header_filter *f)
{
    return f->tls_required_count > 0 && f->tls_required_count == f->tls_required_no;
}
