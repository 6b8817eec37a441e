/*
 * config_build.h - private to config.c and its parts: a generation while it is made
 *
 * Everything a generation points to is taken from its memory and goes with it. Running out of
 * memory is remembered in the builder, and looked at once, at the end.
 */
#ifndef RINGPOST_MTA_CONFIG_BUILD_H
#define RINGPOST_MTA_CONFIG_BUILD_H

#include "mta/config.h"
#include "mta/config_file.h"

struct config_memory;

struct config_builder {
    struct config *config;
    struct config_file *file;
    struct config_report *report;
    bool partial;       /* not all was read: do not say what is missing */
    bool elsewhere;     /* of another machine: its files and interfaces are not here */
    bool out_of_memory; /* what was asked for last is NULL or empty */
};

/* config_memory.c */
[[nodiscard]] int config_memory_new(struct config_memory **memory);
void config_memory_free(struct config_memory *memory);
void *config_take(struct config_builder *builder, size_t count, size_t size); /* zeroed */
const char *config_take_string(struct config_builder *builder, const char *string);
struct slice config_take_lower(struct config_builder *builder, struct slice text); /* or empty */
struct pattern_set *config_take_patterns(struct config_builder *builder);
struct networks *config_take_networks(struct config_builder *builder);

/* config_lists.c: lists of a section into the generation. Errors are reported, and the element is
 * left out. default_text: elements with commas, for a key that is not given. */
const struct net_address *config_addresses(struct config_builder *builder,
                                           const struct config_section *section, const char *key,
                                           unsigned max, uint16_t default_port, unsigned *count);
const struct networks *config_networks(struct config_builder *builder,
                                       const struct config_section *section, const char *key,
                                       const char *default_text);
/* Repeated ones only warn. */
void config_patterns(struct config_builder *builder, const struct config_section *section,
                     const char *key, struct pattern_set *set);
void config_pattern(struct config_builder *builder, const struct config_section *section,
                    const char *key, const struct config_value *value, struct pattern_set *set);
/* A host name in normal form; not an address, not empty. */
const char *config_domain(struct config_builder *builder, const struct config_section *section,
                          const char *key, const char *otherwise);
/* How many sections there are, of max; more are reported as "more than max <words>". */
unsigned config_sections(struct config_builder *builder, const char *name, unsigned max,
                         const char *words);
bool config_title_check(const struct config_section *section);

/* config_connector.c: of either direction. */
void config_connector_head(struct config_builder *builder, const struct config_section *section,
                           enum connector_type *type, enum connector_state *state);
unsigned config_connector_cost(const struct config_section *section);
enum tls_revocation config_revocation(const struct config_section *section, const char *key);
/* value NULL: "". */
const char *config_label(struct config_builder *builder, const struct config_section *section,
                         const char *key, const struct config_value *value);

/* config_inbound.c */
const uint8_t (*config_pins(struct config_builder *builder, const struct config_section *section,
                            const char *key, unsigned *pins_count))[TLS_DIGEST_BYTES];
void config_build_inbound(struct config_builder *builder);

/* config_header.c */
void config_required_header(struct config_builder *builder, const struct config_section *section,
                            struct header_required *required);
/* What is looked for in headers: ours, inbound-defaults { trusted-fields }, and what these ask for.
 */
void config_build_headers(struct config_builder *builder, const struct inbound *connectors,
                          unsigned count);

/* config_platform.c */
void config_build_platforms(struct config_builder *builder);

/* config_class.c: after delivery { }. What a key says that names a class: "" where it is not given,
 * or there is none, which is an error. */
void config_build_classes(struct config_builder *builder);
const char *config_class_named(struct config_builder *builder, const struct config_section *section,
                               const char *key);

/* config_outbound.c: connectors and rules */
struct outbound_domains config_domains(struct config_builder *builder,
                                       const struct config_section *section, const char *key);
void config_build_outbound(struct config_builder *builder);
void config_build_default_route(struct config_builder *builder);

/* config_tls.c */
void config_build_tls(struct config_builder *builder);
/* By title; NULL: there is none, which was reported for this key. */
const struct config_certificate *config_certificate_named(struct config_builder *builder,
                                                          const struct config_section *section,
                                                          const char *key,
                                                          const struct config_value *value);
const struct config_roots *config_roots_named(struct config_builder *builder,
                                              const struct config_section *section, const char *key,
                                              const char *title);
/* Names wanted in certificates, in normal form; those that are none are reported and left out. */
const struct slice *config_certificate_names(struct config_builder *builder,
                                             const struct config_section *section, const char *key,
                                             const struct config_value *values, unsigned count,
                                             unsigned *names_count);
void config_listener_tls(struct config_builder *builder, const struct config_section *section,
                         struct config_listener *listener);
/* delivery { tls .. }, and a connector's own; section without cfg: as delivery says. */
void config_delivery_tls(struct config_builder *builder, const struct config_section *section);
void config_route_tls(struct config_builder *builder, const struct config_section *section,
                      struct route *route);
/* crl { } */
void config_build_crl(struct config_builder *builder);
void config_tls_free(struct config *config);

/* config_certificate.c: what partners are told of, and what they have recorded */
void config_certificate_life(struct config_builder *builder, const struct config_section *section,
                             struct config_certificate *certificate);
void config_certificate_life_free(struct config_certificate *certificate);
void config_expiry_days(const struct config_section *section, struct config_tls *tls);
void config_build_expectations(struct config_builder *builder);

/* config_sts.c: after config_tls.c */
void config_build_memory(struct config_builder *builder); /* memory_plan.c; last */
void config_build_sts(struct config_builder *builder);

/* config_dkim.c */
void config_build_dkim(struct config_builder *builder);
void config_dkim_free(struct config *config);

/* config_tlsrpt.c: after the hostname, and config_dkim.c */
void config_build_tlsrpt(struct config_builder *builder);

/* config_fleet.c: of delivery { }, after the hostname and listeners */
void config_build_fleet(struct config_builder *builder, const struct config_section *section);

/* config_listener.c */
void config_build_listeners(struct config_builder *builder);

/* config_schema.c: what keys there are. */
extern const struct config_schema config_schemas[];
extern const unsigned config_schemas_count;

#endif
