/*
 * sts_policy.c - MTA-STS records and policies (RFC 8461 section 3)
 *
 * A policy is lines of "name: value". Lines end with LF or CRLF; empty ones are let pass, for to
 * refuse them would only protect less.
 */
#include "mta/sts_policy.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/txt_record.h"

enum { NAME_MAX_BYTES = 253, LABEL_MAX = 63 };

static const char *const mode_names[STS_MODES] = { "none", "testing", "enforce" };

const char *sts_mode_name(enum sts_mode mode)
{
    return mode_names[mode];
}

/* ---- the record ---- */

static bool id_ok(struct slice id)
{
    if (id.size == 0 || id.size >= STS_ID_MAX)
        return false;
    for (size_t i = 0; i < id.size; i++)
        if (!txt_is_alnum(id.data[i]))
            return false;
    return true;
}

static enum sts_txt read_fields(struct slice text, char id[static STS_ID_MAX])
{
    bool found = false;
    while (text.size > 0) {
        struct slice value = txt_trim(txt_take_until(&text, ';'));
        if (value.size == 0 && txt_trim(text).size == 0)
            break; /* the last ";" */
        struct slice name = txt_take_until(&value, '=');
        bool is_id = slice_equal(name, SLICE("id"));
        if (!txt_name_ok(name) || (is_id ? !id_ok(value) : !txt_value_ok(value)))
            return STS_TXT_INVALID;
        if (is_id && !found)
            slice_to_string(value, id, STS_ID_MAX);
        found = found || is_id;
    }
    return found ? STS_TXT_VALID : STS_TXT_INVALID;
}

enum sts_txt sts_txt_read(struct slice rdata, char id[static STS_ID_MAX])
{
    uint8_t bytes[1'024];
    ptrdiff_t size = txt_join(rdata, bytes, sizeof(bytes));
    if (size <= 0)
        return STS_TXT_OTHER;
    struct slice text = slice_of(bytes, (size_t)size);
    if (!slice_equal(txt_trim(txt_take_until(&text, ';')), SLICE("v=STSv1")) || bytes[0] != 'v')
        return STS_TXT_OTHER;
    return read_fields(text, id);
}

/* ---- the policy ---- */

/* A name of letters, digits, "-" and "_", or one below "*.". Into out in lower case. */
static bool pattern_read(struct slice text, char out[static STS_PATTERN_MAX])
{
    size_t label = 0;
    size_t from = slice_starts_nocase(text, SLICE("*.")) ? 2 : 0;
    if (text.size == from || text.size > NAME_MAX_BYTES)
        return false;
    for (size_t i = from; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool dot = c == '.';
        if (dot ? label == 0 || i + 1 == text.size : !txt_is_alnum(c) && c != '-' && c != '_')
            return false;
        label = dot ? 0 : label + 1;
        if (label > LABEL_MAX)
            return false;
    }
    for (size_t i = 0; i < text.size; i++)
        out[i] = (char)ascii_lower(text.data[i]);
    out[text.size] = '\0';
    return true;
}

struct seen {
    bool version, mode, max_age;
};

static const char *read_mode(struct slice value, struct sts_policy *policy)
{
    for (unsigned i = 0; i < STS_MODES; i++) {
        if (!slice_equal(value, slice_of_string(mode_names[i])))
            continue;
        policy->mode = (uint8_t)i;
        return NULL;
    }
    return "its mode is not one of enforce, testing, none";
}

static const char *read_max_age(struct slice value, struct sts_policy *policy)
{
    uint64_t seconds = 0;
    if (value.size > 10 || slice_to_u64(value, UINT64_MAX, &seconds) < 0)
        return "its max_age is not a number of seconds";
    policy->max_age_s = (uint32_t)MIN(MAX(seconds, (uint64_t)STS_AGE_MIN), (uint64_t)STS_AGE_MAX);
    return NULL;
}

static const char *read_mx(struct slice value, struct sts_policy *policy)
{
    char pattern[STS_PATTERN_MAX];
    if (!pattern_read(value, pattern))
        return "an mx is not a host's name or *. and a domain";
    if (policy->patterns_bytes + value.size + 1 > STS_PATTERNS_BYTES)
        return "it has too many mx";
    memcpy(policy->patterns + policy->patterns_bytes, pattern, value.size + 1);
    policy->patterns_bytes = (uint16_t)(policy->patterns_bytes + value.size + 1);
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_line(struct slice line, struct sts_policy *policy, struct seen *seen)
{
    if (slice_find(line, ':') < 0)
        return "a line is not of the form name: value";
    struct slice name = txt_take_until(&line, ':');
    struct slice value = txt_trim(line);
    if (!txt_name_ok(name))
        return "the name of a field is malformed";
    if (slice_equal(name, SLICE("mx")))
        return read_mx(value, policy);
    if (slice_equal(name, SLICE("version")) && !seen->version) {
        seen->version = true;
        return slice_equal(value, SLICE("STSv1")) ? NULL : "its version is not STSv1";
    }
    if (slice_equal(name, SLICE("mode")) && !seen->mode) {
        seen->mode = true;
        return read_mode(value, policy);
    }
    if (slice_equal(name, SLICE("max_age")) && !seen->max_age) {
        seen->max_age = true;
        return read_max_age(value, policy);
    }
    return NULL;
}

static const char *read_lines(struct slice text, struct sts_policy *policy)
{
    struct seen seen = { 0 };
    while (text.size > 0) {
        struct slice line = txt_take_until(&text, '\n');
        if (line.size > 0 && line.data[line.size - 1] == '\r')
            line.size--;
        if (slice_find(line, '\r') >= 0 || slice_find(line, '\0') >= 0)
            return "it has a bare CR or a NUL";
        const char *wrong = txt_trim(line).size == 0 ? NULL : read_line(line, policy, &seen);
        if (wrong != NULL)
            return wrong;
    }
    if (!seen.version)
        return "it has no version";
    if (!seen.mode)
        return "it has no mode";
    if (!seen.max_age)
        return "it has no max_age";
    if (policy->patterns_bytes == 0 && policy->mode != STS_MODE_NONE)
        return "it has no mx";
    return NULL;
}

int sts_policy_read(struct slice text, struct sts_policy *policy, char why[static STS_WHY_MAX])
{
    memset(policy, 0, sizeof(*policy)); /* it is kept with a checksum */
    const char *wrong = text.size > STS_DOCUMENT_MAX ? "it is too large" : read_lines(text, policy);
    snprintf(why, STS_WHY_MAX, "%s", wrong == NULL ? "" : wrong);
    return wrong == NULL ? 0 : -EINVAL;
}

const char *sts_policy_pattern(const struct sts_policy *policy, const char *last)
{
    const char *next = last == NULL ? policy->patterns : last + strlen(last) + 1;
    return next < policy->patterns + policy->patterns_bytes ? next : NULL;
}

bool sts_policy_lists(const struct sts_policy *policy, const char *host)
{
    const struct slice name = slice_of_string(host);
    const char *dot = strchr(host, '.');
    for (const char *p = NULL; (p = sts_policy_pattern(policy, p)) != NULL;) {
        bool wild = p[0] == '*'; /* for one label, the first */
        if (wild ? dot != NULL && dot != host &&
                       slice_equal_nocase(slice_of_string(dot), slice_of_string(p + 1))
                 : slice_equal_nocase(name, slice_of_string(p)))
            return true;
    }
    return false;
}

bool sts_content_type_ok(const char *content_type)
{
    struct slice type = slice_of_string(content_type);
    return slice_equal_nocase(txt_trim(txt_take_until(&type, ';')), SLICE("text/plain"));
}
