/*
 * check_outbound.c - outbound connectors that are right one by one, and not what was meant
 *
 * The findings have numbers, so that they can be looked up: L-09 a chain that names nobody, L-11 a
 * domain without what is below it, or the other way round, L-15 a connector that never wins, L-16
 * one that was not validated as it is, L-19 a circle. L-04 and L-20 are refused where a section is
 * read (config_tls.c, config_outbound.c).
 */
#include <stdio.h>
#include <stdlib.h>

#include "mta/check.h"
#include "mta/config.h"
#include "mta/connector_validated.h"

enum { KEY_MAX = 128 };

static void warn(const struct config *config, struct config_report *report,
                 enum config_severity severity, const struct outbound *c, const char *key,
                 const char *text)
{
    char where[KEY_MAX];
    snprintf(where, sizeof(where), "outbound \"%s\": %s", c->route.name, key);
    config_report_add(report, severity, config->file, c->route.line, where, "%s", text);
}

/* L-09 */
static void lint_level(const struct config *config, struct config_report *report,
                       const struct outbound *c)
{
    if (c->route.tls.level == TLS_LEVEL_CHAIN)
        warn(config, report, CONFIG_WARNING, c, "tls",
             "chain does not say whose certificate it is: any holder of one passes; write name "
             "(L-09)");
}

static bool comes_back(const struct config *config, const char *label)
{
    for (unsigned i = 0; i < inbound_count(config->inbound); i++) {
        const struct inbound *from = inbound_at(config->inbound, i);
        if (from->type == CONNECTOR_OWN && from->state != CONNECTOR_OFF &&
            strcmp(from->label, label) == 0)
            return true;
    }
    return false;
}

/* L-19 */
static void lint_circle(const struct config *config, struct config_report *report,
                        const struct outbound *c)
{
    if (c->all_mail && *c->label != '\0' && !comes_back(config, c->label))
        warn(config, report, CONFIG_ERROR, c, "label",
             "no inbound connector of type own has it, so what these servers send back would go to "
             "them again (L-19); give it to the one that knows them");
    if (c->all_mail && *c->label == '\0')
        warn(config, report, CONFIG_ERROR, c, "label",
             "all-mail needs one, which the inbound connector of these servers has as well: else "
             "their mail runs in a circle (L-19)");
}

/* The first connector at the pattern that fits this domain best; NULL: there is none but *. */
static const struct outbound *first_at(const struct outbound_set *set, struct slice domain)
{
    struct pattern_match match;
    if (!pattern_set_find(set->patterns, domain, &match) || match.kind == PATTERN_ALL)
        return NULL;
    return &set->connectors[set->lists[match.value].members[0]];
}

static bool has_pattern(const struct outbound *c, struct slice domain)
{
    struct pattern_match match;
    return pattern_set_find(c->domains.patterns, domain, &match) && match.kind != PATTERN_ALL;
}

/* L-11: *.d without d; and d without *.d where another connector has that. */
static void lint_pairs(const struct config *config, struct config_report *report,
                       const struct outbound *c)
{
    const struct outbound_set *set = &config->outbound;
    for (unsigned i = 0; c->domains.given && i < pattern_set_count(c->domains.patterns); i++) {
        char text[PATTERN_TEXT_MAX + 2], words[2 * PATTERN_TEXT_MAX + 256];
        char below[PATTERN_TEXT_MAX + 2];
        struct slice pattern = pattern_set_text(c->domains.patterns, i, text);
        if (pattern.size > 2 && text[0] == '*') {
            struct slice domain = slice_from(pattern, 2);
            const struct outbound *other = first_at(set, domain);
            if (has_pattern(c, domain))
                continue;
            snprintf(words, sizeof(words),
                     "%s does not match %s itself, which %s%s%s; list both if both are meant "
                     "(L-11)",
                     text, text + 2, other == NULL ? "no connector names" : "goes to \"",
                     other == NULL ? "" : other->route.name, other == NULL ? "" : "\"");
            warn(config, report, CONFIG_WARNING, c, "domains", words);
            continue;
        }
        int size = snprintf(below, sizeof(below), "x.%s", text);
        if (text[0] == '*' || text[0] == '[' || size >= PATTERN_TEXT_MAX)
            continue;
        struct slice some = slice_of(below, (size_t)size);
        const struct outbound *other = first_at(set, some);
        if (other == NULL || other == c || has_pattern(c, some))
            continue;
        snprintf(words, sizeof(words),
                 "%s does not match what is below it, which goes to \"%s\"; add *.%s if that is "
                 "meant too (L-11)",
                 text, other->route.name, text);
        warn(config, report, CONFIG_WARNING, c, "domains", words);
    }
}

/* Whether a takes all that b could, where both stand side by side and a comes first. */
static bool shadows(const struct outbound *a, const struct outbound *b)
{
    bool sizes = a->size_max == 0 || (b->size_max != 0 && b->size_max <= a->size_max);
    return a->state == CONNECTOR_ENFORCE && !a->senders.given && a->from_labels.count == 0 && sizes;
}

static const struct outbound *shadow_in(const struct outbound_set *set,
                                        const struct outbound_list *list, const struct outbound *c)
{
    for (unsigned i = 0; i < list->count; i++) {
        const struct outbound *other = &set->connectors[list->members[i]];
        if (other == c)
            return NULL;
        if (shadows(other, c))
            return other;
    }
    return NULL;
}

/* The list of a pattern as it is written in the file. */
static const struct outbound_list *list_at(const struct outbound_set *set, const char *text)
{
    char some[PATTERN_TEXT_MAX + 2];
    struct pattern_match matches[PATTERN_MATCHES_MAX];
    enum pattern_kind kind = text[0] != '*'    ? PATTERN_EXACT
                             : text[1] == '\0' ? PATTERN_ALL
                                               : PATTERN_WILDCARD;
    snprintf(some, sizeof(some), "%s%s", kind == PATTERN_EXACT ? "" : "x",
             kind == PATTERN_EXACT ? text : text + 1);
    struct slice d = slice_of_string(kind == PATTERN_WILDCARD ? text + 2 : "");
    unsigned count = pattern_set_find_all(set->patterns, slice_of_string(some), matches);
    for (unsigned i = 0; i < count; i++)
        if (matches[i].kind == kind &&
            (kind != PATTERN_WILDCARD || slice_equal(matches[i].text, d)))
            return &set->lists[matches[i].value];
    return NULL;
}

static bool is_named_by_rule(const struct outbound_set *set, const struct outbound *c)
{
    for (unsigned i = 0; i < set->rules_count; i++)
        if (set->rules[i].use == c)
            return true;
    return false;
}

/* L-15 */
static void lint_shadow(const struct config *config, struct config_report *report,
                        const struct outbound *c)
{
    const struct outbound_set *set = &config->outbound;
    if (c->state == CONNECTOR_OFF || !c->domains.given || c->by_rule || c->all_mail ||
        is_named_by_rule(set, c))
        return;
    const struct outbound *by = NULL;
    if (c->domains.own && (by = shadow_in(set, &set->all_own, c)) == NULL)
        return;
    for (unsigned i = 0; i < pattern_set_count(c->domains.patterns); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        (void)pattern_set_text(c->domains.patterns, i, text);
        const struct outbound_list *list = list_at(set, text);
        by = list == NULL ? NULL : shadow_in(set, list, c);
        if (by == NULL)
            return;
    }
    if (by == NULL)
        return;
    char words[CONNECTOR_NAME_MAX + 192];
    snprintf(words, sizeof(words),
             "never wins: \"%s\" has each of its domains, and comes first by cost or name; lower "
             "the cost, or narrow the other (L-15)",
             by->route.name);
    warn(config, report, CONFIG_WARNING, c, "domains", words);
}

/* L-16: only where somebody validates, for else each connector would be told of at each check. */
static void lint_validated(const struct config *config, struct config_report *report)
{
    const struct outbound_set *set = &config->outbound;
    char path[VALIDATED_PATH_MAX];
    connector_validated_path(config, path);
    json_t *all = connector_validated_read(path);
    for (unsigned i = 0; i < set->count && json_object_size(all) > 0; i++) {
        const struct outbound *c = &set->connectors[i];
        enum validated state = connector_validated_state(all, c);
        char words[CONNECTOR_NAME_MAX + 192];
        if (c->state != CONNECTOR_ENFORCE || state == VALIDATED_GOOD)
            continue;
        snprintf(words, sizeof(words), "enforce, and %s; run ringpost connector validate %s (L-16)",
                 state == VALIDATED_NEVER    ? "never validated"
                 : state == VALIDATED_FAILED ? "its last validation failed"
                                             : "changed since it was validated",
                 c->route.name);
        warn(config, report, CONFIG_WARNING, c, "state", words);
    }
    json_decref(all);
}

static int by_text(const void *left, const void *right)
{
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

struct known_labels {
    const char **labels; /* in order */
    size_t count;
};

/* L-02: what never comes by a connector with this label never goes this way. */
static void lint_labels(const struct config *config, struct config_report *report,
                        const struct known_labels *known, const char *key, unsigned line,
                        const struct outbound_labels *labels)
{
    for (unsigned i = 0; i < labels->count; i++)
        if (bsearch(&labels->labels[i], known->labels, known->count, sizeof(const char *),
                    by_text) == NULL)
            config_report_add(report, CONFIG_ERROR, config->file, line, key,
                              "no inbound connector has the label \"%.64s\" (L-02); write label = "
                              "%.64s into the one that is meant, or take it out here",
                              labels->labels[i], labels->labels[i]);
}

static void lint_all_labels(const struct config *config, struct config_report *report)
{
    const struct outbound_set *set = &config->outbound;
    const unsigned count = inbound_count(config->inbound);
    struct known_labels known = { .labels = calloc(count + 1, sizeof(const char *)) };
    char key[KEY_MAX];
    if (known.labels == NULL)
        return; /* the next look finds it */
    for (; known.count < count; known.count++)
        known.labels[known.count] = inbound_at(config->inbound, (unsigned)known.count)->label;
    qsort(known.labels, known.count, sizeof(const char *), by_text);
    for (unsigned i = 0; i < set->count; i++) {
        const struct outbound *c = &set->connectors[i];
        snprintf(key, sizeof(key), "outbound \"%.64s\": from-labels", c->route.name);
        lint_labels(config, report, &known, key, c->route.line, &c->from_labels);
    }
    for (unsigned i = 0; i < set->rules_count; i++) {
        const struct outbound_rule *rule = &set->rules[i];
        snprintf(key, sizeof(key), "rule \"%.64s\": if-label", rule->name);
        lint_labels(config, report, &known, key, rule->line, &rule->labels);
    }
    free(known.labels);
}

void check_outbound(const struct config *config, struct config_report *report)
{
    const struct outbound_set *set = &config->outbound;
    lint_validated(config, report);
    lint_all_labels(config, report);
    for (unsigned i = 0; i < set->count; i++) {
        const struct outbound *c = &set->connectors[i];
        lint_level(config, report, c);
        lint_circle(config, report, c);
        if (c->state == CONNECTOR_OFF || c->by_rule)
            continue;
        lint_pairs(config, report, c);
        lint_shadow(config, report, c);
    }
}
