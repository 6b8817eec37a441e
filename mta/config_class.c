/*
 * config_class.c - class "title" { }
 *
 * What a class does not say is as in delivery { }. Classes stand in the order of (cost, title),
 * whatever the order in the file.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { SECOND_MS = 1'000, DAY_MS = 86'400'000, RETRY_MAX_MS = 7 * DAY_MS };
#define AGE_MAX_MS (UINT64_C(365) * DAY_MS)

static const char *const priorities[] = {
    [LANE_URGENT] = "urgent", [LANE_NORMAL] = "normal", [LANE_BULK] = "bulk", NULL
};

const char *config_class_named(struct config_builder *builder, const struct config_section *section,
                               const char *key)
{
    const struct config_value *value = config_file_single(section, key);
    if (value == NULL)
        return "";
    for (unsigned i = 0; i < config_file_count(builder->file, "class"); i++)
        if (strcmp(config_file_section(builder->file, "class", i).title, value->text) == 0)
            return config_take_string(builder, value->text);
    if (!builder->partial)
        config_file_error(section, key, value->line,
                          "there is no class \"%.64s\" { .. }; write one, or name another",
                          value->text);
    return "";
}

static void ages_build(const struct config_builder *builder, const struct config_section *section,
                       struct mail_class *class)
{
    const struct config_delivery *d = &builder->config->delivery;
    class->age_max_ms = config_file_time(section, "age-max", SECOND_MS, AGE_MAX_MS, 0);
    class->warn_after_ms =
        config_file_time(section, "delay-warning", 0, AGE_MAX_MS, d->warn_after_ms);
    uint64_t age_ms = class->age_max_ms != 0 ? class->age_max_ms : d->age_max_ms;
    if (class->warn_after_ms == 0 || class->warn_after_ms < age_ms)
        return;
    if (config_file_given(section, "delay-warning"))
        config_file_error(section, "delay-warning", 0,
                          "is not before age-max; lower it, or write 0");
    class->warn_after_ms = 0; /* it bounces before delivery's warning would be due */
}

static void class_build(struct config_builder *builder, const struct config_section *section,
                        struct class_section *out)
{
    const struct config_retry *retry = &builder->config->delivery.retry;
    struct mail_class *class = &out->class;
    if (config_title_check(section) && strlen(section->title) > CLASS_NAME_MAX)
        config_file_error(section, "", 0, "the name of a class has %d octets at most; shorten it",
                          CLASS_NAME_MAX);
    snprintf(class->name, sizeof(class->name), "%s", section->title);
    out->line = section->line;
    class->lane = (uint8_t)config_file_choice(section, "priority", priorities, LANE_NORMAL);
    class->retry_initial_ms =
        (uint32_t)config_file_time(section, "retry-initial", SECOND_MS, DAY_MS, retry->initial_ms);
    class->retry_max_ms =
        (uint32_t)config_file_time(section, "retry-max", SECOND_MS, RETRY_MAX_MS, retry->max_ms);
    class->retry_factor_percent =
        config_file_hundredths(section, "retry-factor", 100, 1'000, retry->factor_percent);
    class->retry_jitter_percent = retry->jitter_percent;
    if (class->retry_max_ms < class->retry_initial_ms)
        config_file_error(section,
                          config_file_given(section, "retry-max") ? "retry-max" : "retry-initial",
                          0, "retry-max is below retry-initial; raise it, or lower retry-initial");
    ages_build(builder, section, class);
    out->senders = config_domains(builder, section, "sender-domains");
    out->recipients = config_domains(builder, section, "recipient-domains");
}

static int class_order(const void *left, const void *right)
{
    const struct class_section *a = left, *b = right;
    return a->cost != b->cost ? (a->cost > b->cost) - (a->cost < b->cost)
                              : strcmp(a->class.name, b->class.name);
}

void config_build_classes(struct config_builder *builder)
{
    const struct config_delivery *d = &builder->config->delivery;
    struct class_set *set = &builder->config->classes;
    set->without = (struct mail_class) {
        .lane = LANE_NORMAL,
        .age_max_ms = d->age_max_ms,
        .warn_after_ms = d->warn_after_ms,
        .retry_initial_ms = d->retry.initial_ms,
        .retry_max_ms = d->retry.max_ms,
        .retry_factor_percent = d->retry.factor_percent,
        .retry_jitter_percent = d->retry.jitter_percent,
    };
    unsigned count = config_sections(builder, "class", CLASSES_MAX - 1,
                                     "classes; join those that are treated alike");
    struct class_section *sections = config_take(builder, count, sizeof(*sections));
    if (sections == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section = config_file_section(builder->file, "class", i);
        sections[i].cost = config_connector_cost(&section);
        class_build(builder, &section, &sections[i]);
        set->has_urgent = set->has_urgent || sections[i].class.lane == LANE_URGENT;
    }
    if (count > 0)
        qsort(sections, count, sizeof(*sections), class_order);
    set->sections = sections;
    set->count = count;
}
