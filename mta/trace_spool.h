/*
 * trace_spool.h - a message in the spool of a server that does not run
 */
#ifndef RINGPOST_MTA_TRACE_SPOOL_H
#define RINGPOST_MTA_TRACE_SPOOL_H

#include <jansson.h>
#include <stdint.h>

struct config;

/* What the log in the spool has of the message; NULL: it is not there (any more), or the spool
 * cannot be read, which was said. Reads the whole log that the id belongs to; changes nothing. */
json_t *trace_spool_read(const struct config *config, const char *directory, uint64_t id);

#endif
