/*
 * config_read.c - words of a configuration to numbers, times, sizes and choices
 *
 * What is wrong is reported with its way out and reads as the default, so that reading goes on and
 * the next mistake is told as well. Allocates nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "mta/config.h"
#include "mta/config_file.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit time_units[] = {
    { "ms", 1 },        { "s", 1'000 },      { "m", 60'000 },
    { "h", 3'600'000 }, { "d", 86'400'000 }, { "w", 604'800'000 },
};
static const struct unit size_units[] = {
    { "", 1 },
    { "K", 1ULL << 10 },
    { "KiB", 1ULL << 10 },
    { "M", 1ULL << 20 },
    { "MiB", 1ULL << 20 },
    { "G", 1ULL << 30 },
    { "GiB", 1ULL << 30 },
    { "T", 1ULL << 40 },
    { "TiB", 1ULL << 40 },
};

/* Digits and then letters; text is moved behind them. */
static int parse_part(const char **text, const struct unit *units, size_t units_count,
                      uint64_t *value)
{
    const char *at = *text;
    while (*at >= '0' && *at <= '9')
        at++;
    uint64_t number;
    int r = slice_to_u64(slice_of(*text, (size_t)(at - *text)), UINT64_MAX, &number);
    if (r < 0)
        return r;
    const char *letters = at;
    while ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z'))
        at++;
    struct slice unit = slice_of(letters, (size_t)(at - letters));
    for (size_t i = 0; i < units_count; i++) {
        if (!slice_equal(unit, slice_of_string(units[i].name)))
            continue;
        *text = at;
        return __builtin_mul_overflow(number, units[i].factor, value) ? -ERANGE : 0;
    }
    return -EINVAL;
}

int config_parse_time(const char *text, uint64_t *ms)
{
    uint64_t sum = 0, part;
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    do {
        int r = parse_part(&text, time_units, ARRAY_COUNT(time_units), &part);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(sum, part, &sum))
            return -ERANGE;
    } while (*text != '\0');
    *ms = sum;
    return 0;
}

int config_parse_size(const char *text, uint64_t *bytes)
{
    int r = parse_part(&text, size_units, ARRAY_COUNT(size_units), bytes);
    return r == 0 && *text != '\0' ? -EINVAL : r;
}

/* The largest unit that leaves no rest. */
static const char *unit_text(uint64_t value, const struct unit *units, size_t count, char out[32])
{
    const struct unit *best = &units[0];
    for (size_t i = 0; value > 0 && i < count; i++)
        if (value % units[i].factor == 0 && units[i].factor > best->factor)
            best = &units[i];
    snprintf(out, 32, "%" PRIu64 "%s", value / best->factor, value == 0 ? "" : best->name);
    return out;
}

const char *config_file_text(const struct config_section *section, const char *key,
                             const char *otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    if (value == NULL)
        return otherwise;
    for (const char *at = value->text; *at != '\0'; at++) {
        if ((uint8_t)*at >= ' ' && *at != 0x7f)
            continue;
        config_file_error(section, key, value->line, "has control octets; remove them");
        return otherwise;
    }
    return value->text;
}

bool config_file_bool(const struct config_section *section, const char *key, bool otherwise)
{
    static const char *const words[] = { "no", "yes", NULL };
    return config_file_choice(section, key, words, otherwise) == 1;
}

uint64_t config_file_number(const struct config_section *section, const char *key, uint64_t min,
                            uint64_t max, uint64_t otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    uint64_t number;
    if (value == NULL)
        return otherwise;
    if (slice_to_u64(slice_of_string(value->text), max, &number) == 0 && number >= min)
        return number;
    config_file_error(section, key, value->line,
                      "`%.64s` is no number from %" PRIu64 " to %" PRIu64 "; write one, or remove "
                      "the line for the default (%" PRIu64 ")",
                      value->text, min, max, otherwise);
    return otherwise;
}

unsigned config_file_hundredths(const struct config_section *section, const char *key, unsigned min,
                                unsigned max, unsigned otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    if (value == NULL)
        return otherwise;
    struct slice text = slice_of_string(value->text);
    ptrdiff_t dot = slice_find(text, '.');
    uint64_t whole, part = 0;
    int r = slice_to_u64(slice_part(text, 0, dot < 0 ? text.size : (size_t)dot), 1'000'000, &whole);
    if (r == 0 && dot >= 0) {
        struct slice digits = slice_from(text, (size_t)dot + 1);
        r = digits.size > 2 ? -EINVAL : slice_to_u64(digits, 99, &part);
        if (digits.size == 1)
            part *= 10;
    }
    uint64_t hundredths = r == 0 ? whole * 100 + part : 0;
    if (r == 0 && hundredths >= min && hundredths <= max)
        return (unsigned)hundredths;
    config_file_error(section, key, value->line,
                      "`%.64s` is no number from %u.%02u to %u.%02u; default is %u.%02u",
                      value->text, min / 100, min % 100, max / 100, max % 100, otherwise / 100,
                      otherwise % 100);
    return otherwise;
}

struct unit_kind {
    int (*parse)(const char *text, uint64_t *number);
    const struct unit *units;
    size_t units_count;
    const char *usage; /* what another text is not, and how it is written */
};

static uint64_t number_with_unit(const struct config_section *section, const char *key,
                                 const struct unit_kind *kind, uint64_t min, uint64_t max,
                                 uint64_t otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    uint64_t number;
    char low[32], high[32], usual[32];
    if (value == NULL)
        return otherwise;
    int r = kind->parse(value->text, &number);
    if (r == 0 && number >= min && number <= max)
        return number;
    unit_text(min, kind->units, kind->units_count, low);
    unit_text(max, kind->units, kind->units_count, high);
    unit_text(otherwise, kind->units, kind->units_count, usual);
    if (r == -EINVAL)
        config_file_error(section, key, value->line, "`%.64s` is no %s, for example %s",
                          value->text, kind->usage, usual);
    else
        config_file_error(section, key, value->line, "`%.64s` is not from %s to %s; default is %s",
                          value->text, low, high, usual);
    return otherwise;
}

uint64_t config_file_time(const struct config_section *section, const char *key, uint64_t min_ms,
                          uint64_t max_ms, uint64_t otherwise_ms)
{
    static const struct unit_kind kind = {
        config_parse_time,
        time_units,
        ARRAY_COUNT(time_units),
        "time; write a number with its unit (ms, s, m, h, d, w)",
    };
    return number_with_unit(section, key, &kind, min_ms, max_ms, otherwise_ms);
}

uint64_t config_file_size(const struct config_section *section, const char *key, uint64_t min,
                          uint64_t max, uint64_t otherwise)
{
    static const struct unit_kind kind = {
        config_parse_size,
        size_units,
        ARRAY_COUNT(size_units),
        "size; write bytes or a number with K, M, G, T (powers of 1024)",
    };
    return number_with_unit(section, key, &kind, min, max, otherwise);
}

unsigned config_file_choice(const struct config_section *section, const char *key,
                            const char *const *words, unsigned otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    if (value == NULL)
        return otherwise;
    char all[256] = "";
    size_t size = 0;
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(value->text, words[i]) == 0)
            return i;
        int more = snprintf(all + size, sizeof(all) - size, "%s%s", i == 0 ? "" : ", ", words[i]);
        size = MIN(size + (size_t)MAX(more, 0), sizeof(all) - 1);
    }
    config_file_error(section, key, value->line, "`%.64s` is not known here; write one of: %s",
                      value->text, all);
    return otherwise;
}
