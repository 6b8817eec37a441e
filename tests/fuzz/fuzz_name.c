/*
 * fuzz_name.c - patterns against names in certificates, and the names of a subjectAltName
 *
 * The first octet says whether wildcards in certificates count; then a pattern and names, a line
 * each. Without wildcards a match is equality; with one it is what stands behind the '*', and never
 * an octet that is not of a host name. The lines as they are, are a subjectAltName too.
 */
#include "core/check.h"
#include "tls/tls_name.h"

enum { LINES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_wild(struct slice name)
{
    return name.size > 1 && name.data[0] == '*' && name.data[1] == '.';
}

static void check_usable(struct slice name)
{
    CHECK(name.size > 0 && name.size <= TLS_NAME_MAX);
    CHECK(name.data[name.size - 1] != '.');
    for (size_t i = is_wild(name) ? 1 : 0; i < name.size; i++) {
        const uint8_t c = name.data[i];
        CHECK((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == '.');
        CHECK(c != '.' || name.data[i + 1] != '.');
    }
}

static void check_match(struct slice pattern, struct slice name, bool cert_wildcard)
{
    if (pattern.data[pattern.size - 1] == '.')
        pattern.size--;
    check_usable(name);
    CHECK(tls_name_usable(name));
    CHECK(cert_wildcard || !is_wild(name));
    CHECK(tls_name_match(pattern, name, true));
    if (!is_wild(pattern) && !is_wild(name)) {
        CHECK(slice_equal_nocase(pattern, name));
    } else if (!is_wild(pattern)) {
        const struct slice domain = slice_from(name, 1);
        CHECK(slice_ends_nocase(pattern, domain));
        const size_t label = pattern.size - domain.size;
        CHECK(label > 0 && slice_find(slice_part(pattern, 0, label), '.') < 0);
    } else {
        const struct slice domain = slice_from(pattern, 1);
        CHECK(slice_ends_nocase(name, domain));
        CHECK(name.size > domain.size);
    }
}

static void check_names(const struct tls_names *names)
{
    char text[256];
    CHECK(names->count <= TLS_NAMES_MAX);
    for (unsigned i = 0; i < names->count; i++) {
        const struct slice name = tls_names_at(names, i);
        check_usable(name);
        CHECK(tls_name_usable(name));
        for (size_t j = 0; j < name.size; j++)
            CHECK(name.data[j] == ascii_lower(name.data[j]));
    }
    CHECK(tls_names_text(names, text, sizeof(text)) == strlen(text));
}

/* Whichever is the best, it matches, and there is one if and only if one matches. */
static void check_best(const struct slice *patterns, size_t patterns_count,
                       const struct tls_names *names, bool cert_wildcard)
{
    struct slice best;
    bool any = false, best_matches = false;
    const bool found = tls_name_best(patterns, patterns_count, names, cert_wildcard, &best);
    for (size_t i = 0; i < patterns_count; i++) {
        for (unsigned j = 0; j < names->count; j++)
            any |= tls_name_match(patterns[i], tls_names_at(names, j), cert_wildcard);
        best_matches |= found && tls_name_match(patterns[i], best, cert_wildcard);
    }
    CHECK(found == any);
    CHECK(best_matches == found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_names names;
    if (size == 0)
        return 0;
    const bool cert_wildcard = (data[0] & 1) != 0;
    struct slice rest = slice_of(data + 1, size - 1), lines[LINES_MAX];
    size_t count = 0;
    names.count = names.ignored = names.dropped = 0;
    if (tls_names_read(&names, rest) == 0)
        check_names(&names);
    names.count = names.ignored = names.dropped = 0;
    while (count < LINES_MAX && rest.size > 0) {
        const ptrdiff_t end = slice_find(rest, '\n');
        lines[count] = end < 0 ? rest : slice_part(rest, 0, (size_t)end);
        rest = slice_from(rest, lines[count].size + 1);
        if (count > 0)
            tls_names_add(&names, lines[count]);
        if (tls_name_match(lines[0], lines[count], cert_wildcard))
            check_match(lines[0], lines[count], cert_wildcard);
        count++;
    }
    CHECK(names.count + names.ignored + names.dropped == (count > 0 ? count - 1 : 0));
    check_names(&names);
    check_best(lines, MIN(count, 2), &names, cert_wildcard);
    return 0;
}
