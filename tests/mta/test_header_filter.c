/*
 * test_header_filter.c - which fields go, which stay, what is found out; and the same for all
 * splits
 *
 * Every sample is given whole, octet by octet, and cut in two at each place.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/header_filter.h"

enum { OUT_MAX = 16'384 };

static const struct header_rule rule_list[] = {
    { SLICE("x-ringpost-"), true, HEADER_TRUSTED },
    { SLICE("authentication-results"), false, HEADER_TRUSTED_OURS },
    { SLICE("tls-required"), false, HEADER_TLS_REQUIRED },
    { SLICE("message-id"), false, HEADER_MESSAGE_ID },
    { SLICE("x-corp-checked"), false, HEADER_TRUSTED },
    { SLICE("x-originatororg"), false, HEADER_REQUIRED },
};
static const struct header_required required = { SLICE("x-originatororg"), SLICE("bank.example") };

struct result {
    struct header_filter filter;
    size_t size;
    char out[OUT_MAX];
};

static void put(struct result *result, struct slice out)
{
    cr_assert_gt(out.size, 0);
    cr_assert_leq(out.size, OUT_MAX - result->size);
    memcpy(result->out + result->size, out.data, out.size);
    result->size += out.size;
}

static void give(struct result *result, struct slice piece)
{
    struct slice out;
    while (header_filter_take(&result->filter, &piece, &out))
        put(result, out);
    cr_assert_eq(piece.size, 0);
}

/* In pieces of step octets, the first of first. */
static void filter(struct result *result, struct slice in, bool keeps, size_t first, size_t step)
{
    struct header_rules rules = { .rules = rule_list,
                                  .count = ARRAY_COUNT(rule_list),
                                  .identifier = SLICE("mx.corp.example") };
    header_rules_seal(&rules);
    header_filter_begin(&result->filter, &rules, &required, keeps);
    result->size = 0;
    give(result, slice_part(in, 0, first));
    for (size_t at = first; at < in.size; at += step)
        give(result, slice_part(in, at, step));
    struct slice out;
    if (header_filter_end(&result->filter, &out))
        put(result, out);
}

static void same(const struct result *a, const struct result *b, const char *in, size_t first)
{
    cr_assert(slice_equal(slice_of(a->out, a->size), slice_of(b->out, b->size)),
              "%s: cut at %zu: %.*s", in, first, (int)b->size, b->out);
    cr_assert_eq(a->filter.removed, b->filter.removed);
    cr_assert_eq(a->filter.trusted, b->filter.trusted);
    cr_assert_eq(a->filter.removed_fields, b->filter.removed_fields);
    cr_assert_eq(a->filter.required_count, b->filter.required_count);
    cr_assert_eq(a->filter.required_right, b->filter.required_right);
    cr_assert_eq(a->filter.tls_required_count, b->filter.tls_required_count);
    cr_assert_eq(a->filter.tls_required_no, b->filter.tls_required_no);
    cr_assert_eq(a->filter.header_ended, b->filter.header_ended);
    cr_assert(slice_equal(header_filter_id(&a->filter), header_filter_id(&b->filter)),
              "%s: cut at %zu", in, first);
}

static const struct result *run(const char *text, bool keeps)
{
    static struct result whole, split;
    const struct slice in = slice_of_string(text);
    filter(&whole, in, keeps, in.size, 1);
    cr_assert_eq(whole.size + whole.filter.removed, in.size, "%s", text);
    filter(&split, in, keeps, 0, 1);
    same(&whole, &split, text, 0);
    for (size_t first = 1; first < in.size; first++) {
        filter(&split, in, keeps, first, in.size);
        same(&whole, &split, text, first);
    }
    return &whole;
}

/* With the right to them all stay, and as much is counted as goes without it. */
static void leaves(const char *text, const char *rest)
{
    const struct result *result = run(text, false);
    cr_assert(slice_equal(slice_of(result->out, result->size), slice_of_string(rest)),
              "%s: left %.*s", text, (int)result->size, result->out);
    cr_assert_eq(result->filter.removed_fields > 0, strlen(rest) < strlen(text));
    const uint64_t removed = result->filter.removed;
    result = run(text, true);
    cr_assert(slice_equal(slice_of(result->out, result->size), slice_of_string(text)), "%s", text);
    cr_assert_eq(result->filter.trusted, removed, "%s", text);
    cr_assert_eq(result->filter.removed_fields, 0);
}

Test(header_filter, what_goes)
{
    leaves("X-Ringpost-Internal: yes\r\nSubject: a\r\n\r\nb", "Subject: a\r\n\r\nb");
    leaves("Subject: a\r\nX-RINGPOST-x: yes\r\n\tand more\r\n \r\nTo: b\r\n\r\n",
           "Subject: a\r\nTo: b\r\n\r\n");
    leaves("x-corp-checked \t : yes\r\n\r\n", "\r\n");
    leaves("X-Corp-Checked\r\n : yes\r\n more\r\nA: b\r\n\r\n", "A: b\r\n\r\n");
    leaves("X-Corp-Checked:a\r\nX-Corp-Checked:b\r\nX-Corp-Checked:c\r\n\r\n", "\r\n");
    leaves("X-Ringpost-:\r\nA: b\r\n\r\n", "A: b\r\n\r\n");
    leaves("A: b\r\nX-Ringpost-End: c", "A: b\r\n"); /* BDAT, and no more */
    leaves("A: b\r\nX-Ringpost-End", "A: b\r\nX-Ringpost-End");
    leaves(
        "X-Ringpost-" /* a name of 90 octets, and no colon within those looked at */
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901: x\r\n"
        "A: b\r\n",
        "A: b\r\n");
}

Test(header_filter, what_stays)
{
    leaves("", "");
    leaves("\r\n", "\r\n");
    leaves("Subject: a\r\n\r\nX-Ringpost-Internal: yes\r\n", /* that is the body */
           "Subject: a\r\n\r\nX-Ringpost-Internal: yes\r\n");
    leaves("\r\nX-Ringpost-A: b\r\n", "\r\nX-Ringpost-A: b\r\n");
    leaves("X-Ringpost: a\r\nX-Corp-Checked-Too: b\r\nX-Corp-Check: c\r\nX: d\r\n\r\n",
           "X-Ringpost: a\r\nX-Corp-Checked-Too: b\r\nX-Corp-Check: c\r\nX: d\r\n\r\n");
    leaves("A: b\r\n X-Ringpost-A: folded\r\n\r\n", "A: b\r\n X-Ringpost-A: folded\r\n\r\n");
    leaves(" X-Ringpost-A: first line\r\n\r\n", " X-Ringpost-A: first line\r\n\r\n");
    leaves("X-Corp-Checked no colon: a\r\n\r\n", "X-Corp-Checked no colon: a\r\n\r\n");
    leaves("X-Corp-Checked\r\nA: b\r\n\r\n", "X-Corp-Checked\r\nA: b\r\n\r\n");
    leaves("X-Corp-Checked\r\n\r\n: a\r\n", "X-Corp-Checked\r\n\r\n: a\r\n");
    leaves("X-Corp-Checked\r", "X-Corp-Checked\r");
    leaves("X-R\xc3\xa4: a\r\nX\x01: b\r\n\r\n", "X-R\xc3\xa4: a\r\nX\x01: b\r\n\r\n");
}

Test(header_filter, authentication_results_of_ours_and_of_others)
{
#define OTHERS                                                                                     \
    "Authentication-Results: mx.other.example; spf=pass\r\n"                                       \
    "Authentication-Results: mx.corp.example.net; spf=pass\r\n"                                    \
    "Authentication-Results: mx.corp.exampl; spf=pass\r\n"                                         \
    "Authentication-Results: a.mx.corp.example; spf=pass\r\n"                                      \
    "Authentication-Results: (mx.corp.example) other; spf=pass\r\n"                                \
    "Authentication-Results: \"mx.corp.example.\"; spf=pass\r\n"                                   \
    "Authentication-Results:\r\n"                                                                  \
    "ARC-Authentication-Results: i=1; mx.corp.example; spf=pass\r\n"                               \
    "Authentication-Results: ; mx.corp.example\r\n"
    leaves(OTHERS "\r\n", OTHERS "\r\n");
    leaves("Authentication-Results: mx.corp.example; spf=pass\r\n smtp.mailfrom=a\r\n" OTHERS,
           OTHERS);
    leaves(OTHERS "authentication-results:mx.CORP.example 1; none\r\n" OTHERS, OTHERS OTHERS);
    leaves("Authentication-Results:\r\n\tmx.corp.example\r\n; none\r\nA: b\r\n",
           "; none\r\nA: b\r\n");
    leaves("Authentication-Results: (a (b) \\) c) \r\n (d) mx.corp.example/1; none\r\nA: b\r\n",
           "A: b\r\n");
    leaves("Authentication-Results : \"mx.\\corp.example\"; none\r\nA: b\r\n", "A: b\r\n");
    leaves("Authentication-Results: mx.corp.example(c)\r\nA: b\r\n", "A: b\r\n");
    leaves("A: b\r\nAuthentication-Results: mx.corp.example", "A: b\r\n");
    leaves("A: b\r\nAuthentication-Results: (mx.corp", "A: b\r\nAuthentication-Results: (mx.corp");
}

Test(header_filter, what_takes_too_long_to_say_goes)
{
    static char text[4 * HEADER_HELD_MAX];
    for (int blanks = HEADER_HELD_MAX - 60; blanks < HEADER_HELD_MAX + 20; blanks += 4) {
        snprintf(text, sizeof(text), "X-Corp-Checked%*s: a\r\nA: b\r\n", blanks, "");
        leaves(text, "A: b\r\n");
        snprintf(text, sizeof(text), "Authentication-Results: (%*s) mx.corp.example; a\r\nA: b\r\n",
                 blanks, "");
        leaves(text, "A: b\r\n");
        /* of no use to anybody, but harmless */
        snprintf(text, sizeof(text), "TLS-Required%*s: No\r\nA: b\r\n", blanks, "");
        leaves(text, text);
    }
    int size = snprintf(text, sizeof(text), "Authentication-Results:\r\n");
    while (size < HEADER_HELD_MAX + 40)
        size += snprintf(text + size, sizeof(text) - (size_t)size, " (%d)\r\n", size);
    snprintf(text + size, sizeof(text) - (size_t)size, " other.example; none\r\nA: b\r\n\r\nc");
    leaves(text, "A: b\r\n\r\nc");
}

static bool is_tls_optional(const char *text)
{
    return header_filter_tls_optional(&run(text, false)->filter);
}

Test(header_filter, tls_required)
{
    cr_assert(is_tls_optional("TLS-Required: No\r\n\r\n"));
    cr_assert(is_tls_optional("A: b\r\ntls-required :\tno \r\nB: c\r\n\r\n"));
    cr_assert(is_tls_optional("TLS-Required:\r\n NO\r\n\r\n"));
    cr_assert(is_tls_optional("TLS-Required: no\r\nTLS-Required: No\r\n\r\n"));
    cr_assert(is_tls_optional("TLS-Required: No"));
    cr_assert_not(is_tls_optional("\r\nTLS-Required: No\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: Yes\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required:\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: N\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: N\r\n o\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: No, really\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: Nothing\r\n\r\n"));
    cr_assert_not(is_tls_optional("TLS-Required: No\r\nTLS-Required: Yes\r\n\r\n"));
    cr_assert_not(is_tls_optional("X-TLS-Required: No\r\n\r\n"));
    cr_assert_not(is_tls_optional("A: b\r\n TLS-Required: No\r\n\r\n"));
}

static bool has_required(const char *text)
{
    return header_filter_has_required(&run(text, false)->filter);
}

Test(header_filter, required_field)
{
    cr_assert(has_required("X-OriginatorOrg: bank.example\r\n\r\n"));
    cr_assert(has_required("A: b\r\nx-originatororg :  bank.example \t\r\nC: d\r\n\r\n"));
    cr_assert(has_required("X-OriginatorOrg:\r\n bank.example\r\n\r\n"));
    cr_assert_not(has_required("A: b\r\n\r\n"));
    cr_assert_not(has_required("A: b\r\n\r\nX-OriginatorOrg: bank.example\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: Bank.example\r\n\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: bank.example.net\r\n\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: bank.exampl\r\n\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: bank.example (ours)\r\n\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: bank.example\r\n bank.example\r\n\r\n"));
    cr_assert_not(
        has_required("X-OriginatorOrg: bank.example\r\nX-OriginatorOrg: bank.example\r\n"));
    cr_assert_not(has_required("X-OriginatorOrg: bank.example\r\nX-OriginatorOrg: evil\r\n\r\n"));
}

Test(header_filter, message_id)
{
    static const struct {
        const char *text, *id;
    } rows[] = {
        { "Message-ID: <a.1@x.example>\r\nSubject: x\r\n\r\n", "<a.1@x.example>" },
        { "MESSAGE-id:<a@x>\r\n\r\n", "<a@x>" },
        { "Message-ID \t: \t <a@x> \r\n\r\n", "<a@x>" },
        { "Message-ID:\r\n <folded@x>\r\n\r\n", "<folded@x>" },
        { "Message-ID:\r\n\t\r\n <folded@x>\r\n more\r\n\r\n", "<folded@x>" },
        { "Message-ID: <first@x>\r\nMessage-ID: <second@x>\r\n\r\n", "<first@x>" },
        { "Message-ID:\r\nMessage-ID: <second@x>\r\n\r\n", "<second@x>" },
        { "Message-ID: <a@x> (comment) <b@x>\r\n\r\n", "<a@x>" },
        { "Message-ID: <a@x\r\n >\r\n\r\n", "<a@x" },
        { "Message-ID: \x01<a\x1b@x>\r\n\r\n", "<a" },
        { "Message-ID: gr\xc3\xbc\xc3\x9f\x7f\r\n\r\n", "gr\xc3\xbc\xc3\x9f\x7f" },
        { "Message-ID: cut", "cut" },
        { "Message-IDs: <a@x>\r\nMessage-I: <b@x>\r\nX: y\r\n Message-ID: <c@x>\r\n\r\n", "" },
        { "Subject: x\r\n\r\nMessage-ID: <body@x>\r\n", "" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct result *r = run(rows[i].text, false);
        cr_expect(slice_equal(header_filter_id(&r->filter), slice_of_string(rows[i].id)), "%s",
                  rows[i].text);
        cr_expect_eq(r->size, strlen(rows[i].text), "it stays where it is");
    }
    char text[1'000];
    for (int size = HEADER_ID_MAX - 1; size <= HEADER_ID_MAX + 1; size++) {
        snprintf(text, sizeof(text), "Message-ID: %0*d\r\n\r\n", size, 0);
        const struct result *r = run(text, false);
        cr_expect_eq(r->filter.id_size, MIN(size, HEADER_ID_MAX));
    }
}
