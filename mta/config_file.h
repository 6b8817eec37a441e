/*
 * config_file.h - a configuration file as keys and values with their lines, by libConfuse
 *
 * Knows nothing of mail: a schema says which keys may stand where, and typed readers turn words
 * into numbers, times and sizes, putting what is wrong into the report. All values are strings to
 * libConfuse, so that every complaint can name file, line, key and the way out.
 *
 * Strict: unknown keys, repeated single keys and repeated titles are errors; reading goes on behind
 * them, so all of them are told. A repeated list key appends. libConfuse keeps its lexer in global
 * variables: one file at a time, which a lock sees to.
 */
#ifndef RINGPOST_MTA_CONFIG_FILE_H
#define RINGPOST_MTA_CONFIG_FILE_H

#include "core/slice.h"

struct config_report;

enum {
    CONFIG_SCHEMA_KEYS_MAX = 40,     /* of one section */
    CONFIG_SCHEMA_SECTIONS_MAX = 32, /* kinds of them, the top included */
};

/* One kind of section. Sections do not nest. */
struct config_schema {
    const char *name;                            /* "": the top */
    bool titled;                                 /* any number of them, each with a title */
    const char *singles[CONFIG_SCHEMA_KEYS_MAX]; /* NULL ends it */
    const char *lists[CONFIG_SCHEMA_KEYS_MAX];
};

struct config_file;
struct config_kept;

struct config_section {
    struct config_file *file;
    const struct config_kept *kept; /* NULL: not in the file; every key reads as its default */
    const char *name;               /* "": the top */
    const char *title;              /* "" */
    unsigned line;
};

struct config_value {
    const char *text;
    unsigned line;
    uint64_t order; /* private */
};

/* 0; or -EINVAL: the report says why and *file holds what could be understood (NULL: nothing); or
 * -ENOMEM. name and schemas are kept. */
[[nodiscard]] int config_file_read(const char *name, struct slice text,
                                   const struct config_schema *schemas, unsigned schemas_count,
                                   struct config_report *report, struct config_file **file);
void config_file_free(struct config_file *file); /* NULL is allowed */

unsigned config_file_count(const struct config_file *file, const char *name);
/* Number index of its kind, or the only one of a kind without titles. */
struct config_section config_file_section(struct config_file *file, const char *name,
                                          unsigned index);

/* Of all keys that are given in it and of their values, but for the one that is called except. */
uint64_t config_file_digest(const struct config_section *section, const char *except);
/* The key is in the file, be it as an empty list. */
bool config_file_given(const struct config_section *section, const char *key);
/* Values of a list in the order of the file; good until config_file_free. */
const struct config_value *config_file_list(const struct config_section *section, const char *key,
                                            unsigned *count);
/* The value of a single key or NULL. */
const struct config_value *config_file_single(const struct config_section *section,
                                              const char *key);

/* An error at line (0: where the key stands, or the section begins). key may be "". */
void config_file_error(const struct config_section *section, const char *key, unsigned line,
                       const char *format, ...) PRINTF_LIKE(4, 5);
void config_file_warn(const struct config_section *section, const char *key, unsigned line,
                      const char *format, ...) PRINTF_LIKE(4, 5);

/* Readers of single keys. Something wrong is reported and reads as the default. Bounds are
 * inclusive; numbers outside are errors that name the bounds. */
const char *config_file_text(const struct config_section *section, const char *key,
                             const char *otherwise);
bool config_file_bool(const struct config_section *section, const char *key, bool otherwise);
uint64_t config_file_number(const struct config_section *section, const char *key, uint64_t min,
                            uint64_t max, uint64_t otherwise);
/* "1.5" reads as 150. */
unsigned config_file_hundredths(const struct config_section *section, const char *key, unsigned min,
                                unsigned max, unsigned otherwise);
/* 90s, 5m, 1h30m, 5d, 500ms; 0 without a unit. Milliseconds. */
uint64_t config_file_time(const struct config_section *section, const char *key, uint64_t min_ms,
                          uint64_t max_ms, uint64_t otherwise_ms);
/* 512, 64K, 50M, 1G, 2T, by powers of 1024; also KiB, MiB. Bytes. */
uint64_t config_file_size(const struct config_section *section, const char *key, uint64_t min,
                          uint64_t max, uint64_t otherwise);
/* Index of the word in words (NULL ends it). */
unsigned config_file_choice(const struct config_section *section, const char *key,
                            const char *const *words, unsigned otherwise);

/* The words behind the readers, for tests and for other places. 0, -EINVAL or -ERANGE. */
[[nodiscard]] int config_parse_time(const char *text, uint64_t *ms);
[[nodiscard]] int config_parse_size(const char *text, uint64_t *bytes);

#endif
