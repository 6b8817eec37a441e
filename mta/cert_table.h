/*
 * cert_table.h - the table of `ringpost cert publish`: as text, Markdown or HTML, of one object
 *
 *   { "node": .., "as_of": .., "firewall": [..], "certificates": [
 *       { "title": .., "used_by": [..], "columns": [ { "role": .., ... } ] } ] }
 *
 * A member of a column is a text or a list of texts; what none of the columns has gets no line.
 */
#ifndef RINGPOST_MTA_CERT_TABLE_H
#define RINGPOST_MTA_CERT_TABLE_H

#include <jansson.h>
#include <stdio.h>

enum cert_format { CERT_TEXT, CERT_MARKDOWN, CERT_HTML };

void cert_table_print(FILE *out, const json_t *table, enum cert_format format);

#endif
