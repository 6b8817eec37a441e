/*
 * source_text.h - all that the source says, made before it is needed
 *
 * Each session has one block: [content][commands] for DATA, [commands][content] for BDAT, so that
 * what leaves in one round trip is one run of octets. A message costs the digits of its id, and
 * those of its addresses if they are numbered. Content of more than SOURCE_SMALL_BYTES is shared by
 * the sessions of a thread; only the line with the id, the first one, is each session's own.
 */
#ifndef RINGPOST_BENCH_SOURCE_TEXT_H
#define RINGPOST_BENCH_SOURCE_TEXT_H

#include "bench/source_options.h"

enum {
    SOURCE_SMALL_BYTES = 16'384,
    SOURCE_CONTENT_SLICES = 2,
};

/* Of a thread. */
struct source_texts {
    const struct source_options *options;
    unsigned thread;
    uint64_t sequence; /* next id */
    uint64_t number;   /* next number of an address */
    uint8_t *blocks;
    size_t blocks_bytes;
    size_t block_bytes;
    uint8_t *rest; /* content without its first line, and DATA's end */
    size_t rest_bytes;
    uint64_t content_bytes; /* octets of content */
    size_t id_line_bytes;
    size_t commands_max;
    bool small;
};

/* Of a session. */
struct source_text {
    uint8_t *block;
    uint32_t commands_bytes;
    uint32_t commands_at; /* next command, when they go one by one */
    bool commands_made;
};

/* 0 or -ENOMEM. */
[[nodiscard]] int source_texts_init(struct source_texts *texts,
                                    const struct source_options *options, unsigned thread,
                                    uint32_t sessions);
void source_texts_free(struct source_texts *texts);

void source_text_init(struct source_texts *texts, struct source_text *text, uint32_t session);
/* Writes the next transaction's commands; not while they are being sent. */
void source_text_make_commands(struct source_texts *texts, struct source_text *text);
/* MAIL to DATA or BDAT. */
struct slice source_text_commands(const struct source_texts *texts, const struct source_text *text);
/* The next one of them. */
struct slice source_text_command(const struct source_texts *texts, struct source_text *text);
/* Gives the content a new id; not while it is being sent. */
void source_text_number(struct source_texts *texts, struct source_text *text);
/* The content, for DATA with its end. Returns how many slices it takes. */
size_t source_text_content(const struct source_texts *texts, const struct source_text *text,
                           struct slice slices[static SOURCE_CONTENT_SLICES]);
struct slice source_text_id(const struct source_texts *texts, const struct source_text *text);

#endif
