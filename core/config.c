/*
 * config.c - what operators write, checked, and libConfuse's complaints in a list
 *
 * libConfuse gives its error function no pointer of ours; the lock that its global lexer needs also
 * covers the list that is being filled.
 */
#include "core/config.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/check.h"

enum { PLACE_BYTES = 192, BOUND_BYTES = 24, PER_MILLE = 1000 };

static pthread_mutex_t parsing_lock = PTHREAD_MUTEX_INITIALIZER;
static struct config_errors *parsing; /* NULL: nobody is */

/* ---- words ---- */

struct unit {
    const char *name;
    uint64_t factor;
};
/* The largest first. */
static const struct unit time_units[] = {
    { "d", 86'400'000 }, { "h", 3'600'000 }, { "m", 60'000 }, { "s", 1000 }, { "ms", 1 },
};
static const struct unit size_units[] = {
    { "T", UINT64_C(1) << 40 },
    { "G", UINT64_C(1) << 30 },
    { "M", UINT64_C(1) << 20 },
    { "K", UINT64_C(1) << 10 },
    { "", 1 },
};

/* Digits at the start, taken off the text. 0, -EINVAL: none, -ERANGE. */
static int take_number(struct slice *text, uint64_t *number)
{
    size_t size = 0;
    while (size < text->size && text->data[size] >= '0' && text->data[size] <= '9')
        size++;
    int r = slice_to_u64(slice_part(*text, 0, size), UINT64_MAX, number);
    *text = slice_from(*text, size);
    return r;
}

/* Letters at the start, taken off the text; the unit of that name or NULL. */
static const struct unit *take_unit(struct slice *text, const struct unit *units, unsigned count)
{
    size_t size = 0;
    while (size < text->size && (text->data[size] < '0' || text->data[size] > '9'))
        size++;
    struct slice name = slice_part(*text, 0, size);
    *text = slice_from(*text, size);
    for (unsigned i = 0; i < count; i++)
        if (slice_equal(name, slice_of_string(units[i].name)))
            return &units[i];
    return NULL;
}

int config_duration(struct slice text, uint64_t *ms)
{
    uint64_t sum = 0;
    uint64_t before = UINT64_MAX; /* units get smaller: 1h30m, neither 30m1h nor 1h1h */
    if (slice_equal(text, SLICE("0"))) {
        *ms = 0;
        return 0;
    }
    do {
        uint64_t number;
        int r = take_number(&text, &number);
        if (r < 0)
            return r;
        const struct unit *unit = take_unit(&text, time_units, ARRAY_COUNT(time_units));
        if (unit == NULL || unit->factor >= before)
            return -EINVAL;
        before = unit->factor;
        if (__builtin_mul_overflow(number, unit->factor, &number) ||
            __builtin_add_overflow(sum, number, &sum))
            return -ERANGE;
    } while (text.size > 0);
    *ms = sum;
    return 0;
}

int config_size(struct slice text, uint64_t *bytes)
{
    uint64_t number;
    int r = take_number(&text, &number);
    if (r < 0)
        return r;
    const struct unit *unit = take_unit(&text, size_units, ARRAY_COUNT(size_units));
    if (unit == NULL || text.size > 0)
        return -EINVAL;
    if (__builtin_mul_overflow(number, unit->factor, &number))
        return -ERANGE;
    *bytes = number;
    return 0;
}

int config_share(struct slice text, unsigned *per_mille)
{
    uint64_t whole;
    uint64_t tenths = 0;
    int r = take_number(&text, &whole);
    if (r < 0)
        return r;
    if (text.size > 0 && text.data[0] == '.') {
        text = slice_from(text, 1);
        if (text.size != 2 || take_number(&text, &tenths) < 0)
            return -EINVAL;
    }
    if (!slice_equal(text, SLICE("%")))
        return -EINVAL;
    if (whole > 100 || whole * 10 + tenths > PER_MILLE)
        return -ERANGE;
    *per_mille = (unsigned)(whole * 10 + tenths);
    return 0;
}

/* ---- complaints ---- */

static void errors_add(struct config_errors *errors, const char *place, const char *format,
                       va_list arguments)
{
    if (errors->count == CONFIG_ERRORS_MAX) {
        errors->more++;
        return;
    }
    char *text = errors->text[errors->count++];
    int size = snprintf(text, CONFIG_ERROR_BYTES, "%s: ", place);
    if (size > 0 && size < CONFIG_ERROR_BYTES)
        vsnprintf(text + size, CONFIG_ERROR_BYTES - (size_t)size, format, arguments);
}

/* file:line: section "title": key */
static void place_of(const cfg_t *cfg, const char *key, char out[static PLACE_BYTES])
{
    bool top = cfg->name == NULL || strcmp(cfg->name, "root") == 0;
    const char *title = cfg->title;
    snprintf(out, PLACE_BYTES, "%s:%d%s%s%s%s%s%s%s",
             cfg->filename == NULL ? "configuration" : cfg->filename, cfg->line, top ? "" : ": ",
             top ? "" : cfg->name, title == NULL ? "" : " \"", title == NULL ? "" : title,
             title == NULL ? "" : "\"", key == NULL ? "" : ": ", key == NULL ? "" : key);
}

void config_complain(struct config_errors *errors, cfg_t *cfg, const char *key, const char *format,
                     ...)
{
    char place[PLACE_BYTES];
    va_list arguments;
    place_of(cfg, key, place);
    va_start(arguments, format);
    errors_add(errors, place, format, arguments);
    va_end(arguments);
}

static void on_error(cfg_t *cfg, const char *format, va_list arguments)
{
    char place[PLACE_BYTES];
    CHECK(parsing != NULL);
    place_of(cfg, NULL, place);
    errors_add(parsing, place, format, arguments);
}

/* ---- a file ---- */

int config_open(const char *path, cfg_opt_t *schema, struct config_errors *errors, cfg_t **cfg_out)
{
    *errors = (struct config_errors) { 0 };
    cfg_t *cfg = cfg_init(schema, CFGF_NONE);
    if (cfg == NULL)
        return -ENOMEM;
    cfg_set_error_function(cfg, on_error);
    pthread_mutex_lock(&parsing_lock);
    parsing = errors;
    errno = 0;
    int r = cfg_parse(cfg, path);
    int error = errno;
    parsing = NULL;
    pthread_mutex_unlock(&parsing_lock);
    if (r == CFG_SUCCESS && errors->count == 0) {
        *cfg_out = cfg;
        return 0;
    }
    int result = r == CFG_FILE_ERROR && error != 0 ? -error : -EINVAL;
    if (errors->count == 0)
        config_complain(errors, cfg, NULL, "%s: cannot be read: %s", path,
                        strerrordesc_np(result == -EINVAL ? EINVAL : error));
    cfg_free(cfg);
    return result;
}

/* ---- values ---- */

/* The words of a bound: exact, in the largest unit that allows it. */
static void bound_text(char out[static BOUND_BYTES], uint64_t value, const struct unit *units,
                       unsigned count)
{
    unsigned i = 0;
    while (i + 1 < count && (value == 0 || value % units[i].factor != 0))
        i++;
    snprintf(out, BOUND_BYTES, "%llu%s", (unsigned long long)(value / units[i].factor),
             value == 0 ? "" : units[i].name);
}

static uint64_t in_range(cfg_t *cfg, const char *key, int (*parse)(struct slice, uint64_t *),
                         const struct unit *units, unsigned units_count, uint64_t min, uint64_t max,
                         struct config_errors *errors)
{
    const char *text = cfg_getstr(cfg, key);
    uint64_t value = 0;
    CHECK(min <= max);
    int r = text == NULL ? -EINVAL : parse(slice_of_string(text), &value);
    if (r == 0 && value >= min && value <= max)
        return value;
    char low[BOUND_BYTES];
    char high[BOUND_BYTES];
    bound_text(low, min, units, units_count);
    bound_text(high, max, units, units_count);
    config_complain(errors, cfg, key, "\"%.64s\" is not allowed; give a value from %s to %s",
                    text == NULL ? "" : text, low, high);
    return min;
}

uint64_t config_get_duration(cfg_t *cfg, const char *key, uint64_t min_ms, uint64_t max_ms,
                             struct config_errors *errors)
{
    return in_range(cfg, key, config_duration, time_units, ARRAY_COUNT(time_units), min_ms, max_ms,
                    errors);
}

uint64_t config_get_size(cfg_t *cfg, const char *key, uint64_t min, uint64_t max,
                         struct config_errors *errors)
{
    return in_range(cfg, key, config_size, size_units, ARRAY_COUNT(size_units), min, max, errors);
}

unsigned config_get_share(cfg_t *cfg, const char *key, unsigned min, unsigned max,
                          struct config_errors *errors)
{
    const char *text = cfg_getstr(cfg, key);
    unsigned value = 0;
    int r = text == NULL ? -EINVAL : config_share(slice_of_string(text), &value);
    if (r == 0 && value >= min && value <= max)
        return value;
    config_complain(errors, cfg, key,
                    "\"%.64s\" is not allowed; give a value from %u.%u%% to %u.%u%%",
                    text == NULL ? "" : text, min / 10, min % 10, max / 10, max % 10);
    return min;
}

long config_get_number(cfg_t *cfg, const char *key, long min, long max,
                       struct config_errors *errors)
{
    long value = cfg_getint(cfg, key);
    if (value >= min && value <= max)
        return value;
    config_complain(errors, cfg, key, "%ld is not allowed; give a value from %ld to %ld", value,
                    min, max);
    return min;
}

unsigned config_get_list(cfg_t *cfg, const char *key, const char **list, unsigned capacity,
                         struct config_errors *errors)
{
    unsigned count = cfg_size(cfg, key);
    if (count > capacity) {
        config_complain(errors, cfg, key, "%u values; give at most %u", count, capacity);
        count = capacity;
    }
    for (unsigned i = 0; i < count; i++)
        list[i] = cfg_getnstr(cfg, key, i);
    return count;
}
