/*
 * fuzz_header.c - the header filter against one that sees the whole header at once
 *
 * The first two octets choose what stays and where content is cut; the rest is content. Whatever
 * the cuts, what comes out, the counts and the facts are those of the reference, which looks for
 * the end of the header first, then for the fields one by one. Fields that are held for longer than
 * the filter can are left to the other half of the test: they come out the same for all cuts.
 */
#include <stdlib.h>

#include "core/check.h"
#include "mta/header_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTENT_MAX = 16'384 };

static const struct header_rule rule_list[] = {
    { SLICE("x-ringpost-"), true, HEADER_TRUSTED },
    { SLICE("authentication-results"), false, HEADER_TRUSTED_OURS },
    { SLICE("tls-required"), false, HEADER_TLS_REQUIRED },
    { SLICE("message-id"), false, HEADER_MESSAGE_ID },
    { SLICE("x-a"), false, HEADER_TRUSTED },
    { SLICE("x-b"), false, HEADER_REQUIRED },
};
static const struct header_required required = { SLICE("x-b"), SLICE("c") };

struct bytes {
    size_t size;
    uint8_t octets[CONTENT_MAX];
};

static void add(struct bytes *bytes, struct slice s)
{
    CHECK(s.size <= sizeof(bytes->octets) - bytes->size);
    if (s.size > 0)
        memcpy(bytes->octets + bytes->size, s.data, s.size);
    bytes->size += s.size;
}

static void filter(struct header_filter *f, const struct header_rules *rules, struct slice in,
                   bool keeps, unsigned cuts, struct bytes *out)
{
    struct slice piece, part;
    header_filter_begin(f, rules, &required, keeps);
    out->size = 0;
    while (in.size > 0) {
        cuts = cuts * 1'103'515'245 + 12'345; /* any sizes will do, if they are always the same */
        piece = slice_part(in, 0, 1 + (cuts >> 16) % 40);
        in = slice_from(in, piece.size);
        while (header_filter_take(f, &piece, &part)) {
            CHECK(part.size > 0);
            add(out, part);
        }
        CHECK(piece.size == 0);
    }
    if (header_filter_end(f, &part))
        add(out, part);
}

/* ---- the reference ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* The field at the front, with the lines that go on with it. */
static size_t field_size(struct slice in)
{
    size_t size = 0;
    do {
        ptrdiff_t newline = slice_find(slice_from(in, size), '\n');
        size = newline < 0 ? in.size : size + (size_t)newline + 1;
    } while (size < in.size && is_blank(in.data[size]));
    return size;
}

static bool is_space(uint8_t c)
{
    return is_blank(c) || c == '\r' || c == '\n';
}

/* What stands before the colon, and behind it. False: it is no field. */
static bool take_apart(struct slice field, struct slice *name, struct slice *value)
{
    size_t at = 0;
    while (at < field.size && field.data[at] > ' ' && field.data[at] <= '~' &&
           field.data[at] != ':')
        at++;
    *name = slice_part(field, 0, at);
    while (at < field.size && is_space(field.data[at]))
        at++;
    if (name->size == 0 || at == field.size || field.data[at] != ':')
        return false;
    *value = slice_from(field, at + 1);
    return true;
}

static struct slice trimmed(struct slice value)
{
    while (value.size > 0 && is_space(value.data[0]))
        value = slice_from(value, 1);
    while (value.size > 0 && is_space(value.data[value.size - 1]))
        value.size--;
    return value;
}

/* Whether the value begins with the identifier, comments before it aside. */
static bool is_ours(struct slice value, struct slice identifier)
{
    size_t at = 0;
    unsigned depth = 0;
    for (bool escaped = false; at < value.size; at++) {
        uint8_t c = value.data[at];
        if (depth == 0 && c != '(' && !is_space(c))
            break;
        if (escaped || depth == 0)
            escaped = false, depth += c == '(' && depth == 0;
        else if (c == '\\')
            escaped = true;
        else
            depth = c == '(' ? depth + 1 : c == ')' ? depth - 1 : depth;
        if (depth == 255)
            return true;
    }
    bool quoted = at < value.size && value.data[at] == '"';
    size_t matched = 0;
    for (at += quoted; at < value.size; at++) {
        uint8_t c = value.data[at];
        if (quoted && (c == '\r' || c == '\n'))
            continue;
        if (quoted && c == '"')
            return matched == identifier.size;
        if (quoted && c == '\\') {
            size_t next = at + 1;
            while (next < value.size && (value.data[next] == '\r' || value.data[next] == '\n'))
                next++;
            if (next == value.size)
                break;
            c = value.data[at = next];
        } else if (!quoted &&
                   (c <= ' ' || c == 0x7f || memchr("()<>@,;:\\\"/[]?=", c, 15) != NULL)) {
            break;
        }
        if (matched == identifier.size || ascii_lower(c) != identifier.data[matched])
            return false;
        matched++;
    }
    return matched == identifier.size;
}

struct reference {
    struct bytes out;
    uint64_t gone;
    uint32_t fields, required_count, required_right, tls_count, tls_no;
    bool too_long; /* some field, for the filter */
};

static void look_at(struct reference *r, struct slice field, struct slice identifier)
{
    struct slice name, value;
    bool goes = false;
    if (take_apart(field, &name, &value)) {
        bool long_name = name.size > HEADER_NAME_MAX;
        goes = slice_starts_nocase(name, SLICE("x-ringpost-")) ||
               slice_equal_nocase(name, SLICE("x-a")) ||
               (slice_equal_nocase(name, SLICE("authentication-results")) &&
                is_ours(value, identifier));
        CHECK(!long_name || goes == slice_starts_nocase(name, SLICE("x-ringpost-")));
        if (slice_equal_nocase(name, SLICE("tls-required"))) {
            r->tls_count++;
            r->tls_no += slice_equal_nocase(trimmed(value), SLICE("no"));
        }
        if (slice_equal_nocase(name, SLICE("x-b"))) {
            r->required_count++;
            r->required_right += slice_equal(trimmed(value), SLICE("c"));
        }
    } else if (name.size > HEADER_NAME_MAX && slice_starts_nocase(name, SLICE("x-ringpost-"))) {
        goes = true; /* by its beginning alone */
    }
    r->fields += goes;
    if (goes)
        r->gone += field.size;
    else
        add(&r->out, field);
}

static void look_at_all(struct reference *r, struct slice in, struct slice identifier)
{
    memset(r, 0, offsetof(struct reference, out.octets));
    r->gone = r->fields = r->required_count = r->required_right = r->tls_count = r->tls_no = 0;
    r->too_long = false;
    while (in.size > 0 && !(in.size >= 2 && in.data[0] == '\r' && in.data[1] == '\n')) {
        struct slice field = slice_part(in, 0, field_size(in));
        in = slice_from(in, field.size);
        r->too_long = r->too_long || field.size > HEADER_HELD_MAX / 2;
        look_at(r, field, identifier);
    }
    add(&r->out, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct header_rules rules = { .rules = rule_list,
                                         .count = ARRAY_COUNT(rule_list),
                                         .identifier = SLICE("mx.d") };
    static struct header_filter one, other;
    static struct bytes first, second;
    static struct reference reference;
    if (size < 2 || size > CONTENT_MAX)
        return 0;
    header_rules_seal(&rules);
    const struct slice content = slice_of(data + 2, size - 2);
    const bool keeps = (data[0] & 1) != 0;
    filter(&one, &rules, content, keeps, data[0], &first);
    filter(&other, &rules, content, keeps, data[1] + 1'000U, &second);
    CHECK(slice_equal(slice_of(first.octets, first.size), slice_of(second.octets, second.size)));
    CHECK(one.removed == other.removed && one.trusted == other.trusted);
    CHECK(one.removed_fields == other.removed_fields);
    CHECK(one.required_count == other.required_count);
    CHECK(one.required_right == other.required_right);
    CHECK(one.tls_required_count == other.tls_required_count);
    CHECK(one.tls_required_no == other.tls_required_no);
    CHECK(slice_equal(header_filter_id(&one), header_filter_id(&other)));
    CHECK(first.size + one.removed == content.size);
    look_at_all(&reference, content, rules.identifier);
    if (reference.too_long)
        return 0;
    CHECK((keeps ? one.trusted : one.removed) == reference.gone);
    CHECK(one.removed_fields == (keeps ? 0 : reference.fields));
    CHECK(one.required_count == reference.required_count);
    CHECK(one.required_right == reference.required_right);
    CHECK(one.tls_required_count == reference.tls_count);
    CHECK(one.tls_required_no == reference.tls_no);
    const struct slice wanted =
        keeps ? content : slice_of(reference.out.octets, reference.out.size);
    CHECK(slice_equal(slice_of(first.octets, first.size), wanted));
    return 0;
}
