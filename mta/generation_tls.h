/*
 * generation_tls.h - what a shard makes of a configuration's TLS: contexts of listeners, and ours
 */
#ifndef RINGPOST_MTA_GENERATION_TLS_H
#define RINGPOST_MTA_GENERATION_TLS_H

#include "mta/generation.h"
#include "tls/tls_shard.h"

/* Fills in the generation's TLS. 0, -ENOMEM, or -EINVAL: the library does not take it. */
[[nodiscard]] int generation_tls_make(struct generation *generation, struct tls_shard *tls);
void generation_tls_free(struct generation *generation);

#endif
