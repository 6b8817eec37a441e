/*
 * exchange_import.h - connectors of Exchange Online to sections of our configuration (CONNECTORS
 * 15)
 *
 * What cannot be said here, or means something else, is a loss: a comment in the section, and a
 * warning. A connector that cannot be one of ours at all is written as a comment, and an error.
 * Nothing that comes from the file reaches the configuration unless it is a name, an address or a
 * number of ours; original names stand in comments, without control characters.
 */
#ifndef RINGPOST_MTA_EXCHANGE_IMPORT_H
#define RINGPOST_MTA_EXCHANGE_IMPORT_H

#include <jansson.h>
#include <stdio.h>

struct exchange_sums {
    unsigned connectors; /* that were written, as sections or as comments */
    unsigned losses;
    unsigned errors;
};

/* connectors: an array of objects as Get-InboundConnector and Get-OutboundConnector have them, of
 * both kinds and in any order. Sections go to out, warnings and errors to messages, a line each. */
void exchange_import(const json_t *connectors, FILE *out, FILE *messages,
                     struct exchange_sums *sums);

#endif
