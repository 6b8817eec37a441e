/*
 * txt_record.h - TXT records that are fields: "v=STSv1; id=1" (RFC 8461 3.1, RFC 8460 3)
 *
 * Both formats have the same names, values and blanks. Pure; parts of what was given are handed
 * out.
 */
#ifndef RINGPOST_MTA_TXT_RECORD_H
#define RINGPOST_MTA_TXT_RECORD_H

#include "core/slice.h"

bool txt_is_alnum(uint8_t c);
/* Without blanks around it. */
struct slice txt_trim(struct slice s);
/* Up to the octet, which is left out of both; all of it when there is none. */
struct slice txt_take_until(struct slice *s, uint8_t octet);
/* A letter or digit, and up to 31 of these, "_", "-" and ".". */
bool txt_name_ok(struct slice name);
/* Visible octets but "="; ";" has ended it before. */
bool txt_value_ok(struct slice value);
/* The strings of the record as one text. Its size, or -EINVAL: they are none, or longer. */
[[nodiscard]] ptrdiff_t txt_join(struct slice rdata, uint8_t *out, size_t capacity);

#endif
