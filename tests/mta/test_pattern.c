/*
 * test_pattern.c - what is no pattern; then matches against a slow and plain model
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "core/random.h"
#include "mta/pattern.h"
#include "tests/core/fewer.h"

static struct pattern_set *set_of(const char *const *patterns, unsigned count)
{
    struct pattern_set *set;
    const char *why;
    uint32_t other;
    cr_assert_eq(pattern_set_new(&set), 0);
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(pattern_set_add(set, slice_of_string(patterns[i]), i, &other, &why), 0,
                     "%s: %s", patterns[i], why);
    return set;
}

Test(pattern, refuses)
{
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "a..b",
        "*.",
        "**",
        "*.*",
        "*.*.d",
        "a*.d",
        "a.*.d",
        "*a.d",
        "d.*",
        "*d",
        " d.example",
        "d example",
        "-a.d",
        "a-.d",
        "[192.0.2.1",
        "[192.0.2.256]",
        "[]",
        "*.[192.0.2.1]",
        "[2001:db8::1]",
        "[IPv6:192.0.2.1]",
        "[IPv6:x]",
        "[x:1]",
        "[192.0.2.1]:25",
        "d.example:25",
        "a@d.example",
        "\xff\xfe.example",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
    };
    struct pattern_set *set = set_of(NULL, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
        const char *why = NULL;
        uint32_t other;
        int r = pattern_set_add(set, slice_of_string(bad[i]), 0, &other, &why);
        cr_assert_eq(r, -EINVAL, "`%s` gave %d", bad[i], r);
        cr_assert_not_null(why);
    }
    cr_assert_eq(pattern_set_count(set), 0);
    pattern_set_free(set);
}

Test(pattern, refuses_the_same_in_another_spelling)
{
    static const char *const first[] = { "D.Example.", "*.x.example",
                                         ("b\xc3\xbc"
                                          "cher.example"),
                                         "[IPv6:2001:DB8:0:0::1]" };
    static const char *const again[] = { "d.example", "*.X.example.", "xn--bcher-kva.example",
                                         "[ipv6:2001:db8::1]" };
    struct pattern_set *set = set_of(first, 4);
    for (unsigned i = 0; i < 4; i++) {
        const char *why;
        uint32_t other = 99;
        cr_assert_eq(pattern_set_add(set, slice_of_string(again[i]), 7, &other, &why), -EEXIST);
        cr_assert_eq(other, i);
    }
    pattern_set_free(set);
}

Test(pattern, empty_and_over_long_domains_match_nothing)
{
    static const char *const all[] = { "*" };
    struct pattern_set *set = set_of(all, 1);
    struct pattern_match match;
    char big[400];
    memset(big, 'a', sizeof(big));
    cr_assert(!pattern_set_find(set, SLICE(""), &match));
    cr_assert_eq(match.kind, PATTERN_NONE);
    cr_assert(!pattern_set_find(set, slice_of(big, sizeof(big)), &match));
    cr_assert(!pattern_set_find(set, slice_of(big, PATTERN_TEXT_MAX), &match));
    pattern_set_free(set);
}

Test(pattern, most_specific_wins)
{
    static const char *const patterns[] = {
        "*", "*.example", "*.d.example", "d.example", "*.b.d.example", "[192.0.2.1]", "*.c",
    };
    static const struct {
        const char *domain;
        int value; /* -1: none */
    } cases[] = {
        { "d.example", 3 },   { "a.d.example", 2 }, { "b.d.example", 2 }, { "a.b.d.example", 4 },
        { "e.example", 1 },   { "example", 0 },     { "c", 0 },           { "x.y.c", 6 },
        { "[192.0.2.1]", 5 }, { "[192.0.2.2]", 0 }, { "xd.example", 1 },  { "org", 0 },
    };
    struct pattern_set *set = set_of(patterns, ARRAY_COUNT(patterns));
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct pattern_match match;
        cr_assert(pattern_set_find(set, slice_of_string(cases[i].domain), &match));
        cr_assert_eq((int)match.value, cases[i].value, "%s -> %u", cases[i].domain, match.value);
    }
    pattern_set_free(set);
    set = set_of(patterns + 1, ARRAY_COUNT(patterns) - 1);
    struct pattern_match match;
    cr_assert(!pattern_set_find(set, SLICE("example"), &match));
    cr_assert(!pattern_set_find(set, SLICE("c"), &match));
    cr_assert(!pattern_set_find(set, SLICE("[192.0.2.2]"), &match));
    /* inside a literal a dot is no label's end */
    cr_assert(!pattern_set_find(set, SLICE("[1.c"), &match));
    pattern_set_free(set);
}

/* Few labels from few letters, so that suffixes meet often. */
static size_t some_domain(struct random *random, char *out)
{
    unsigned labels = 1 + (unsigned)random_below(random, 5);
    size_t size = 0;
    for (unsigned i = 0; i < labels; i++) {
        if (i > 0)
            out[size++] = '.';
        unsigned letters = 1 + (unsigned)random_below(random, 2);
        for (unsigned k = 0; k < letters; k++)
            out[size++] = (char)('a' + random_below(random, 3));
    }
    out[size] = '\0';
    return size;
}

struct model {
    char text[4'096][PATTERN_TEXT_MAX + 2];
    unsigned count;
};

static bool model_fits(const char *pattern, const char *domain)
{
    size_t size = strlen(pattern), domain_size = strlen(domain);
    return strcmp(pattern, domain) == 0 || strcmp(pattern, "*") == 0 ||
           (pattern[0] == '*' && domain_size > size - 1 &&
            strcmp(domain + domain_size - (size - 1), pattern + 1) == 0);
}

/* The most specific one; *matches is how many there are. */
static int model_find(const struct model *model, const char *domain, unsigned *matches)
{
    int best = -1;
    size_t best_size = 0;
    *matches = 0;
    for (unsigned i = 0; i < model->count; i++) {
        const char *pattern = model->text[i];
        if (!model_fits(pattern, domain))
            continue;
        bool exact = strcmp(pattern, domain) == 0;
        size_t size = exact ? PATTERN_TEXT_MAX + 2 : strlen(pattern);
        ++*matches;
        if (size > best_size) {
            best = (int)i;
            best_size = size;
        }
    }
    return best;
}

Test(pattern, agrees_with_a_model)
{
    static struct model model;
    for (uint64_t seed = 1; seed <= FEWER(40); seed++) {
        struct random random;
        random_seed(&random, seed);
        struct pattern_set *set = set_of(NULL, 0);
        model.count = 0;
        unsigned wanted = (unsigned)random_below(&random, seed % 4 == 0 ? 2'000 : 60);
        for (unsigned i = 0; i < wanted; i++) {
            char *text = model.text[model.count];
            const char *why;
            uint32_t other;
            size_t star = random_below(&random, 2) == 0 ? 2 : 0;
            memcpy(text, "*.", 2);
            some_domain(&random, text + star);
            if (random_below(&random, 300) == 0)
                memcpy(text, "*", 2);
            int r = pattern_set_add(set, slice_of_string(text), model.count, &other, &why);
            if (r == 0)
                model.count++;
            else
                cr_assert_eq(r, -EEXIST, "%s: %s", text, why);
        }
        cr_assert_eq(pattern_set_count(set), model.count);
        for (unsigned i = 0; i < 3'000; i++) {
            char domain[64];
            struct pattern_match match, all[PATTERN_MATCHES_MAX];
            size_t size = some_domain(&random, domain);
            unsigned matches;
            int expected = model_find(&model, domain, &matches);
            bool found = pattern_set_find(set, slice_of(domain, size), &match);
            cr_assert_eq(found ? (int)match.value : -1, expected, "seed %llu domain %s",
                         (unsigned long long)seed, domain);
            cr_assert_eq(pattern_set_find_all(set, slice_of(domain, size), all), matches);
            for (unsigned k = 0; k < matches; k++) {
                cr_assert(model_fits(model.text[all[k].value], domain));
                cr_assert(k == 0 || all[k - 1].kind > all[k].kind ||
                              all[k - 1].labels > all[k].labels,
                          "the most specific first");
            }
            cr_assert(matches == 0 || all[0].value == match.value);
        }
        pattern_set_free(set);
    }
}

Test(pattern, twenty_thousand_and_no_more_than_the_bound)
{
    struct pattern_set *set = set_of(NULL, 0);
    const char *why;
    uint32_t other;
    char text[64];
    for (unsigned i = 0; i < PATTERNS_MAX; i++) {
        snprintf(text, sizeof(text), "%scustomer-%u.example", i % 2 == 0 ? "*." : "", i);
        cr_assert_eq(pattern_set_add(set, slice_of_string(text), i, &other, &why), 0);
    }
    cr_assert_eq(pattern_set_add(set, SLICE("one.more"), 0, &other, &why), -ENOSPC);
    for (unsigned i = 0; i < PATTERNS_MAX; i++) {
        struct pattern_match match;
        snprintf(text, sizeof(text), "%scustomer-%u.example", i % 2 == 0 ? "a.b." : "", i);
        cr_assert(pattern_set_find(set, slice_of_string(text), &match));
        cr_assert_eq(match.value, i);
        cr_assert_eq(match.labels, 2);
    }
    pattern_set_free(set);
}

Test(pattern, text_comes_back_in_normal_form)
{
    static const char *const patterns[] = { "*", "*.D.example", "E.example.", "[IPv6:::1]" };
    static const char *const texts[] = { "*", "*.d.example", "e.example", "[ipv6:::1]" };
    struct pattern_set *set = set_of(patterns, 4);
    for (unsigned i = 0; i < 4; i++) {
        char out[PATTERN_TEXT_MAX + 2];
        struct slice text = pattern_set_text(set, i, out);
        cr_assert_str_eq(out, texts[i]);
        cr_assert_eq(text.size, strlen(texts[i]));
    }
    pattern_set_free(set);
}

Test(pattern, all_matches_come_most_specific_first)
{
    static const char *const texts[] = { "*",           "*.example",     "*.b.example",
                                         "a.b.example", "*.a.b.example", "*.c.example" };
    static const uint32_t wanted[] = { 3, 2, 1, 0 };
    struct pattern_set *set;
    struct pattern_match matches[PATTERN_MATCHES_MAX];
    cr_assert_eq(pattern_set_new(&set), 0);
    for (uint32_t i = 0; i < ARRAY_COUNT(texts); i++) {
        uint32_t other;
        const char *why;
        cr_assert_eq(pattern_set_add(set, slice_of_string(texts[i]), i, &other, &why), 0);
    }
    cr_assert_eq(pattern_set_find_all(set, SLICE(""), matches), 0);
    cr_assert_eq(pattern_set_find_all(set, SLICE("a.b.example"), matches), ARRAY_COUNT(wanted));
    for (unsigned i = 0; i < ARRAY_COUNT(wanted); i++)
        cr_assert_eq(matches[i].value, wanted[i]);
    /* A star is a label like any other: never an exact pattern, always below a wildcard. */
    cr_assert_eq(pattern_set_find_all(set, SLICE("*.b.example"), matches), 3);
    cr_assert_eq(matches[0].value, 2);
    pattern_set_free(set);
}
