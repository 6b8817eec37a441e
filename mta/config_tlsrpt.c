/*
 * config_tlsrpt.c - tls-report { }: whether sessions are counted for reports, and who reports
 */
#include <stdio.h>

#include "mta/address.h"
#include "mta/config_build.h"

static const char *take_text(struct config_builder *builder, const struct config_section *s,
                             const char *key, const char *otherwise)
{
    const char *text = config_file_text(s, key, otherwise);
    for (const char *at = text; *at != '\0'; at++)
        if ((uint8_t)*at < ' ' || (uint8_t)*at > '~') {
            config_file_error(s, key, 0,
                              "has other octets than printable ASCII; write it with "
                              "these alone");
            break;
        }
    return config_take_string(builder, text);
}

void config_build_tlsrpt(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_tlsrpt *report = &config->tlsrpt;
    struct config_section s = config_file_section(builder->file, "tls-report", 0);
    struct address address;
    report->contact = take_text(builder, &s, "contact", "");
    report->organization = take_text(builder, &s, "organization", config->hostname);
    report->file = config_take_string(builder, config_file_text(&s, "file", ""));
    report->records = (uint32_t)config_file_number(&s, "records", 100, 1 << 20, 1 << 16);
    report->sends = config_file_bool(&s, "send", true);
    if (config->roots_count > 0) {
        const char *roots = config_file_text(&s, "roots", "");
        const struct config_roots *found =
            *roots == '\0' ? &config->roots[0] : config_roots_named(builder, &s, "roots", roots);
        report->roots = found == NULL ? NULL : found->roots;
    }
    if (report->contact != NULL && *report->contact != '\0' &&
        address_parse(slice_of_string(report->contact), 0, &address) != ADDRESS_OK)
        config_file_error(&s, "contact", 0, "`%.64s` is no mailbox; write local@domain",
                          report->contact);
    report->from = take_text(builder, &s, "from", report->contact == NULL ? "" : report->contact);
    if (report->from != NULL && config_file_given(&s, "from") &&
        address_parse(slice_of_string(report->from), 0, &address) != ADDRESS_OK)
        config_file_error(&s, "from", 0, "`%.64s` is no mailbox; write local@domain", report->from);
    if (report->contact != NULL && *report->contact == '\0' &&
        config_file_given(&s, "organization"))
        config_file_warn(&s, "organization", 0,
                         "nothing is counted without contact; write contact = local@domain");
}
