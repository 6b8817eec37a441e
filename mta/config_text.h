/*
 * config_text.h - the file as libConfuse should see it
 *
 * libConfuse 3.3 drops octets that it does not know without a word (a bare `*` among them), counts
 * commented lines more than once, takes a section that never ends, and stays inside an unterminated
 * string in all files read later. So it is given a cleaned copy: comments blanked, bare words in
 * single quotes, everything doubtful refused with its line. Lines keep their numbers.
 */
#ifndef RINGPOST_MTA_CONFIG_TEXT_H
#define RINGPOST_MTA_CONFIG_TEXT_H

#include "core/slice.h"

struct config_report;

enum { CONFIG_VALUE_MAX = 4'096 /* octets of one word or string */ };

/* kind is the octet for punctuation; '+' is "+=". */
enum { CONFIG_TOKEN_END = 0, CONFIG_TOKEN_WORD = 'w' };

struct config_token {
    int kind;
    unsigned line;
    size_t start, end; /* in the cleaned text; of a word: with its quotes */
    struct slice text; /* of a word: without them */
};

/* Statements of a cleaned text, sections before what is in them. */
struct config_statement {
    struct slice name;
    struct slice title;  /* of a titled section */
    unsigned line;       /* of the name */
    unsigned brace_line; /* of a section's { */
    bool section;
    size_t start, end; /* of the whole, with a section's body */
};

struct config_cursor {
    struct slice text;
    size_t at;
    unsigned line;
};

/* A cleaned copy with a terminator (free it). 0, -EINVAL with reasons in the report, -ENOMEM. */
[[nodiscard]] int config_text_clean(struct slice in, const char *name, struct config_report *report,
                                    char **out);

struct config_cursor config_text_begin(const char *cleaned);
struct config_token config_text_token(struct config_cursor *cursor);
/* False: no more, or not a statement (libConfuse will say so). */
bool config_text_statement(struct config_cursor *cursor, struct config_statement *statement);

#endif
