/*
 * config_file.c - libConfuse, told to remember lines and to go on behind errors
 *
 *   clean --> parse --ok--> sort --> readers
 *              ^  '--unknown key: reported, blanked--.
 *              '-------------------------------------'
 *              '--syntax: reported; what came before it is kept
 *
 * libConfuse stops at the first key that it does not know. So that statement is blanked in the
 * cleaned text and the parse starts again, at most RECOVERIES_MAX times. It also gives each section
 * 5 KiB of options, given or not, and compares each title with all before it: 20,000 sections would
 * take 100 MiB, and seconds. So what a section says is kept here when it ends, and libConfuse's
 * copy is freed; titles are compared here, sorted.
 */
#include "mta/config_file.h"

#include <confuse.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/check.h"
#include "mta/config.h"
#include "mta/config_text.h"

enum { RECOVERIES_MAX = 64, VALUES_MAX = 1 << 20, KEY_TEXT_MAX = 256, COMPLAINT_MAX = 512 };

enum { KEYS_MAX = 2 * CONFIG_SCHEMA_KEYS_MAX, BITS = 64 };

/* A section as it was read. */
struct config_kept {
    const struct config_schema *schema;
    char *title; /* NULL: none */
    unsigned line;
    unsigned from, count; /* of its values */
    uint64_t given[(KEYS_MAX + BITS - 1) / BITS];
};

struct kind { /* sections of a schema, in the order of the file */
    struct config_kept *sections;
    unsigned count, capacity;
};

/* The order of values: by kind, number of the section in it, key, and as they came. */
enum { SEQUENCE_BITS = 20, KEY_BITS = 7, NUMBER_BITS = 24 };
static_assert(VALUES_MAX <= 1 << SEQUENCE_BITS);
static_assert(KEYS_MAX <= 1 << KEY_BITS);
static_assert(CONFIG_FILE_BYTES_MAX <= 1 << NUMBER_BITS);
static_assert(CONFIG_SCHEMA_SECTIONS_MAX <= 1 << (BITS - SEQUENCE_BITS - KEY_BITS - NUMBER_BITS));

struct config_file {
    const char *name;
    const struct config_schema *schemas;
    unsigned schemas_count;
    struct config_report *report;
    char *text; /* cleaned */
    cfg_opt_t *tops;
    cfg_opt_t *subs[CONFIG_SCHEMA_SECTIONS_MAX];
    struct kind kinds[CONFIG_SCHEMA_SECTIONS_MAX];
    cfg_t *root;
    const cfg_t *in; /* the section that the last value was of, and: */
    uint64_t in_order;
    struct config_value *values;
    unsigned values_count, values_capacity;
    char complaint[COMPLAINT_MAX]; /* libConfuse's last one */
    unsigned complaint_line;
    char complaint_key[KEY_TEXT_MAX];
    bool out_of_memory;
};

/* libConfuse's callbacks carry no pointer of ours, and its lexer is global anyway. */
static pthread_mutex_t parsing_lock = PTHREAD_MUTEX_INITIALIZER;
static struct config_file *parsing;

static void key_text(char out[KEY_TEXT_MAX], const char *section, const char *title,
                     const char *key)
{
    const char *colon = *section != '\0' && *key != '\0' ? ": " : "";
    if (*title != '\0')
        snprintf(out, KEY_TEXT_MAX, "%s \"%s\"%s%s", section, title, colon, key);
    else
        snprintf(out, KEY_TEXT_MAX, "%s%s%s", section, colon, key);
}

static const char *section_name(const cfg_t *cfg)
{
    return strcmp(cfg->name, "root") == 0 ? "" : cfg->name;
}

static void on_error(cfg_t *cfg, const char *format, va_list arguments)
{
    struct config_file *file = parsing;
    if (*file->complaint != '\0')
        return; /* the first one is the cause */
    vsnprintf(file->complaint, sizeof(file->complaint), format, arguments);
    file->complaint_line = (unsigned)cfg->line;
    key_text(file->complaint_key, section_name(cfg), cfg->title == NULL ? "" : cfg->title, "");
}

static const struct config_schema *schema_of(const struct config_file *file, struct slice name)
{
    for (unsigned i = 1; i < file->schemas_count; i++)
        if (slice_equal(slice_of_string(file->schemas[i].name), name))
            return &file->schemas[i];
    return NULL;
}

static uint64_t order_of(unsigned kind, unsigned number, unsigned key)
{
    return (((uint64_t)kind << NUMBER_BITS | number) << KEY_BITS | key) << SEQUENCE_BITS;
}

/* Where values of this section belong. */
static uint64_t section_order(struct config_file *file, const cfg_t *cfg)
{
    if (cfg == file->in)
        return file->in_order;
    const struct config_schema *schema =
        cfg == file->root ? file->schemas : schema_of(file, slice_of_string(cfg->name));
    const unsigned kind = (unsigned)(schema - file->schemas);
    file->in = cfg;
    file->in_order = order_of(kind, file->kinds[kind].count, 0);
    return file->in_order;
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    struct config_file *file = parsing;
    const cfg_opt_t *own = cfg->opts;
    while (own->name != NULL && own != opt)
        own++;
    if (own != opt) { /* a|b: libConfuse's way around sections */
        cfg_error(cfg, "a key with | in its name");
        return -1;
    }
    if (file->values_count == file->values_capacity) {
        unsigned capacity = MAX(64U, file->values_capacity * 2);
        void *more = capacity > VALUES_MAX
                         ? NULL
                         : realloc(file->values, capacity * sizeof(file->values[0]));
        if (more == NULL) {
            file->out_of_memory = true;
            return -1;
        }
        file->values = more;
        file->values_capacity = capacity;
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        file->out_of_memory = true;
        return -1;
    }
    const uint64_t key = (uint64_t)(own - cfg->opts) << SEQUENCE_BITS;
    file->values[file->values_count] = (struct config_value) {
        .text = copy,
        .line = (unsigned)cfg->line,
        .order = section_order(file, cfg) | key | file->values_count,
    };
    file->values_count++;
    *(const char **)result = "";
    return 0;
}

static unsigned value_key(const struct config_value *value)
{
    return (unsigned)(value->order >> SEQUENCE_BITS) & ((1U << KEY_BITS) - 1);
}

static int value_order(const void *left, const void *right)
{
    const struct config_value *a = left;
    const struct config_value *b = right;
    return (a->order > b->order) - (a->order < b->order);
}

static cfg_opt_t *options_new(const struct config_schema *schema, unsigned more)
{
    unsigned count = 0, keys = 0;
    while (schema->singles[keys] != NULL)
        keys++;
    for (unsigned i = 0; schema->lists[i] != NULL; i++)
        keys++;
    cfg_opt_t *options = calloc(keys + more + 1, sizeof(*options));
    if (options == NULL)
        return NULL;
    for (const char *const *key = schema->singles; *key != NULL; key++)
        options[count++] = (cfg_opt_t)CFG_STR_CB(*key, NULL, CFGF_NODEFAULT, on_value);
    for (const char *const *key = schema->lists; *key != NULL; key++)
        options[count++] = (cfg_opt_t)CFG_STR_LIST_CB(*key, NULL, CFGF_NODEFAULT, on_value);
    options[count] = (cfg_opt_t)CFG_END();
    return options;
}

static int options_build(struct config_file *file)
{
    CHECK(file->schemas_count <= CONFIG_SCHEMA_SECTIONS_MAX);
    CHECK(*file->schemas[0].name == '\0');
    file->tops = options_new(&file->schemas[0], file->schemas_count);
    if (file->tops == NULL)
        return -ENOMEM;
    cfg_opt_t *end = file->tops;
    while (end->name != NULL)
        end++;
    for (unsigned i = 1; i < file->schemas_count; i++) {
        const struct config_schema *schema = &file->schemas[i];
        file->subs[i] = options_new(schema, 0);
        if (file->subs[i] == NULL)
            return -ENOMEM;
        cfg_flag_t flags =
            schema->titled ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NODEFAULT;
        *end++ = (cfg_opt_t)CFG_SEC(schema->name, file->subs[i], flags);
    }
    *end = (cfg_opt_t)CFG_END();
    return 0;
}

static void values_drop(struct config_file *file)
{
    for (unsigned i = 0; i < file->values_count; i++)
        free((char *)(uintptr_t)file->values[i].text);
    file->values_count = 0;
    for (unsigned i = 0; i < file->schemas_count; i++) {
        for (unsigned k = 0; k < file->kinds[i].count; k++)
            free(file->kinds[i].sections[k].title);
        file->kinds[i].count = 0;
    }
}

/* 0 or -ENOMEM. */
static int section_keep(struct config_file *file, unsigned kind, const cfg_t *cfg)
{
    struct kind *k = &file->kinds[kind];
    if (k->count == k->capacity) {
        unsigned capacity = MAX(16U, 2 * k->capacity);
        void *more = realloc(k->sections, capacity * sizeof(k->sections[0]));
        if (more == NULL)
            return -ENOMEM;
        k->sections = more;
        k->capacity = capacity;
    }
    struct config_kept kept = { .schema = &file->schemas[kind] };
    if (cfg->title != NULL && (kept.title = strdup(cfg->title)) == NULL)
        return -ENOMEM;
    for (unsigned key = 0; key < KEYS_MAX && cfg->opts[key].name != NULL; key++)
        if ((cfg->opts[key].flags & CFGF_MODIFIED) != 0)
            kept.given[key / BITS] |= UINT64_C(1) << key % BITS;
    k->sections[k->count++] = kept;
    return 0;
}

static int on_section_end(cfg_t *cfg, cfg_opt_t *opt)
{
    (void)cfg;
    struct config_file *file = parsing;
    const struct config_schema *schema = schema_of(file, slice_of_string(opt->name));
    CHECK(opt->nvalues == 1);
    if (section_keep(file, (unsigned)(schema - file->schemas), opt->values[0]->section) < 0) {
        file->out_of_memory = true;
        return -1;
    }
    file->in = NULL;
    (void)cfg_free_value(opt);
    return 0;
}

/* What was no section that ends: the top, those without a title, and the one that libConfuse was in
 * when it stopped. */
static int keep_rest(struct config_file *file)
{
    int r = section_keep(file, 0, file->root);
    for (unsigned i = 1; i < file->schemas_count && r == 0; i++)
        if (cfg_size(file->root, file->schemas[i].name) > 0)
            r = section_keep(file, i, cfg_getnsec(file->root, file->schemas[i].name, 0));
    return r;
}

/* The unknown name of the complaint. */
static bool complaint_name(const struct config_file *file, struct slice *name)
{
    static const char before[] = "no such option '";
    if (strncmp(file->complaint, before, sizeof(before) - 1) != 0)
        return false;
    *name = slice_of_string(file->complaint + sizeof(before) - 1);
    if (name->size == 0)
        return false;
    name->size--; /* the closing quote */
    return true;
}

static const char *nearest_key(const struct config_file *file, struct slice name);

/* Reports an error that can be stepped over, and blanks its statement. */
static bool recover(struct config_file *file)
{
    struct slice name;
    if (!complaint_name(file, &name))
        return false;
    struct config_cursor cursor = config_text_begin(file->text);
    struct config_statement found;
    do {
        if (!config_text_statement(&cursor, &found))
            return false;
    } while (found.line != file->complaint_line || !slice_equal(found.name, name));
    char key[KEY_TEXT_MAX];
    const char *near = nearest_key(file, name);
    snprintf(key, sizeof(key), "%.180s%s%.*s", file->complaint_key,
             *file->complaint_key == '\0' ? "" : ": ", (int)MIN(name.size, 64U), name.data);
    config_report_add(file->report, CONFIG_ERROR, file->name, found.line, key, "unknown %s; %s%s%s",
                      found.section ? "section" : "key",
                      near == NULL ? "remove it" : "did you mean `", near == NULL ? "" : near,
                      near == NULL ? "" : "`?");
    for (size_t i = found.start; i < found.end; i++)
        if (file->text[i] != '\n')
            file->text[i] = ' ';
    return true;
}

static int parse_once(struct config_file *file)
{
    values_drop(file);
    if (file->root != NULL)
        cfg_free(file->root);
    file->in = NULL;
    *file->complaint = '\0';
    file->root = cfg_init(file->tops, CFGF_NONE);
    if (file->root == NULL)
        return -ENOMEM;
    cfg_set_error_function(file->root, on_error);
    for (unsigned i = 1; i < file->schemas_count; i++)
        if (file->schemas[i].titled)
            cfg_set_validate_func(file->root, file->schemas[i].name, on_section_end);
    int r = cfg_parse_buf(file->root, file->text);
    if (file->out_of_memory || keep_rest(file) < 0)
        return -ENOMEM;
    return r == CFG_SUCCESS && *file->complaint == '\0' ? 0 : -EINVAL;
}

static void report_syntax(struct config_file *file)
{
    struct slice word;
    char what[COMPLAINT_MAX];
    if (complaint_name(file, &word))
        snprintf(what, sizeof(what),
                 "`%.*s` is no key, nor part of the value before it; put values "
                 "with blanks in quotes",
                 (int)MIN(word.size, 64U), word.data);
    else
        snprintf(what, sizeof(what),
                 "%.200s; write `key = value`, `key = { a, b }` or `section "
                 "\"title\" { }`",
                 *file->complaint == '\0' ? "not understood" : file->complaint);
    config_report_add(file->report, CONFIG_ERROR, file->name, file->complaint_line,
                      file->complaint_key, "%s (nothing below this line was read)", what);
}

static int parse(struct config_file *file)
{
    bool recovered = false;
    for (unsigned i = 0; i < RECOVERIES_MAX; i++) {
        int r = parse_once(file);
        if (r == 0)
            return recovered ? -EINVAL : 0;
        if (r != -EINVAL)
            return r;
        if (!recover(file)) {
            report_syntax(file);
            return -EINVAL;
        }
        recovered = true;
    }
    config_report_add(file->report, CONFIG_ERROR, file->name, file->complaint_line, "",
                      "too many unknown keys; more were not looked at");
    return -EINVAL;
}

/* Where each of them begins, and which values are its own. */
static void sections_find(struct config_file *file)
{
    unsigned seen[CONFIG_SCHEMA_SECTIONS_MAX] = { 0 };
    struct config_cursor cursor = config_text_begin(file->text);
    struct config_statement statement;
    while (config_text_statement(&cursor, &statement)) {
        const struct config_schema *schema = schema_of(file, statement.name);
        if (!statement.section || schema == NULL)
            continue;
        const unsigned kind = (unsigned)(schema - file->schemas);
        if (seen[kind] < file->kinds[kind].count)
            file->kinds[kind].sections[seen[kind]++].line = statement.line;
    }
    if (file->values_count > 0)
        qsort(file->values, file->values_count, sizeof(file->values[0]), value_order);
    for (unsigned i = 0; i < file->values_count; i++) {
        const uint64_t place = file->values[i].order >> (SEQUENCE_BITS + KEY_BITS);
        const struct kind *kind = &file->kinds[place >> NUMBER_BITS];
        const unsigned number = (unsigned)(place & ((1U << NUMBER_BITS) - 1));
        CHECK(number < kind->count);
        if (kind->sections[number].count++ == 0)
            kind->sections[number].from = i;
    }
}

static int title_order(const void *left, const void *right)
{
    const struct config_section *a = left, *b = right;
    int order = strcmp(a->title, b->title);
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

/* 0 or -EINVAL: titles that stand twice are reported. */
static int titles_check(struct config_file *file, const char *name)
{
    unsigned count = config_file_count(file, name);
    struct config_section *sections = calloc(MAX(count, 1U), sizeof(*sections));
    if (sections == NULL)
        return -ENOMEM;
    int r = 0;
    for (unsigned i = 0; i < count; i++)
        sections[i] = config_file_section(file, name, i);
    qsort(sections, count, sizeof(*sections), title_order);
    for (unsigned i = 1; i < count; i++) {
        if (strcmp(sections[i].title, sections[i - 1].title) != 0)
            continue;
        config_file_error(&sections[i], "", 0,
                          "there is another one of this title; give each its own");
        r = -EINVAL;
    }
    free(sections);
    return r;
}

int config_file_read(const char *name, struct slice text, const struct config_schema *schemas,
                     unsigned schemas_count, struct config_report *report, struct config_file **out)
{
    *out = NULL;
    struct config_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return -ENOMEM;
    file->name = name;
    file->schemas = schemas;
    file->schemas_count = schemas_count;
    file->report = report;
    int r = config_text_clean(text, name, report, &file->text);
    if (r < 0)
        goto out_free;
    r = options_build(file);
    if (r < 0)
        goto out_free;
    pthread_mutex_lock(&parsing_lock);
    parsing = file;
    int parsed = parse(file);
    parsing = NULL;
    pthread_mutex_unlock(&parsing_lock);
    r = parsed == -EINVAL ? 0 : parsed;
    if (r < 0)
        goto out_free;
    sections_find(file);
    for (unsigned i = 1; i < schemas_count; i++) {
        r = schemas[i].titled ? titles_check(file, schemas[i].name) : 0;
        if (r == -ENOMEM)
            goto out_free;
        parsed = r < 0 ? r : parsed;
    }
    *out = file;
    return parsed;
out_free:
    config_file_free(file);
    return r;
}

void config_file_free(struct config_file *file)
{
    if (file == NULL)
        return;
    if (file->root != NULL)
        cfg_free(file->root);
    values_drop(file);
    free(file->values);
    free(file->tops);
    for (unsigned i = 0; i < CONFIG_SCHEMA_SECTIONS_MAX; i++) {
        free(file->subs[i]);
        free(file->kinds[i].sections);
    }
    free(file->text);
    free(file);
}

/* ---- what is in it ---- */

/* Its place in the section, as in options_new. */
static unsigned key_of(const struct config_schema *schema, const char *key)
{
    unsigned at = 0;
    for (const char *const *each = schema->singles; *each != NULL; each++, at++)
        if (**each == *key && strcmp(*each, key) == 0)
            return at;
    for (const char *const *each = schema->lists; *each != NULL; each++, at++)
        if (**each == *key && strcmp(*each, key) == 0)
            return at;
    CHECK(key == NULL); /* a key that the schema does not have */
    return at;
}

static unsigned kind_of(const struct config_file *file, const char *name)
{
    unsigned kind = 0;
    while (strcmp(file->schemas[kind].name, name) != 0) {
        kind++;
        CHECK(kind < file->schemas_count);
    }
    return kind;
}

unsigned config_file_count(const struct config_file *file, const char *name)
{
    return file->kinds[kind_of(file, name)].count;
}

struct config_section config_file_section(struct config_file *file, const char *name,
                                          unsigned index)
{
    struct config_section section = { .file = file, .name = name, .title = "" };
    const struct kind *kind = &file->kinds[kind_of(file, name)];
    if (index >= kind->count)
        return section;
    section.kept = &kind->sections[index];
    section.title = section.kept->title == NULL ? "" : section.kept->title;
    section.line = section.kept->line;
    return section;
}

bool config_file_given(const struct config_section *section, const char *key)
{
    if (section->kept == NULL)
        return false;
    const unsigned place = key_of(section->kept->schema, key);
    return (section->kept->given[place / BITS] >> place % BITS & 1) != 0;
}

const struct config_value *config_file_list(const struct config_section *section, const char *key,
                                            unsigned *count)
{
    const struct config_kept *kept = section->kept;
    *count = 0;
    if (kept == NULL)
        return NULL;
    const struct config_value *values = section->file->values;
    const unsigned place = key_of(kept->schema, key);
    unsigned low = kept->from;
    unsigned high = low + kept->count;
    const unsigned end = high;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (value_key(&values[middle]) < place)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + *count < end && value_key(&values[low + *count]) == place)
        ++*count;
    return *count == 0 ? NULL : &values[low];
}

const struct config_value *config_file_single(const struct config_section *section, const char *key)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    if (count > 1)
        config_file_error(section, key, values[1].line,
                          "is given again (first in line %u); keep one of them", values[0].line);
    return count == 0 ? NULL : &values[0];
}

static uint64_t digest_text(uint64_t digest, const char *text)
{
    return XXH64(text, strlen(text) + 1, digest);
}

uint64_t config_file_digest(const struct config_section *section, const char *except)
{
    const struct config_schema *schema =
        &section->file->schemas[kind_of(section->file, section->name)];
    uint64_t digest = 0;
    for (unsigned i = 0; i < CONFIG_SCHEMA_KEYS_MAX && schema->singles[i] != NULL; i++) {
        const char *key = schema->singles[i];
        if (!config_file_given(section, key) || strcmp(key, except) == 0)
            continue;
        digest = digest_text(digest_text(digest, key), config_file_text(section, key, ""));
    }
    for (unsigned i = 0; i < CONFIG_SCHEMA_KEYS_MAX && schema->lists[i] != NULL; i++) {
        unsigned count;
        const struct config_value *values = config_file_list(section, schema->lists[i], &count);
        if (!config_file_given(section, schema->lists[i]))
            continue;
        digest = digest_text(digest, schema->lists[i]);
        for (unsigned k = 0; k < count; k++)
            digest = digest_text(digest, values[k].text);
    }
    return digest;
}

static void complain(const struct config_section *section, enum config_severity severity,
                     const char *key, unsigned line, const char *format, va_list arguments)
{
    char where[KEY_TEXT_MAX], what[COMPLAINT_MAX];
    key_text(where, section->name, section->title, key);
    vsnprintf(what, sizeof(what), format, arguments);
    if (line == 0 && *key != '\0') {
        unsigned count;
        const struct config_value *values = config_file_list(section, key, &count);
        line = count > 0 ? values[0].line : 0;
    }
    config_report_add(section->file->report, severity, section->file->name,
                      line == 0 ? section->line : line, where, "%s", what);
}

void config_file_error(const struct config_section *section, const char *key, unsigned line,
                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(section, CONFIG_ERROR, key, line, format, arguments);
    va_end(arguments);
}

void config_file_warn(const struct config_section *section, const char *key, unsigned line,
                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(section, CONFIG_WARNING, key, line, format, arguments);
    va_end(arguments);
}

/* How many letters must change to make one of the other; more than 3 is 4. */
static unsigned letters_apart(struct slice a, const char *b)
{
    unsigned row[64];
    size_t b_size = strlen(b);
    if (a.size >= 64 || b_size >= 64)
        return 4;
    for (unsigned j = 0; j <= b_size; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.size; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_size; j++) {
            unsigned above = row[j];
            unsigned change = diagonal + (a.data[i - 1] != (uint8_t)b[j - 1]);
            row[j] = MIN(change, MIN(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return MIN(row[b_size], 4U);
}

static void nearer(struct slice name, const char *key, unsigned *best, const char **found)
{
    unsigned apart = letters_apart(name, key);
    if (apart < *best && 2 * apart < name.size) {
        *best = apart;
        *found = key;
    }
}

static const char *nearest_key(const struct config_file *file, struct slice name)
{
    unsigned best = 3;
    const char *found = NULL;
    for (unsigned i = 0; i < file->schemas_count; i++) {
        const struct config_schema *schema = &file->schemas[i];
        size_t size = strlen(schema->name);
        bool here = strncmp(file->complaint_key, schema->name, size) == 0 &&
                    (file->complaint_key[size] == '\0' || file->complaint_key[size] == ' ');
        if (*file->complaint_key == '\0' && *schema->name != '\0')
            nearer(name, schema->name, &best, &found);
        for (unsigned k = 0; here && schema->singles[k] != NULL; k++)
            nearer(name, schema->singles[k], &best, &found);
        for (unsigned k = 0; here && schema->lists[k] != NULL; k++)
            nearer(name, schema->lists[k], &best, &found);
    }
    return found;
}
