/*
 * config_sts.c - mta-sts { }: where policies are kept, and how they are fetched
 *
 * Which next hops they count for is said by delivery and connectors (config_tls.c).
 */
#include "mta/config_build.h"
#include "tls/tls_roots.h"

enum { SECOND_MS = 1'000, MINUTE_MS = 60 * SECOND_MS, HTTPS_PORT = 443 };

void config_build_sts(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_sts *sts = &config->sts;
    struct config_section s = config_file_section(builder->file, "mta-sts", 0);
    const char *roots = config_file_text(&s, "roots", "");
    sts->timeout_ms =
        (uint32_t)config_file_time(&s, "timeout", SECOND_MS, MINUTE_MS, UINT64_C(30) * SECOND_MS);
    sts->records = (uint32_t)config_file_number(&s, "records", 100, 1 << 20, 1 << 15);
    sts->file = config_take_string(builder, config_file_text(&s, "file", ""));
    sts->port = (uint16_t)config_file_number(&s, "port", 1, UINT16_MAX, HTTPS_PORT);
    if (config_file_given(&s, "port") && sts->port != HTTPS_PORT)
        config_file_warn(&s, "port", 0,
                         "only a laboratory has its policy hosts elsewhere than at 443 (RFC 8461 "
                         "3.3); remove the line outside of one");
    if (config->roots_count == 0)
        return; /* out of memory, and remembered */
    const struct config_roots *found =
        *roots == '\0' ? &config->roots[0] : config_roots_named(builder, &s, "roots", roots);
    sts->roots = found == NULL ? NULL : found->roots;
}
