/*
 * class.c - the choice of a class
 */
#include "mta/class.h"

#include "core/check.h"
#include "mta/config.h"

static bool choose_by_rule(const struct config *config, const struct outbound_facts *facts,
                           struct class_choice *choice)
{
    const struct outbound_set *set = &config->outbound;
    for (unsigned i = 0; set->has_classes && i < set->rules_count; i++) {
        const struct outbound_rule *rule = &set->rules[i];
        if (*rule->class == '\0' || !outbound_rule_fits(set, facts, rule))
            continue;
        *choice =
            (struct class_choice) { .name = rule->class, CLASS_BY_RULE, .by_name = rule->name };
        return true;
    }
    return false;
}

static bool choose_by_lists(const struct config *config, const struct outbound_facts *facts,
                            struct class_choice *choice)
{
    for (unsigned i = 0; i < config->classes.count; i++) {
        const struct class_section *c = &config->classes.sections[i];
        if ((!c->senders.given && !c->recipients.given) ||
            !outbound_domains_fit(&config->outbound, &c->senders, facts->sender_domain) ||
            !outbound_domains_fit(&config->outbound, &c->recipients, facts->recipient_domain))
            continue;
        *choice = (struct class_choice) { .name = c->class.name, CLASS_BY_ITSELF, .by_name = "" };
        return true;
    }
    return false;
}

void class_decide(const struct config *config, const struct outbound_facts *facts,
                  const struct inbound *from, struct class_choice *choice)
{
    *choice = (struct class_choice) { .name = "", CLASS_BY_NOBODY, .by_name = "" };
    if (config->classes.count == 0 || choose_by_rule(config, facts, choice))
        return;
    if (from != NULL && *from->class != '\0')
        *choice =
            (struct class_choice) { .name = from->class, CLASS_BY_INBOUND, .by_name = from->name };
    else
        (void)choose_by_lists(config, facts, choice);
}

const struct class_section *class_named(const struct class_set *set, const char *name)
{
    for (unsigned i = 0; i < set->count; i++)
        if (strcmp(set->sections[i].class.name, name) == 0)
            return &set->sections[i];
    return NULL;
}

unsigned class_list(const struct class_set *set, struct mail_class out[static CLASSES_MAX])
{
    CHECK(set->count < CLASSES_MAX);
    out[0] = set->without;
    for (unsigned i = 0; i < set->count; i++)
        out[i + 1] = set->sections[i].class;
    return set->count + 1;
}
