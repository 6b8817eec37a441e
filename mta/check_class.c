/*
 * check_class.c - the part of `ringpost check` about classes of mail
 */
#include <stdio.h>

#include "mta/check.h"
#include "mta/config.h"

static void warn(const struct config *config, struct config_report *report,
                 const struct class_section *c, const char *key, const char *words)
{
    char where[CLASS_NAME_MAX + 64];
    snprintf(where, sizeof(where), "class \"%s\": %s", c->class.name, key);
    config_report_add(report, CONFIG_WARNING, config->file, c->line, where, "%s", words);
}

static bool is_named(const struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->outbound.rules_count; i++)
        if (strcmp(config->outbound.rules[i].class, name) == 0)
            return true;
    for (unsigned i = 0; i < inbound_count(config->inbound); i++)
        if (strcmp(inbound_at(config->inbound, i)->class, name) == 0)
            return true;
    return false;
}

static bool has_everybody(const struct outbound_domains *domains)
{
    struct pattern_match match;
    return !domains->given || (pattern_set_find(domains->patterns, SLICE("any.invalid"), &match) &&
                               match.kind == PATTERN_ALL);
}

void check_classes(const struct config *config, struct config_report *report)
{
    for (unsigned i = 0; i < config->classes.count; i++) {
        const struct class_section *c = &config->classes.sections[i];
        const bool has_lists = c->senders.given || c->recipients.given;
        if (!has_lists && !is_named(config, c->class.name))
            warn(config, report, c, "sender-domains",
                 "no mail is of this class: no rule and no inbound connector names it, and it has "
                 "no "
                 "sender-domains or recipient-domains; write one of these, or remove it");
        if (has_lists && c->class.lane == LANE_URGENT && has_everybody(&c->senders) &&
            has_everybody(&c->recipients))
            warn(config, report, c, "priority",
                 "urgent for everybody passes nobody; narrow its lists, or write normal");
    }
}
